"""Fingerprints of the events that an object has applied, by which repetitions are found (R24)."""

from __future__ import annotations

from typing import Final

from engine.native import short_cut

REMEMBERED: Final = 64
WIDTH: Final = 8
# A prime of 64 bits without a pattern: the first digits of pi, and on to the next prime.
PRIME: Final = 0xC90FDAA22168C241

_marks: Final = short_cut("engine.native.deduplication")
if _marks is not None:
    _marks.configure(PRIME, WIDTH, REMEMBERED)


def mark_of(kind: str, event_id: str, source: str) -> bytes:
    """Eight bytes that stand for one event of one source, equal in every process: what is left of
    its text, as a number, when divided by a prime (Karp and Rabin)."""
    text = f"{kind}\n{event_id}\n{source}"
    return (int.from_bytes(text.encode(), "big") % PRIME).to_bytes(WIDTH, "big")


def remember(seen: bytes, kind: str, event_id: str, source: str) -> bytes | None:
    """R24: ``seen`` with the event, or None if it is among the last 64 applied to this object."""
    if _marks is not None:
        remembered = _marks.remember(seen, kind, event_id, source)
        if remembered is not NotImplemented:
            return remembered  # type: ignore[no-any-return]
    mark = mark_of(kind, event_id, source)
    at = seen.find(mark)
    while at >= 0 and at % WIDTH:
        at = seen.find(mark, at + 1)
    return None if at >= 0 else seen[-(REMEMBERED - 1) * WIDTH :] + mark
