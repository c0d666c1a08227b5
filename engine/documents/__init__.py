"""Builds the records of the output topics that describe users, audit events and results.

Publishes nothing itself. Imports ``engine.state`` and the layers below.
"""
