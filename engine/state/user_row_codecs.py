"""The rows of the ``users`` table; see :mod:`engine.state.row_codecs` for what holds of them.

A row is written for every change of a user, so most are written by the native extension, byte for
byte as the plain code here has them.
"""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple

from engine.domain import events as ev
from engine.domain.events import ABSENT, CODES
from engine.membership_rules.attributes import Attributes, as_dict
from engine.native import load_extension
from engine.rules.outcome import AssignmentProblem, ErrorReason, Outcome
from engine.state.row_codecs import OptionalFacts, Row, append_optional, split_optional

_writer: Final = load_extension("engine.native.records")


class SeatRequestRow(NamedTuple):
    """A user in flight, inside its pending work."""

    since_ms: int
    timestamp_ms: int
    caused_by: str
    reserved: list[str]
    denied: list[str]
    requested_sku: str
    request_seq: int


class PendingWorkRow(NamedTuple):
    """The pending work of a user, as the last field of a row.

    ``change`` and each of ``deferred_changes``: [event id, add, remove, timestamp in milliseconds];
    ``remove`` of a deferred whole list (R28) is null: what ``add`` does not name.
    ``deferred_events``: [code, members, timestamp in milliseconds, offset]; ``pending_claims``:
    address -> number of the claim; ``duplicates``: address -> user id of its owner;
    ``published_attributes``: usage location, mail, proxy addresses, and since format 2 the mail
    nickname; ``evaluation``: (timestamp in
    milliseconds, causedBy, True to retry denied seats).
    """

    seat_request: SeatRequestRow | None
    change: list[Any] | None
    deferred_changes: list[list[Any]]
    deferred_events: list[list[Any]]
    last_claim: int
    pending_claims: dict[str, int]
    duplicates: dict[str, str]
    published_attributes: tuple[Any, ...] | None
    evaluation: tuple[int, str, bool] | None


class UserRow(NamedTuple):
    """``users``, key tenant/user.

    ``assigned_primary_address`` is of format 1, where true stands for the user principal name; it
    is null now. On disk ``paths`` is true if they are the groups. ``entries``: see
    :class:`EntryRow`; ``problems``: each as [skuId, path index, state, disabled plans, [error,
    details, message]]; ``state_since_ms``: one number if it is the same for all states.
    ``member_since`` are the order keys of the memberships (R8). The members of ``optional_facts``
    are listed at :class:`OptionalUserFacts`.
    """

    known: bool
    usage_location: str | None
    user_principal_name: str | None
    mail: str | None
    proxy_addresses: list[str]
    assigned_primary_address: str | None
    groups: list[str]
    member_since: bytes
    paths: list[str]
    entries: str
    problems: list[Any]
    state_since_ms: int | list[int]
    revision: int
    seen_fingerprints: bytes
    pending: PendingWorkRow | None
    optional_facts: OptionalFacts = None


class OptionalUserFacts:
    """The names of the members of ``optional_facts`` in a row of ``users``.

    - ``RECYCLE_BIN``: of a user who is deleted and can be restored (R22), the licences that were
      direct, as [skuId, disabled plans].
    - ``RESTORATION``: [event id, direct licences] of a user who is being restored: they are asked
      for again by the next outcome.
    - ``ADOPTION``: [snapshot, licences] of licences to adopt (R25), each as [skuId, group or "",
      disabled plans, since in milliseconds or null]. ``snapshot`` is true until the first outcome
      after a snapshot, which replaces the entries; what is left then waits for the definition of
      its product, or for the first licences of its group.
    - ``mailNickname`` (as given), ``publishedNickname``, ``routingAddress``, ``derivedClaims``
      (true for the principal name alone) and ``ungivenClaims``: see :mod:`engine.state.user_mail`.
    - ``ATTRIBUTES``: those that rules read (R27), by name in small letters; ``RULE_GROUPS``: the
      groups of which a rule made the user a member. ``KEPT_MEMBERSHIPS``: memberships by events of
      groups that have a rule, which do not count: their order keys (R8) by group.
    - ``PUBLISHED_LOCATION``: the effective usage location as published, where it is neither the
      user's own nor the tenant's.
    """

    RECYCLE_BIN: Final = "recycleBin"
    RESTORATION: Final = "restoration"
    ADOPTION: Final = "adoption"
    PUBLISHED_LOCATION: Final = "effectiveUsageLocation"
    ATTRIBUTES: Final = "attributes"
    RULE_GROUPS: Final = "ruleGroups"
    KEPT_MEMBERSHIPS: Final = "keptMemberships"


