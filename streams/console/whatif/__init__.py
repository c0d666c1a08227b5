"""Questions to the engine on a reconstructed state: why a user has a licence, and what if.

Imports ``read_model`` and the engine; nothing is written or sent.
"""
