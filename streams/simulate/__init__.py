"""Dry runs: events on the engine itself, without Kafka, and what would follow from them."""

from streams.simulate.comparison import Findings, compare
from streams.simulate.in_memory import Simulation

__all__ = ["Findings", "Simulation", "compare"]
