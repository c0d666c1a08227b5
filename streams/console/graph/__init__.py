"""Microsoft Graph's own calls, under /v1.0 and /beta: what Graph's clients send is answered here.

Nothing that a client sends is ignored: a parameter, property or member that is unknown is refused.
Imports ``api.dependencies``, ``read_model``, ``commands`` and ``security``; nothing imports it but
``app`` and the generated reference.
"""
