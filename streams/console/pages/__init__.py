"""The server-rendered web pages, their sessions and their live overview.

Imports every other package of the console.
"""
