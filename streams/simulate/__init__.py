"""Dry runs: events on the engine itself, without Kafka, and what would follow from them."""

from streams.simulate.findings import Findings, compare
from streams.simulate.machine import Simulation

__all__ = ["Findings", "Simulation", "compare"]
