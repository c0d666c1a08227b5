"""The console: what the published topics tell, as an HTTP API and web pages (architecture, 5).

One process: ``follower`` reads topics into an SQLite file (``store``, ``apply``), ``queries`` reads
it, ``api`` and ``pages`` serve it, and ``commands`` produces what an operator wants done.
"""
