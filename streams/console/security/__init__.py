"""Tokens, sessions and the middleware in front of every request.

Imports ``runtime`` only.
"""
