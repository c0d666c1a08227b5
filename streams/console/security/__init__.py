"""Tokens, sessions and the middleware in front of every request.

Imports ``http_server`` and ``runtime`` only.
"""