class EntryRow(NamedTuple):
    """One entry in the text ``entries``, comma separated.

    Its form is ``path index/admission order/plan set[/disabled plans]``.
    ``disabled_plans``, of a direct entry, are separated by spaces.
    """

    path_index: int
    admission_order: int
    plan_set_key: str
    disabled_plans: tuple[str, ...] | None


def encode_user(
    known: bool,
    usage_location: str | None,
    user_principal_name: str | None,
    mail: str | None,
    proxy_addresses: tuple[str, ...],
    groups: tuple[str, ...],
    member_since: bytes,
    paths: tuple[str, ...],
    outcome: Outcome,
    state_since_ms: int | tuple[int, ...],
    revision: int,
    seen_fingerprints: bytes,
    pending: tuple[Any, ...] | None,
    optional_facts: OptionalFacts = None,
    attributes: Attributes = (),
    rule_groups: tuple[str, ...] = (),
) -> Row:
    """Returns a row of ``users``; the arguments are the fields of :class:`UserRow`.

    ``attributes`` and ``rule_groups`` become members of the optional facts.
    """
    if attributes or rule_groups:
        optional_facts = {**(optional_facts or {}), **_rule_facts(attributes, rule_groups)}
    if _writer is None:
        return encode_plain_user(
            known, usage_location, user_principal_name, mail, proxy_addresses, groups,
            member_since, paths, outcome, state_since_ms, revision, seen_fingerprints, pending,
            optional_facts,
        )  # fmt: skip
    entries, _, problems = _outcome_parts(outcome)
    same_paths = paths is groups or paths == groups
    return _writer.user_row(
        known, usage_location, user_principal_name, mail, proxy_addresses, groups, member_since,
        None if same_paths else paths, entries, problems, state_since_ms, revision,
        seen_fingerprints, pending, optional_facts,
    )  # fmt: skip


def encode_plain_user(
    known: bool,
    usage_location: str | None,
    user_principal_name: str | None,
    mail: str | None,
    proxy_addresses: tuple[str, ...],
    groups: tuple[str, ...],
    member_since: bytes,
    paths: tuple[str, ...],
    outcome: Outcome,
    state_since_ms: int | tuple[int, ...],
    revision: int,
    seen_fingerprints: bytes,
    pending: tuple[Any, ...] | None,
    optional_facts: OptionalFacts,
) -> Row:
    """Returns the row without the native extension."""
    entries, problems, _ = _outcome_parts(outcome)
    fields = [
        known, usage_location, user_principal_name, mail, proxy_addresses, None, groups,
        member_since.hex(), True if paths == groups else paths, entries, problems, state_since_ms,
        revision, seen_fingerprints.hex(), None if pending is None else _encode_pending(pending),
    ]  # fmt: skip
    return append_optional(fields, optional_facts)


def _outcome_parts(outcome: Outcome) -> tuple[str, list[Any], str]:
    if outcome.cache.row is None:
        outcome.cache.row = _encode_outcome(outcome)
    return outcome.cache.row


def decode_user(row: list[Any]) -> UserRow:
    """Returns the fields of a row of ``users``. Equal paths and groups are one list."""
    fields, optional_facts = split_optional(row, UserRow)
    (
        known, location, upn, mail, addresses, primary, groups, member_since, paths, entries,
        problems, state_since, revision, seen, pending,
    ) = fields  # fmt: skip
    return UserRow(
        known,
        location,
        upn,
        mail,
        addresses,
        upn if primary is True else primary,
        groups,
        bytes.fromhex(member_since),
        groups if paths is True else paths,
        entries,
        problems,
        state_since,
        revision,
        bytes.fromhex(seen),
        None if pending is None else _decode_pending(pending),
        optional_facts,
    )


def _rule_facts(attributes: Attributes, rule_groups: tuple[str, ...]) -> dict[str, Any]:
    """Returns what a row keeps for membership rules, as members of its optional facts."""
    facts: dict[str, Any] = {}
    if attributes:
        facts[OptionalUserFacts.ATTRIBUTES] = as_dict(attributes)
    if rule_groups:
        facts[OptionalUserFacts.RULE_GROUPS] = rule_groups
    return facts


# -- pending work
def _encode_pending(pending: tuple[Any, ...]) -> list[Any]:
    request, *others = pending
    return [None if request is None else list(request), *others]


