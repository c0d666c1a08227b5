"""Proxy addresses in the form in which they are compared (R18)."""

from __future__ import annotations


def normalize_proxy_address(address: str) -> str:
    """Normalizes a proxy address: lower case, with ``smtp:`` before it if no type is given."""
    lowered = address.lower()
    return lowered if ":" in lowered else f"smtp:{lowered}"
