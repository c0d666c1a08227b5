"""Kafka as Seatflow uses it: clients, producers, topics, the changelog, the group, and Faust.

``faust_adapter`` is the one package that uses private names of the libraries. May import
``streams.contract`` and ``streams.runtime``. Import the modules themselves.
"""
