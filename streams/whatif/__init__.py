"""The what-if engine: events applied to a state in memory, and the state before and after compared.

Its callers bring the state: ``simulate`` as events of a snapshot, ``console`` as rows made from its
read model. May import ``contract`` and the engine; reads no clock: the time is an input.
"""

from streams.whatif.comparison import Baseline, SeatFigures, UserChange, take_baseline
from streams.whatif.simulation import Simulation

__all__ = ["Baseline", "SeatFigures", "Simulation", "UserChange", "take_baseline"]
