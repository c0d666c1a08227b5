"""The HTTP API under /v1, in the shapes of Microsoft Graph.

Routers share ``dependencies`` and import nothing of each other.
"""
