"""A local Apache Kafka for development, the demo, benchmarks and tests: jars, process, ports.

May import ``runtime``. Not used by workers.
"""
