"""``$filter``: its grammar, and that the database finds what a plain reading of the filter does."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.console.graph import listings
from streams.console.graph.conditions import Compiler
from streams.console.graph.errors import GraphError
from streams.console.graph.filter_syntax import (
    MOST_CHARACTERS,
    MOST_COMPARISONS,
    MOST_DEPTH,
    And,
    Compare,
    Node,
    Not,
    Or,
    parse_filter,
)
from streams.console.graph.options import Options
from streams.console.graph.properties import GROUPS, USERS, Property
from streams.console.graph.views import view
from tests.streams.console.conftest import Console, _console
from tests.streams.console.graph import evaluator
from tests.support.system import Events

SKU = "6FD2C87F-b296-42f0-b197-1e91e994b900"
PEOPLE = (
    {"displayName": "Ann Smith", "userPrincipalName": "Ann@contoso.example", "usageLocation": "US"},
    {
        "displayName": "ann",
        "userPrincipalName": None,
        "usageLocation": "DE",
        "mail": "ANN@x.example",
    },
    {"displayName": None, "userPrincipalName": "élan@contoso.example", "usageLocation": None},
    {"displayName": "Élodie 'E' O''Neil %_\\", "userPrincipalName": "e@contoso.example"},
    {"displayName": "", "userPrincipalName": "ÉLAN@contoso.example", "mailNickname": "elan"},
)


Found = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """Users with and without names, locations and licences, and groups with and without errors."""
    for made in _console(tmp_path_factory.mktemp("filter")):
        make, publish = Events(run="f"), made.world.publish
        publish([make.product(sku) for sku in ("e3", SKU.lower(), "E3")])
        publish([make.seats("e3", 2), make.seats(SKU.lower(), 9), make.seats("E3", 1)])
        publish([make.license("g1", "e3"), make.license("g2", "E3"), make.license("g3", "e3")])
        for i in range(15):
            publish([make.user(f"u{i}", **PEOPLE[i % len(PEOPLE)])])
            publish([make.join(f"u{i}", f"g{i % 4}")])
        publish([make.join("unknown", "g1")])
        yield made


@pytest.fixture(scope="module")
def everything(console: Console) -> Found:
    """All users and groups as they are shown."""
    found = {}
    for source in (listings.users("contoso"), listings.groups("contoso")):
        db = console.service.store.read_connection()
        rows, following = listings.page(db, source, Options({}))
        assert following is None
        found[source.path] = [view(source.kind, row) for row in rows]
    return found


def check(console: Console, everything: Found, source: listings.Source, node: Node) -> None:
    text = evaluator.spelled(node)
    read = parse_filter(text)
    assert evaluator.spelled(read) == text
    where = Compiler(source.kind, "contoso").compile(read)
    db = console.service.store.read_connection()
    rows, _ = listings.page(db, source, Options({}, where=where))
    found = [view(source.kind, row)["id"] for row in rows]
    expected = [each["id"] for each in everything[source.path] if evaluator.holds(node, each)]
    assert found == expected, text
    assert listings.count(db, source, where) == len(expected)


def test_users_are_found_as_by_a_plain_reading(console: Console, everything: Found) -> None:
    """By any filter: names that are absent, case, quotes, lists that are empty."""
    source = listings.users("contoso")
    assert len(everything["users"]) == 15
    texts = (n for n, p in USERS.filtered.items() if isinstance(p, Property))
    lists = {"proxyAddresses": (), "assignedLicenses": ("skuId",),
             "licenseAssignmentStates": ("skuId", "assignedByGroup", "state", "error")}  # fmt: skip
    nodes = evaluator.filters(everything["users"], tuple(texts), lists)

    @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
    @given(nodes)
    def found(node: Node) -> None:
        check(console, everything, source, node)

    found()


def test_groups_are_found_as_by_a_plain_reading(console: Console, everything: Found) -> None:
    """With flags and constants, too."""
    source = listings.groups("contoso")
    flags = ("hasMembersWithLicenseErrors", "securityEnabled", "mailEnabled")
    paths = st.sampled_from([(flag,) for flag in flags])
    flag = st.builds(Compare, paths, evaluator.EQUALITY, st.booleans())
    texts = ("id", "displayName", "licenseProcessingState/state")
    lists = {"assignedLicenses": ("skuId",), "groupTypes": ()}
    others = evaluator.filters(everything["groups"], texts, lists)

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(evaluator.combined(st.one_of(flag, others)))
    def found(node: Node) -> None:
        check(console, everything, source, node)

    found()


def test_not_binds_most_and_or_least() -> None:
    """As in OData."""
    a, b, c = (Compare((name,), "eq", 1) for name in "abc")
    assert parse_filter("a eq 1 or b eq 1 and c eq 1") == Or((a, And((b, c))))
    assert parse_filter("not a eq 1 and b eq 1") == And((Not(a), b))
    assert parse_filter("(a eq 1 or b eq 1) and c eq 1") == And((Or((a, b)), c))
    assert parse_filter("A EQ 1") == Compare(("A",), "eq", 1)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "expected a property"),
        ("displayName", "expected one of eq"),
        ("displayName eq", "expected a value"),
        ("displayName eq 'Ann", "character 16"),
        ("displayName eq Ann", "text is in single quotes"),
        ("displayName eq 'a' 'b'", "expected and, or"),
        ("displayName like 'a'", "expected one of eq"),
        ("(displayName eq 'a'", "its end"),
        ("contains(displayName,'a')", "startswith, endswith"),
        ("startswith(displayName,1)", "text in single quotes"),
        ("assignedLicenses/all(x:x/skuId eq 'a')", "use not"),
        ("assignedLicenses eq 'a'", "assignedLicenses/any"),
        ("displayName/any(x:x eq 'a')", "is no list"),
        ("assignedLicenses/any(x:y/skuId eq 'a')", "must begin with its variable"),
        ("assignedLicenses/any(x:x/plans eq 'a')", "x/skuId"),
        ("assignedLicenses/any(x:assignedLicenses/any(y:y/skuId eq 'a'))", "within any"),
        ("assignedLicenses/$count eq 'a'", "expected a number"),
        ("assignedLicenses/$count eq 99999999999999999999", "smaller number"),
        ("displayName eq 1", "compared with text, not with 1"),
        ("displayName gt null", "eq or ne"),
        ("department eq 'Sales'", "no property 'department' of users; there are id"),
        ("displayName eq 'a\0'", "NUL"),
        ("displayName; DROP TABLE users", "character 12"),
        ("not " * (MOST_DEPTH + 2) + "displayName eq 'a'", f"more than {MOST_DEPTH} deep"),
        ("(" * 1_000 + "displayName eq 'a'" + ")" * 1_000, f"more than {MOST_DEPTH} deep"),
        ("x" * (MOST_CHARACTERS + 1), "characters"),
        (" or ".join(["id eq ''"] * (MOST_COMPARISONS + 1)), f"more than {MOST_COMPARISONS}"),
        ("id in (" + ",".join(["''"] * (MOST_COMPARISONS + 2)) + ")", f"than {MOST_COMPARISONS}"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_sentence(text: str, says: str) -> None:
    """400, never a guess."""
    with pytest.raises(GraphError, match="filter") as error:
        Compiler(USERS, "t").compile(parse_filter(text))
    assert says in str(error.value)
    assert error.value.status == 400


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60) | st.text("()'/:, aeinoqrtxy$", max_size=60))
def test_no_text_breaks_the_parser(text: str) -> None:
    """It is a filter, or an error of the caller."""
    for kind in (USERS, GROUPS):
        with contextlib.suppress(GraphError):
            Compiler(kind, "t").compile(parse_filter(text))


def test_the_longest_filter_is_answered(console: Console) -> None:
    """The bounds of the parser are below those of the database."""
    text = " or ".join(["id eq 'u1'"] * MOST_COMPARISONS)
    deep = "not (" * (MOST_DEPTH // 2) + text + ")" * (MOST_DEPTH // 2)
    answer = console.client.get("/contoso/v1.0/users/$count", params={"$filter": deep})
    assert (answer.status_code, answer.text) == (200, "1")
