"""Dry runs: events applied to the engine in memory, without Kafka, and a report of the effects.

May import ``whatif`` (the engine in memory), ``ingest``, ``kafka`` (to read a snapshot) and the
engine.
"""

from streams.simulate.comparison import Findings, compare
from streams.simulate.feed import run_feed

__all__ = ["Findings", "compare", "run_feed"]
