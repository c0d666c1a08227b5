"""Histories that break one promise each: the example with something changed, lost or added."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests import checkers
from tests.checkers import Checker, Record
from tests.checkers.history_builder import latest, tampered, without

Json = dict[str, Any]
Change = Callable[[list[Record]], list[Record]]


def in_last(topic: str, key: str, change: Callable[[Json], object]) -> Change:
    return lambda records: tampered(records, topic, key, change)


def in_user(key: str, change: Callable[[Json], object]) -> Change:
    return in_last("user-licenses", key, change)


def dropping(topic: str, key: str | None = None) -> Change:
    return lambda records: without(records, topic, key)


def appending(topic: str, key: str | None, value: Any, **headers: str) -> Change:
    return lambda records: [*records, Record(topic, 0, 999, key, value, headers)]


def repeating(topic: str, key: str) -> Change:
    return lambda records: [*records, latest(records, topic, key)]


def saying(topic: str, key: str, change: Callable[[Json], object]) -> Change:
    """Publishes the last record of a key once more, with a change."""

    def with_one_more(records: list[Record]) -> list[Record]:
        document = json.loads(latest(records, topic, key).raw or b"null")
        change(document)
        return [*records, Record(topic, 0, 999, key, document)]

    return with_one_more


def with_address(*addresses: str) -> Callable[[Json], object]:
    return lambda document: document.update(proxyAddresses=addresses)


def deletion(user: str) -> Json:
    return {"type": "user.deleted", "id": f"gone-{user}", "tenant": "t", "user": user}


def state(sku: str, group: str | None, state: str, error: str = "None", off: Any = ()) -> Json:
    found = {"skuId": sku, "assignedByGroup": group, "disabledPlans": list(off)}
    return found | {"state": state, "error": error, "since": "1"}


def setting(position: int, **members: object) -> Callable[[Json], object]:
    """Changes one of the user's states, which are sorted by skuId, then group."""
    return lambda user: user["licenseAssignmentStates"][position].update(members)


def adding(new: Json) -> Callable[[Json], object]:
    return lambda user: user["licenseAssignmentStates"].append(new)


def losing(position: int) -> Callable[[Json], object]:
    return lambda user: user["licenseAssignmentStates"].pop(position)


def off(user: Json) -> list[str]:
    """The disabled plans of the first assigned licence."""
    plans: list[str] = user["assignedLicenses"][0]["disabledPlans"]
    return plans


def with_revision(number: int) -> Callable[[Json], object]:
    return lambda user: user.update(revision=number, mail=f"new{number}")


ACTIVE = {"state": "Active", "error": "None"}
REFUSED = {"state": "Error", "error": "CountViolation"}
CONFLICTING = {"state": "Error", "error": "MutuallyExclusiveViolation"}
RECORD = {"state": "Error", "error": "CountViolation", "skuId": "suite"}

