"""Fingerprints of applied events, by which repetitions are recognised (R24)."""

from __future__ import annotations

from typing import Final

from engine.native import load_extension

WINDOW_EVENTS: Final = 64
"""Number of events that each object remembers."""
FINGERPRINT_BYTES: Final = 8
PRIME: Final = 0xC90FDAA22168C241
"""A 64-bit prime without a pattern: the first digits of pi, and on to the next prime."""

_native: Final = load_extension("engine.native.deduplication")
if _native is not None:
    _native.configure(PRIME, FINGERPRINT_BYTES, WINDOW_EVENTS)


def fingerprint(kind: str, event_id: str, source: str) -> bytes:
    """Returns the 8-byte Rabin–Karp fingerprint of an event.

    It is the same in every process and build, since it is persisted: the text as a big-endian
    number, modulo :data:`PRIME`.
    """
    text = f"{kind}\n{event_id}\n{source}"
    return (int.from_bytes(text.encode(), "big") % PRIME).to_bytes(FINGERPRINT_BYTES, "big")


def check_and_add(seen: bytes, kind: str, event_id: str, source: str) -> bytes | None:
    """Adds an event to an object's fingerprints; returns None if it is a repetition (R24).

    ``seen`` holds the fingerprints of the last 64 events applied to the object, oldest first.
    """
    if _native is not None:
        added = _native.check_and_add(seen, kind, event_id, source)
        if added is not NotImplemented:
            return added  # type: ignore[no-any-return]
    new = fingerprint(kind, event_id, source)
    at = seen.find(new)
    while at >= 0 and at % FINGERPRINT_BYTES:
        at = seen.find(new, at + 1)
    return None if at >= 0 else seen[-(WINDOW_EVENTS - 1) * FINGERPRINT_BYTES :] + new
