"""What the console and the receiver share as HTTP servers: bounds for connections and requests.

Imports ``runtime`` only, and uvicorn, which workers do not need.
"""
