"""Proxy addresses in the form in which they are compared (R18)."""

from __future__ import annotations

import string
from typing import Final

_LOWER: Final = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def lower_ascii(text: str) -> str:
    """Returns a text with its ASCII letters in lower case, and all others as they are.

    ``str.lower`` makes ASCII letters of others (of the Kelvin sign a ``k``): two names, one key.
    """
    return text.lower() if text.isascii() else text.translate(_LOWER)


def normalize_proxy_address(address: str) -> str:
    """Normalizes a proxy address: lower case, with ``smtp:`` before it if no type is given."""
    lowered = lower_ascii(address)
    return lowered if ":" in lowered else f"smtp:{lowered}"
