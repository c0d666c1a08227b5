"""The worker: partitions that fence, restore, process and commit, as the group assigns them.

``agents`` shows the shape, ``partition_state`` the life of a partition. May import
``streams.metrics``, ``streams.kafka``, ``streams.contract`` and ``streams.runtime``.
"""