def _decode_pending(row: list[Any]) -> PendingWorkRow:
    request, change, deferred, events, last_claim, claims, duplicates, shown, due = row
    if shown is not None:
        location, mail, addresses, *nickname = shown
        shown = (location, mail, tuple(addresses), *nickname)
    return PendingWorkRow(
        None if request is None else SeatRequestRow._make(request),
        change,
        deferred,
        events,
        last_claim,
        claims,
        duplicates,
        shown,
        None if due is None else tuple(due),
    )


# -- outcomes
def _encode_outcome(outcome: Outcome) -> tuple[str, list[Any], str]:
    """Returns what users with one outcome share: entries, problems, and the problems as JSON."""
    entries = []
    for e in outcome.entries:
        off = "" if e.disabled_plans is None else f"/{' '.join(e.disabled_plans)}"
        entries.append(f"{e.path_index}/{e.admission_order}/{e.plans.key}{off}")
    problems = [
        (
            p.sku,
            p.path_index,
            p.state,
            p.disabled,
            (p.reason.error, p.reason.details, p.reason.message),
        )
        for p in outcome.problems
    ]
    return ",".join(entries), problems, json.dumps(problems, ensure_ascii=False)


def decode_entries(entries: str) -> list[EntryRow]:
    """Returns the entries in a row's text."""
    return [_decode_entry(text) for text in entries.split(",")] if entries else []


def _decode_entry(text: str) -> EntryRow:
    path_index, admission_order, key, *off = text.split("/")
    return EntryRow(
        int(path_index), int(admission_order), key, tuple(off[0].split()) if off else None
    )


def decode_problem(row: list[Any]) -> AssignmentProblem:
    """Returns one of a row's problems."""
    sku, path_index, state, disabled, (error, details, message) = row
    return AssignmentProblem(
        sku, path_index, state, tuple(disabled), ErrorReason(error, tuples(details), message)
    )


def tuples(value: Any) -> Any:
    """Returns a JSON value with its lists as tuples, so that it can be part of a key."""
    return tuple(map(tuples, value)) if isinstance(value, list) else value


# -- deferred events
_MEMBERSHIP: Final = ("id", "tenant", "user", "group")
_USER: Final = ("id", "tenant", "user")
# By code: the class, and the persisted names of its members, in the order of the class.
_DEFERRABLE: Final[dict[str, tuple[Any, tuple[str, ...]]]] = {
    CODES[ev.UserUpserted]: (
        ev.UserUpserted,
        (
            *_USER,
            "user_principal_name",
            "usage_location",
            "mail",
            "proxy_addresses",
            "mail_nickname",
            "attributes",
        ),
    ),
    CODES[ev.UserDeleted]: (ev.UserDeleted, (*_USER, "restorable")),
    CODES[ev.UserSnapshot]: (
        ev.UserSnapshot,
        (
            *_USER,
            "user_principal_name",
            "usage_location",
            "mail",
            "proxy_addresses",
            "memberships",
            "licenses",
            "mail_nickname",
            "attributes",
        ),
    ),
    CODES[ev.MembershipAdded]: (ev.MembershipAdded, _MEMBERSHIP),
    CODES[ev.MembershipRemoved]: (ev.MembershipRemoved, _MEMBERSHIP),
    CODES[ev.MembershipIgnored]: (ev.MembershipIgnored, (*_MEMBERSHIP, "member_type")),
    CODES[ev.UserLicensesChanged]: (ev.UserLicensesChanged, (*_USER, "add", "remove")),
    CODES[ev.UserLicensesSet]: (ev.UserLicensesSet, (*_USER, "licenses")),
    CODES[ev.UserReprocess]: (ev.UserReprocess, _USER),
}


def encode_deferred_event(event: Any, timestamp_ms: int, offset: int) -> list[Any]:
    """Returns an event that waits for what is under way (R23): code, members, time and offset.

    Members that have their default are left out.
    """
    code = CODES[type(event)]
    kind, names = _DEFERRABLE[code]
    members = {
        name: value
        for name, field, value in zip(names, kind._fields, event, strict=True)
        if value is not kind._field_defaults.get(field, ABSENT)
    }
    return [code, members, timestamp_ms, offset]


def decode_deferred_event(row: list[Any]) -> tuple[Any, int, int]:
    """Returns the event, its timestamp in milliseconds and its offset."""
    code, members, timestamp_ms, offset = row
    kind, names = _DEFERRABLE[code]
    values = {
        field: tuples(members[name])
        for name, field in zip(names, kind._fields, strict=True)
        if name in members
    }
    return kind(**values), timestamp_ms, offset
