"""R24: what an object remembers of the events that were applied to it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain import deduplication
from engine.domain.deduplication import FINGERPRINT_BYTES, WINDOW_EVENTS, check_and_add, fingerprint

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def after(*ids: str, seen: bytes = b"") -> bytes:
    for id in ids:
        remembered = check_and_add(seen, "UserDeleted", id, "")
        assert remembered is not None, id
        seen = remembered
    return seen


def test_an_event_is_known_until_64_more_have_come() -> None:
    seen = after("first", *(f"e{n}" for n in range(WINDOW_EVENTS - 1)))
    assert check_and_add(seen, "UserDeleted", "first", "") is None
    seen = after("one more", seen=seen)
    assert len(seen) == WINDOW_EVENTS * FINGERPRINT_BYTES
    assert check_and_add(seen, "UserDeleted", "first", "") is not None
    assert check_and_add(seen, "UserDeleted", "e0", "") is None


def test_type_id_and_source_tell_events_apart() -> None:
    seen = after("e1")
    assert check_and_add(seen, "UserDeleted", "e1", "") is None
    assert check_and_add(seen, "UserUpserted", "e1", "") is not None
    assert check_and_add(seen, "UserDeleted", "e2", "") is not None
    assert check_and_add(seen, "UserDeleted", "e1", "hr") is not None


def test_marks_are_the_same_everywhere() -> None:
    """They are in changelogs: with others, repetitions would be taken for new events."""
    assert fingerprint("MembershipAdded", "e-1", "").hex() == "9e5ec0d11e927ab6"
    assert fingerprint("MembershipAdded", "e-1", "hr").hex() == "7fffc279d314edce"


def test_what_is_across_two_marks_is_none() -> None:
    new = fingerprint("UserDeleted", "e1", "")
    seen = b"\0" * 4 + new + b"\0" * 4
    assert check_and_add(seen, "UserDeleted", "e1", "") == seen + new


def test_ids_that_follow_each_other_do_not_collide() -> None:
    ids = [f"{prefix}{n}" for prefix in ("m-", "m-0", "2026-11-24T08:00:") for n in range(20_000)]
    assert len({fingerprint("MembershipAdded", id, "") for id in ids}) == len(ids)


@pytest.mark.skipif(deduplication._native is None, reason="the short cut is there compiled only")
@given(text, text | st.text("ä€", min_size=200, max_size=300), text, st.integers(0, 70))
def test_the_short_cut_does_the_same(kind: str, event: str, source: str, known: int) -> None:
    seen = b"".join(fingerprint("k", str(n), "") for n in range(known))
    for before in (seen, seen + fingerprint(kind, event, source)):
        short = deduplication._native.check_and_add(before, kind, event, source)
        if short is not NotImplemented:
            assert short == plainly(before, kind, event, source)
        assert check_and_add(before, kind, event, source) == plainly(before, kind, event, source)


def plainly(seen: bytes, kind: str, event: str, source: str) -> bytes | None:
    new = fingerprint(kind, event, source)
    marks = [seen[at : at + FINGERPRINT_BYTES] for at in range(0, len(seen), FINGERPRINT_BYTES)]
    return None if new in marks else b"".join([*marks[-WINDOW_EVENTS + 1 :], new])
