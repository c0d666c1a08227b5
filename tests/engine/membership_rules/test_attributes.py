"""The attributes that a partition keeps: patches, sharing, and the memory that a user takes."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from engine.membership_rules.attributes import AttributeTable, as_dict, as_json, value_of

BYTES_PER_USER = 400
USERS = 20_000

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
values = texts | st.lists(texts, min_size=1, max_size=3).map(tuple)
names = st.sampled_from("abcde")


@given(st.lists(st.lists(st.tuples(names, st.none() | values), max_size=4).map(tuple), max_size=5))
def test_patches_make_what_they_make_of_a_dictionary(patches: list[tuple[Any, ...]]) -> None:
    table, attributes = AttributeTable(), table_free()
    expected: dict[str, Any] = {}
    for patch in patches:
        before = dict(expected)
        expected |= dict(patch)
        expected = {name: value for name, value in expected.items() if value is not None}
        attributes, changed = table.patch(attributes, tuple(dict(patch).items()))
        differ = {n for n in "abcde" if before.get(n) != expected.get(n)}
        assert set(changed) == differ
        assert as_dict(attributes) == expected
        assert {n: value_of(attributes, n) for n in "abcde"} == dict.fromkeys("abcde") | expected
    assert json.loads(as_json(attributes)) == json.loads(json.dumps(expected))
    assert table.of(expected)[1:] == attributes[1:]


def table_free() -> tuple[Any, ...]:
    """A user without attributes."""
    return ()


def test_users_with_the_same_names_share_them() -> None:
    table = AttributeTable()
    one, other = table.of({"a": "x", "b": "y"}), table.of({"b": "z", "a": "".join(["x"])})
    assert one[0] is other[0]
    assert one[1] is other[1]


def test_a_user_with_ten_attributes_takes_at_most_400_bytes() -> None:
    """As an HR system has them: three are the user's own, the others shared with many."""
    table = AttributeTable()
    facts = [
        {
            **{f"shared{i}": f"value {n % (20 * i + 10)} of {i}" for i in range(7)},
            "employeeid": f"{n:08d}",
            "displayname": f"Some Person {n:06d}",
            "telephonenumber": f"+1 555 {n:07d}",
        }
        for n in range(USERS)
    ]
    rows = [json.dumps(some) for some in facts]
    del facts
    table.of({"warm": "up"})
    tracemalloc.start()
    kept = [table.of(json.loads(row)) for row in rows]
    table._values.clear()  # the table of shared values is bounded, and is not the users'
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(kept) == USERS
    assert size / USERS < BYTES_PER_USER, f"{size / USERS:.0f} bytes"
