"""Dry runs: events applied to the engine in memory, without Kafka, and a report of the effects.

May import ``ingest``, ``kafka`` (to read a snapshot) and the engine.
"""

from streams.simulate.comparison import Findings, compare
from streams.simulate.in_memory import Simulation

__all__ = ["Findings", "Simulation", "compare"]
