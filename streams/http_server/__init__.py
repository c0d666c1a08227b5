"""The common part of the console and the receiver as HTTP servers: bounds for their callers.

Imports ``runtime`` only, and uvicorn, which workers do not need.
"""
