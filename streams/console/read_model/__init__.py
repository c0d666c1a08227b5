"""The SQLite read model: the projector that writes it, the queries that read it.

Imports ``contract``, ``http_server``, ``kafka`` and ``runtime``; no other package of the console.
"""
