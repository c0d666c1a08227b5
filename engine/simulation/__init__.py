"""The parts of the simulator: tenants, the broker, workers and their faults, what must hold.

See :mod:`engine.simulation.runner`.
"""
