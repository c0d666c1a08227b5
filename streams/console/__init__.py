"""The web console and HTTP API over the published topics, in one process.

``read_model`` projects topics into SQLite; ``whatif`` asks the engine; ``commands`` sends events;
``security`` guards requests; ``api`` and ``pages`` serve them. May import every package of streams
below it, and is imported by the command line alone, since it needs the extra ``console``.
"""
