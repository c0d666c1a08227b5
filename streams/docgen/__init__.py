"""Generates the reference pages, schemas and AsyncAPI from the tables in the code.

A development tool: may import everything, nothing imports it.
"""
