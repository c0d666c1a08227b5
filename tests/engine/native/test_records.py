"""The compiled short cut writes records as the plain functions do, byte for byte."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.documents import user_documents
from engine.documents.user_documents import ChangeAuditFields, StateTemplate, UserLicensesFields
from engine.rules.outcome import EMPTY_OUTCOME
from engine.state.user_row_codecs import encode_plain_user, encode_user

pytestmark = pytest.mark.skipif(
    user_documents._native is None, reason="the short cut is there compiled only: make compile"
)

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.text(
    '"\\\n\r\t\b\f\0\x1f\x7f/ aä€😀', max_size=30
)
id = st.text("abXY09._:@-", min_size=1, max_size=2) | st.text(
    "abXY09._:@-", min_size=3, max_size=12
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | text,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(text, inner, max_size=3)
    ),
    max_leaves=8,
)
moment = st.sampled_from(["2026-11-24T08:00:00.000Z", "1970-01-01T00:00:00.001Z"])
ASSIGNED = '[{"skuId":"E3","disabledPlans":["Yammer ü"]}]'


@st.composite
def states(draw: st.DrawFn) -> tuple[Any, ...]:
    """Parts of a state: forms of the states in their order, paths, sinces."""
    paths = tuple(draw(st.lists(id, max_size=3, unique=True)))
    slots = draw(st.lists(st.tuples(id, st.integers(0, len(paths))), max_size=5, unique=True))
    forms = [
        StateTemplate(s, f'{{"skuId":"{sku}","assignedByGroup":', ',"sinceß":"')
        for sku, s in sorted(slots)
    ]
    every = st.lists(moment, min_size=len(forms), max_size=len(forms))
    return forms, paths, draw(st.none() | every)


@given(
    st.tuples(id, id, *[st.none() | text] * 4, st.lists(text, max_size=3).map(tuple)),
    states(),
    st.integers(1, 1 << 40),
    moment,
    text,
)
def test_a_state(facts: Any, states: Any, revision: int, now: str, cause: str) -> None:
    every = (*facts, ASSIGNED, *states, revision, now, cause, False)
    plain = user_documents.write_user_licenses(UserLicensesFields(*every))
    assert user_documents._native.user_licenses(UserLicensesFields(*every)) == plain
    read = orjson.loads(plain)
    names = ("usageLocation", "effectiveUsageLocation", "mail", "mailNickname")
    assert tuple(read[name] for name in names) == facts[2:6]
    assert (tuple(read["proxyAddresses"]), read["causedBy"]) == (facts[6], cause)


@given(id, id, st.sampled_from(["[]", ASSIGNED]), text, st.booleans(), moment, text)
def test_an_audit(
    tenant: str, user: str, after: str, why: str, failed: bool, now: str, cause: str
) -> None:
    every = (tenant, user, "[]", after, why, failed, now, cause)
    plain = user_documents.write_change_audit(ChangeAuditFields(*every))
    assert user_documents._native.change_audit(ChangeAuditFields(*every)) == plain
    read = orjson.loads(plain)
    assert (read["resultReason"], read["causedBy"]) == (why, cause)


def test_long_ones_and_short_ones_in_turns() -> None:
    for size in (10, 100_000, 3, 1_000_000, 0):
        every: Any = (
            "t",
            "u",
            None,
            None,
            '"' * size,
            None,
            (),
            "[]",
            [],
            (),
            None,
            1,
            "now",
            "ü" * size,
            True,
        )
        assert user_documents._native.user_licenses(
            UserLicensesFields(*every)
        ) == user_documents.write_user_licenses(UserLicensesFields(*every))


def test_what_cannot_be_written_is_refused_and_leaves_nothing_behind() -> None:
    every: Any = (
        "t",
        "u",
        None,
        None,
        "\ud800",
        None,
        (),
        "[]",
        [],
        (),
        None,
        1,
        "now",
        "cause",
        True,
    )
    with pytest.raises(UnicodeEncodeError):
        user_documents.write_user_licenses(UserLicensesFields(*every))
    with pytest.raises(UnicodeEncodeError):
        user_documents._native.user_licenses(UserLicensesFields(*every))
    good = (*every[:4], "fine", *every[5:])
    assert user_documents._native.user_licenses(
        UserLicensesFields(*good)
    ) == user_documents.write_user_licenses(UserLicensesFields(*good))


def test_more_states_than_fit_are_left_to_the_plain_function() -> None:
    many = [
        StateTemplate(0, f'{{"skuId":"{n}","assignedByGroup":', ',"since":"') for n in range(300)
    ]
    every = ("t", "u", None, None, None, None, (), "[]", many, (), None, 1, "now", "cause", True)
    assert user_documents._native.user_licenses(UserLicensesFields(*every)) is None


@given(
    st.booleans(),
    st.tuples(st.none() | text, st.none() | text, st.none() | text),
    st.lists(text, max_size=3).map(tuple),
    st.none() | st.just({"derivedClaims": True}) | st.dictionaries(text, json_values, max_size=2),
    st.lists(id, max_size=3, unique=True).map(tuple),
    st.lists(id, max_size=3, unique=True).map(tuple),
    st.tuples(st.binary(max_size=30), st.binary(max_size=30)),
    st.integers(0, 1 << 41) | st.lists(st.integers(0, 1 << 41), max_size=3).map(tuple),
    st.integers(-(1 << 40), 1 << 40),
    st.none() | st.tuples(st.none() | st.lists(text, max_size=2), json_values),
)
def test_a_row(
    known: bool,
    facts: tuple[str | None, str | None, str | None],
    addresses: tuple[str, ...],
    optional_facts: dict[str, Any] | None,
    groups: tuple[str, ...],
    paths: tuple[str, ...],
    marks: tuple[bytes, bytes],
    sinces: int | tuple[int, ...],
    revision: int,
    pending: tuple[Any, ...] | None,
) -> None:
    since, seen = marks
    fields: tuple[Any, ...] = (
        known, *facts, addresses, groups, since, paths, EMPTY_OUTCOME, sinces, revision, seen,
        pending, optional_facts,
    )  # fmt: skip
    written = encode_user(*fields)
    assert type(written) is bytes
    assert written == orjson.dumps(encode_plain_user(*fields))


def test_what_is_no_json_is_refused() -> None:
    fields = (True, None, None, None, (), (), b"", (), EMPTY_OUTCOME, 0, 0, b"", ({1},), None)
    with pytest.raises(TypeError, match="not a value of a row"):
        encode_user(*fields)
