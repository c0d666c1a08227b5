"""Executable examples of the licensing rules, and the language in which they are written.

The files are numbered YAML documents; README.md describes their format. `language.py` turns steps
into input events, `expectations.py` compares what was published, `over_kafka.py` plays them against
a running system. Nothing here imports the product, its sample of the product catalog apart.
"""
