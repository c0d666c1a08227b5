"""Modules that are there compiled only, and do faster what others do too."""

from __future__ import annotations

import importlib
from typing import Any


def short_cut(name: str) -> Any:
    """The module, or None where it is not compiled."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return None
