"""The licensing engine: pure and deterministic, without I/O, clock or randomness.

``PartitionMachine`` is the entrance: batches of input events go in, ``Effects`` come out.
Imports the standard library only; docs/architecture.md describes the layers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.domain import events
    from engine.domain.effects import Effects
    from engine.metrics import MetricsSnapshot, snapshot
    from engine.partition_machine import BatchResult, PartitionMachine

__all__ = ["BatchResult", "Effects", "MetricsSnapshot", "PartitionMachine", "events", "snapshot"]

_HOMES = {
    "BatchResult": "engine.partition_machine",
    "Effects": "engine.domain.effects",
    "MetricsSnapshot": "engine.metrics",
    "PartitionMachine": "engine.partition_machine",
    "events": "engine.domain.events",
    "snapshot": "engine.metrics",
}


def __getattr__(name: str) -> Any:
    """Imports a public name on first use: most importers need one low layer only."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(home)
    return module if name == "events" else getattr(module, name)