# The example's users: a extra/g suite/g Active; b extra/g CountViolation, suite/g Other;
# c extra/g Other, rival/h Active, suite/g MutuallyExclusiveViolation;
# d addon/direct Active, suite/s ActiveWithError/DependencyViolation.
BAD: list[tuple[Checker, str, Change]] = [
    (
        checkers.never_oversold,
        "second holder",
        in_user("t/b", setting(0, **ACTIVE)),
    ),
    (checkers.never_oversold, "never bought", dropping("subscriptions", "t/rival")),
    (
        checkers.counters_never_oversold,
        "grew beyond the units",
        saying("product-seats", "t/extra", lambda c: c.update(consumedUnits=2)),
    ),
    (checkers.counters_never_oversold, "never bought", dropping("subscriptions", "t/suite")),
    (
        checkers.union_agrees,
        "not assigned",
        in_user("t/a", lambda u: u["assignedLicenses"].pop()),
    ),
    (
        checkers.union_agrees,
        "a plan is off that an entry enables",
        in_last(
            "user-licenses",
            "t/a",
            lambda u: off(u).append("more"),
        ),
    ),
    (
        checkers.union_agrees,
        "a path twice",
        in_user("t/b", adding(state("suite", "g", "Error", "Other"))),
    ),
    (checkers.all_or_nothing, "a part", in_user("t/b", setting(1, **ACTIVE))),
    (
        checkers.all_or_nothing,
        "for a moment",
        saying("user-licenses", "t/a", setting(0, **REFUSED)),
    ),
    (
        checkers.revisions_grow,
        "a gap",
        saying("user-licenses", "t/a", with_revision(9)),
    ),
    (
        checkers.revisions_grow,
        "begins late",
        in_user("t/a", lambda u: u.update(revision=2)),
    ),
    (checkers.revisions_grow, "the same twice", repeating("user-licenses", "t/a")),
    (
        checkers.revisions_grow,
        "nothing new",
        saying("user-licenses", "t/a", lambda u: u.update(revision=u["revision"] + 1)),
    ),
    (checkers.every_intent_published, "never published", dropping("user-licenses", "t/a")),
    (checkers.every_intent_published, "one lost", in_user("t/b", losing(1))),
    (checkers.every_intent_published, "direct lost", in_user("t/d", losing(0))),
    (
        checkers.no_state_without_cause,
        "an error for a group that nobody joined",
        in_user("t/a", adding(state("rival", "h", "Error", "Other"))),
    ),
    (
        checkers.no_state_without_cause,
        "direct, though rejected",
        in_user("t/c", adding(state("suite", None, "Active"))),
    ),
    (
        checkers.no_state_without_cause,
        "of a group that was left, and Active",
        in_user("t/d", setting(1, **ACTIVE)),
    ),
    (checkers.no_state_without_cause, "no such user", dropping("user-changes")),
    (
        checkers.settled,
        "a refusal without a reason",
        in_user("t/a", setting(0, **CONFLICTING)),
    ),
    (
        checkers.settled,
        "a kept licence that could go",
        in_user("t/d", losing(0)),
    ),
    (
        checkers.settled,
        "another reason",
        in_user("t/c", setting(2, error="DependencyViolation")),
    ),
    (
        checkers.settled,
        "a plan too few",
        in_user("t/a", setting(1, disabledPlans=["call"])),
    ),
    (
        checkers.addresses_are_unique,
        "one address computed for two users",
        lambda records: in_user("t/a", with_address("smtp:x@y"))(
            in_user("t/b", with_address("smtp:X@y"))(records)
        ),
    ),
    (
        checkers.addresses_are_unique,
        "two computed addresses, one of them shared",
        lambda records: in_user("t/a", with_address("smtp:x@y", "smtp:z@y"))(
            in_user("t/c", with_address("SMTP:z@y"))(records)
        ),
    ),
    (
        checkers.addresses_never_shared,
        "an address of one user published of another, then not any more",
        lambda records: repeating("user-licenses", "t/d")(
            saying("user-licenses", "t/d", with_address("smtp:same@x"))(records)
        ),
    ),
    (
        checkers.addresses_never_shared,
        "an address that moved before it was given up",
        lambda records: [
            *saying("user-licenses", "t/d", with_address("smtp:same@x"))(records),
            Record("user-licenses", 0, 999, "t/e", None),
        ],
    ),
    (
        checkers.addresses_have_an_owner,
        "an owner who claims nothing",
        in_last("errors", "t/f/h/rival", lambda e: e["details"].update(owner="a")),
    ),
    (
        checkers.addresses_have_an_owner,
        "a user who owns the address that it lacks",
        in_last("errors", "t/f/h/rival", lambda e: e["details"].update(owner="f")),
    ),
    (
        checkers.addresses_have_an_owner,
        "nobody has the principal name",
        lambda records: in_user("t/e", with_address())(
            appending("user-changes", "t/f", deletion("f"))(records)
        ),
    ),
    (
        checkers.no_false_refusal,
        "bought units",
        appending(
            "subscriptions",
            "t/extra",
            {
                "type": "subscription.updated",
                "id": "more",
                "tenant": "t",
                "skuId": "extra",
                "prepaidUnits": {"enabled": 2},
            },
        ),
    ),
    (
        checkers.no_false_refusal,
        "freed unit",
        in_user("t/a", lambda u: u.update(licenseAssignmentStates=[])),
    ),
    (
        checkers.no_false_conflict,
        "with nobody",
        in_user("t/b", setting(1, error="MutuallyExclusiveViolation")),
    ),
    (checkers.no_false_conflict, "the incumbent left", in_user("t/c", losing(1))),
    (
        checkers.no_false_conflict,
        "the plan is disabled",
        in_user("t/c", setting(2, disabledPlans=["mail"])),
    ),
    (checkers.seats_agree, "no counter", dropping("product-seats", "t/rival")),
    (
        checkers.seats_agree,
        "lost a unit",
        in_last("product-seats", "t/suite", lambda c: c.update(consumedUnits=1)),
    ),
    (
        checkers.seats_agree,
        "forgot who waits",
        in_last("product-seats", "t/extra", lambda c: c.update(waitingUsers=0)),
    ),
    (
        checkers.seats_agree,
        "holder left",
        in_user("t/a", lambda u: u.update(licenseAssignmentStates=[])),
    ),
    (checkers.errors_agree, "not opened", dropping("errors", "t/b/g/suite")),
    (checkers.errors_agree, "not closed", appending("errors", "t/a/g/suite", RECORD)),
    (
        checkers.errors_agree,
        "another reason",
        in_last("errors", "t/b/g/extra", lambda e: e.update(error="Other")),
    ),
    (checkers.groups_agree, "no status", dropping("group-status", "t/s")),
    (
        checkers.groups_agree,
        "a member too many",
        in_last("group-status", "t/g", lambda g: g.update(members=4)),
    ),
    (
        checkers.groups_agree,
        "an error forgotten",
        in_last("group-status", "t/s", lambda g: g.update(errors={})),
    ),
    (
        checkers.groups_agree,
        "never finished",
        in_last(
            "group-status", "t/g", lambda g: g.update(licenseProcessingState="ProcessingInProgress")
        ),
    ),
    (checkers.every_command_answered, "no answers", dropping("results")),
    (checkers.every_command_answered, "answered twice", repeating("results", "t/d")),
    (
        checkers.every_command_answered,
        "deferred for ever",
        appending(
            "catalog",
            "ghost",
            {"type": "product.defined", "id": "g", "skuId": "ghost", "servicePlans": []},
        ),
    ),
    (
        checkers.every_command_answered,
        "nobody asked",
        appending("results", "t/a", {"causedBy": "nothing", "status": "applied"}),
    ),
    (checkers.bad_input_is_dead_letter, "dropped", dropping("dead-letters", "t/a")),
    (
        checkers.bad_input_is_dead_letter,
        "changed",
        lambda records: [
            replace(r, value=b"not JSON") if (r.topic, r.key) == ("dead-letters", "t/a") else r
            for r in records
        ],
    ),
    (
        checkers.bad_input_is_dead_letter,
        "no reason",
        lambda records: [
            replace(r, headers={**r.headers, "dlq.reason": ""}) if r.topic == "dead-letters" else r
            for r in records
        ],
    ),
    (checkers.bad_input_is_dead_letter, "twice", repeating("dead-letters", "t/a")),
    (
        checkers.bad_input_is_dead_letter,
        "good input",
        appending(
            "dead-letters",
            "t",
            b"{}",
            **{"dlq.topic": "licensing.tenants", "dlq.partition": "0", "dlq.offset": "0"},
        ),
    ),
    (checkers.audit_agrees, "a change without a record", dropping("audit", "t/a")),
    (checkers.audit_agrees, "a change told twice", repeating("audit", "t/c")),
    (
        checkers.audit_agrees,
        "a rejected change that succeeded",
        in_last("audit", "t/c", lambda r: r.update(result="success")),
    ),
    (
        checkers.audit_agrees,
        "another reason",
        in_last("audit", "t/b", lambda r: r.update(resultReason="Other: who knows")),
    ),
    (
        checkers.audit_agrees,
        "another actor",
        in_last("audit", "t/h", lambda r: r.update(initiatedBy="c")),
    ),
    (
        checkers.audit_agrees,
        "other numbers",
        in_last("audit", "t/h", lambda r: r.update(resultReason="Users: 7")),
    ),
    (
        checkers.audit_agrees,
        "other licences of a user",
        in_last("audit", "t/a", lambda r: r["modifiedProperties"][0].update(oldValue=[{}])),
    ),
    (
        checkers.audit_agrees,
        "a change of a group without a record",
        lambda records: [
            r
            for r in records
            if r.topic != "audit"
            or not isinstance(r.value, dict)
            or r.value["activity"] != "Set group license"
        ],
    ),
    (
        checkers.audit_agrees,
        "an invented activity",
        saying("audit", "t/g", lambda r: r.update(activity="Invent")),
    ),
]
