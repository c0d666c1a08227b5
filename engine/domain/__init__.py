"""The facts that everything else speaks of: input events, products, entries, effects, vocabulary.

Pure values and functions without I/O or clock. Imports the standard library and ``engine.native``.
"""
