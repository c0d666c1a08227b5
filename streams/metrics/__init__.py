"""The metrics of a worker: their table, their collection, and the HTTP endpoint.

May import ``streams.kafka``, ``streams.contract``, ``streams.runtime``, and metrics of ``engine``.
"""
