"""Cython modules that do the most frequent work faster; optional, with plain code beside each.

They are compiled by ``make compile``. They import nothing of the engine.
"""

from __future__ import annotations

import importlib
from typing import Any


def load_extension(name: str) -> Any:
    """Returns the extension module, or None if it is not compiled."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return None
