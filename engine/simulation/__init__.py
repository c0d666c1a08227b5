"""The simulator: random tenants, an in-memory broker, workers with faults, and the invariants.

Start at :mod:`engine.simulation.runner`. May import every other package of the engine.
"""
