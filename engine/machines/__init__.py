"""The five state machines of a partition: users, groups, products, addresses and the catalog.

They turn input events and internal messages into rows and records. May import ``engine.documents``
and the layers below; :mod:`engine.partition_machine` puts the machines together.
"""
