"""Operators' commands: their definitions (pure), the dispatcher that sends them, their outcome.

Imports ``read_model``, ``contract``, ``kafka`` and ``runtime``; knows nothing of HTTP.
"""
