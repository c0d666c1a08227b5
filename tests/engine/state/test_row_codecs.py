"""Rows of every table: what is encoded is decoded again, as it comes back from JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from engine.domain import events as ev
from engine.domain.effects import as_json
from engine.domain.events import CODES
from engine.domain.model import Entry, Product, ServicePlan, Tenant
from engine.rules.outcome import AssignmentProblem, ErrorReason, Outcome
from engine.state import row_codecs as codecs
from engine.state import seat_row_codecs
from engine.state import user_row_codecs as user_codecs
from engine.state.row_codecs import (
    AddressClaimRow,
    GroupRow,
    GroupStateRow,
    JobRow,
    PlanSetRow,
    TenantSettingsRow,
)
from engine.state.seat_row_codecs import LeaseRow, PartitionLeaseRow, SeatBudgetRow
from engine.state.user_row_codecs import PendingWorkRow, SeatRequestRow

text = st.text(max_size=8)
id = st.from_regex(r"[a-z0-9._:@-]{1,6}", fullmatch=True)
ids = st.lists(id, max_size=3)
whole = st.integers(0, 1 << 45)
flag = st.booleans()
fingerprints = st.lists(st.binary(min_size=8, max_size=8), max_size=3).map(b"".join)
facts = st.none() | st.dictionaries(text, text, min_size=1, max_size=2)
units = st.none() | st.tuples(whole, whole, whole, whole)
licenses = st.dictionaries(id, ids, max_size=3)
pairs = st.lists(st.tuples(id, ids.map(tuple)), max_size=2).map(tuple)
changes = st.tuples(id, pairs, ids.map(tuple), whole).map(lambda change: json_of(list(change)))

partition_leases = st.builds(
    PartitionLeaseRow,
    *[whole] * 4,
    st.lists(st.tuples(whole, id), max_size=3),
    flag,
    flag,
    *[whole] * 3,
    flag,
    *[whole] * 4,
    facts,
)
ROWS: list[tuple[SearchStrategy[Any], Callable[[Any], Any], Callable[[Any], Any]]] = [
    (
        st.builds(TenantSettingsRow, st.none() | text, flag, flag, fingerprints, facts),
        codecs.encode_tenant_settings,
        codecs.decode_tenant_settings,
    ),
    (fingerprints, codecs.encode_fingerprints, codecs.decode_fingerprints),
    (st.builds(PlanSetRow, id, ids, ids), codecs.encode_plan_set, codecs.decode_plan_set),
    (
        st.builds(
            LeaseRow,
            *[whole] * 5,
            flag,
            *[whole] * 3,
            st.lists(whole, max_size=3).map(tuple),
            flag,
            facts,
        ),
        seat_row_codecs.encode_lease,
        seat_row_codecs.decode_lease,
    ),
    (
        st.builds(
            JobRow,
            id,
            id,
            id,
            *[whole] * 3,
            text,
            text,
            st.none() | st.tuples(whole, whole, text).map(list),
            facts,
        ),
        codecs.encode_job,
        codecs.decode_job,
    ),
    (
        st.builds(GroupRow, whole, licenses, flag, facts),
        lambda row: codecs.encode_group(*row),
        codecs.decode_group,
    ),
    (
        st.builds(
            GroupStateRow,
            st.none() | text,
            flag,
            licenses,
            whole,
            st.lists(changes, max_size=2),
            st.dictionaries(whole.map(str), st.lists(whole, max_size=3), max_size=2),
            st.lists(st.tuples(whole, text, id).map(list), max_size=2),
            st.none() | st.dictionaries(text, text, max_size=2),
            fingerprints,
            whole,
            text,
            facts,
        ),
        codecs.encode_group_state,
        codecs.decode_group_state,
    ),
    (
        st.builds(
            SeatBudgetRow,
            units,
            st.dictionaries(whole, partition_leases, max_size=2),
            flag,
            whole,
            st.lists(whole, max_size=3),
            st.dictionaries(whole, whole, max_size=2),
            fingerprints,
            whole,
            text,
            st.none() | st.lists(whole, max_size=3),
            units,
            flag,
            facts,
        ),
        seat_row_codecs.encode_seat_budget,
        seat_row_codecs.decode_seat_budget,
    ),
    (
        st.lists(st.builds(AddressClaimRow, whole, whole, id, whole, flag), max_size=3),
        codecs.encode_address_claims,
        codecs.decode_address_claims,
    ),
]
TABLES = (
    "tenant-settings", "catalogue", "plans", "leases", "jobs", "groups", "group-state", "seats",
    "addresses",
)  # fmt: skip


def json_of(row: Any) -> Any:
    """Returns the row as it is read back from the changelog."""
    return json.loads(as_json(row))


@pytest.mark.parametrize("codec", ROWS, ids=TABLES)
@given(data=st.data())
def test_a_row_is_read_back(codec: Any, data: st.DataObject) -> None:
    rows, encode, decode = codec
    row = data.draw(rows)
    assert decode(json_of(encode(row))) == row


@given(
    st.builds(
        ServicePlan,
        id,
        text,
        text,
        ids.map(tuple),
        st.lists(ids.map(tuple), max_size=2).map(tuple),
        ids.map(tuple),
        flag,
    )
)
def test_a_product_is_read_back(plan: ServicePlan) -> None:
    row = json_of(codecs.encode_product("sku", "PART", "Name", (plan,)))
    assert codecs.decode_product(row).same_as(Product("sku", "PART", "Name", [plan]))


@given(st.none() | text, flag, flag, facts | st.just({"initialDomain": "contoso.example"}))
def test_a_tenant_is_read_back(
    location: str | None, automatic: bool, convert: bool, facts: Any
) -> None:
    row = json_of(codecs.encode_tenant(location, automatic, convert, facts))
    domain = (facts or {}).get("initialDomain")
    assert codecs.decode_tenant(row) == Tenant(location, automatic, convert, domain)


# -- users
PRODUCT = Product("sku", "PART", "Name", [ServicePlan("a", "A"), ServicePlan("b", "B")])
requests = st.builds(SeatRequestRow, whole, whole, text, ids, ids, text, whole)
attributes = st.lists(
    st.tuples(id, st.none() | text | st.lists(text, max_size=2).map(tuple)), max_size=2
).map(tuple)
events: SearchStrategy[Any] = st.one_of(
    st.builds(
        ev.UserUpserted,
        id,
        id,
        id,
        *[st.just(ev.ABSENT) | st.none() | text] * 3,
        st.just(ev.ABSENT) | st.none() | st.lists(text, max_size=2).map(tuple),
        st.just(ev.ABSENT) | st.none() | text,
        st.just(ev.ABSENT) | st.none() | attributes,
    ),
    st.builds(ev.UserDeleted, id, id, id, flag),
    st.builds(
        ev.UserSnapshot,
        id,
        id,
        id,
        *[st.none() | text] * 3,
        st.lists(text, max_size=2).map(tuple),
        st.lists(st.tuples(id, st.none() | whole), max_size=2).map(tuple),
        st.lists(st.tuples(id, id, ids.map(tuple), st.none() | whole), max_size=2).map(tuple),
        st.none() | text,
        attributes,
    ),
    st.builds(ev.MembershipAdded, id, id, id, id),
    st.builds(ev.MembershipRemoved, id, id, id, id),
    st.builds(ev.MembershipIgnored, id, id, id, id, text),
    st.builds(ev.UserLicensesChanged, id, id, id, pairs, ids.map(tuple)),
    st.builds(ev.UserLicensesSet, id, id, id, pairs),
    st.builds(ev.UserReprocess, id, id, id),
)
pendings = st.builds(
    PendingWorkRow,
    st.none() | requests,
    st.none() | changes,
    st.lists(changes, max_size=2),
    st.lists(
        events.map(lambda event: json_of(user_codecs.encode_deferred_event(event, 5, 7))),
        max_size=2,
    ),
    whole,
    st.dictionaries(text, whole, max_size=2),
    st.dictionaries(text, id, max_size=2),
    st.none()
    | st.tuples(st.none() | text, st.none() | text, st.lists(text).map(tuple))
    | st.tuples(*[st.none() | text] * 2, st.lists(text).map(tuple), st.none() | text),
    st.none() | st.tuples(whole, text, flag),
)
outcomes = st.builds(
    Outcome,
    st.lists(
        st.builds(
            Entry,
            st.integers(0, 2),
            whole,
            st.sampled_from([(), ("a",), ("a", "b")]).map(PRODUCT.without),
            st.none() | ids.map(tuple),
        ),
        max_size=2,
    ).map(tuple),
    st.lists(
        st.builds(
            AssignmentProblem,
            id,
            st.integers(0, 2),
            st.sampled_from(["Error", "ActiveWithError"]),
            ids.map(tuple),
            st.builds(
                ErrorReason, id, st.just(()) | st.just((("missing", (("p", ("q",)),)),)), text
            ),
        ),
        max_size=2,
    ).map(tuple),
    st.just(()),
)


@given(
    st.tuples(flag, st.none() | text, st.none() | text, st.none() | text),
    st.lists(text, max_size=2).map(tuple),
    st.none() | text,
    st.tuples(ids.map(tuple), fingerprints, ids.map(tuple)),
    outcomes,
    st.tuples(whole | st.lists(whole, max_size=2).map(tuple), st.integers(-5, 5), fingerprints),
    st.none() | pendings,
    facts,
)
def test_a_user_is_read_back(
    first: Any,
    addresses: Any,
    primary: Any,
    groups: Any,
    outcome: Outcome,
    last: Any,
    pending: Any,
    facts: Any,
) -> None:
    fields = (*first, addresses, *groups, outcome, *last, pending, facts)
    row = json_of(user_codecs.encode_user(*fields))
    row[5] = True if primary is not None and primary == first[2] else primary  # as in format 1
    found = user_codecs.decode_user(row)
    entries = [
        user_codecs.EntryRow(e.path_index, e.admission_order, e.plans.key, e.disabled_plans)
        for e in outcome.entries
    ]
    assert user_codecs.decode_entries(found.entries) == entries
    assert tuple(map(user_codecs.decode_problem, found.problems)) == outcome.problems
    since, revision, seen = last
    assert found._replace(entries="", problems=[]) == (
        *first,
        list(addresses),
        primary,
        list(groups[0]),
        groups[1],
        list(groups[2]),
        "",
        [],
        list(since) if isinstance(since, tuple) else since,
        revision,
        seen,
        pending,
        facts,
    )


@given(events, whole, whole)
def test_a_deferred_event_is_read_back(event: Any, timestamp_ms: int, offset: int) -> None:
    row = json_of(user_codecs.encode_deferred_event(event, timestamp_ms, offset))
    assert user_codecs.decode_deferred_event(row) == (event, timestamp_ms, offset)


def test_every_event_type_has_a_code_of_its_own() -> None:
    """Codes are in fingerprints and rows that are on disk: this list may only grow."""
    assert {kind.__name__: code for kind, code in CODES.items()} == {
        "UserUpserted": "UserUpserted",
        "UserDeleted": "UserDeleted",
        "UserSnapshot": "UserSnapshot",
        "MembershipAdded": "MembershipAdded",
        "MembershipRemoved": "MembershipRemoved",
        "MembershipIgnored": "MembershipIgnored",
        "UserLicensesChanged": "UserLicensesChanged",
        "UserLicensesSet": "UserLicensesSet",
        "UserReprocess": "UserReprocess",
        "GroupUpserted": "GroupUpserted",
        "GroupDeleted": "GroupDeleted",
        "GroupLicensesChanged": "GroupLicensesChanged",
        "GroupLicensesSet": "GroupLicensesSet",
        "GroupReprocess": "GroupReprocess",
        "ProductDefined": "product",
        "SubscriptionUpdated": "subscription",
        "SubscriptionDeleted": "subscription-deleted",
        "TenantUpdated": "tenant",
    }
    assert set(CODES) == set(ev.InputEvent.__args__)
