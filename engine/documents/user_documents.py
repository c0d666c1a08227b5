"""Records about one user: ``user-licenses``, ``errors`` and the audit of changed licences.

Text that users with one outcome share is made once, in a :class:`DocumentTemplate`. Where
``engine.native.records`` is compiled it writes the same bytes, faster.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from json.encoder import encode_basestring
from typing import Any, Final, NamedTuple

from engine.domain.effects import Effects
from engine.domain.model import timestamp
from engine.domain.vocabulary import COUNT, ERROR, NONE
from engine.native import load_extension
from engine.rules.outcome import EMPTY_OUTCOME, AssignmentState, ErrorReason, Outcome
from engine.state.tenant_state import User
from engine.state.user_mail import published_attributes

quoted: Final = encode_basestring
_native: Final = load_extension("engine.native.records")


class PublishedState(NamedTuple):
    """One published state of a user, by which two publications are compared.

    ``group`` is empty for a direct licence.
    """

    sku: str
    group: str
    disabled: tuple[str, ...]
    state: str
    reason: ErrorReason


class StateTemplate(NamedTuple):
    """The JSON of one ``licenseAssignmentState`` around the group's id and the time."""

    path_index: int
    before_group: str
    before_since: str


def text(value: object) -> str:
    """Returns compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


class DocumentTemplate:
    """The parts of a ``user-licenses`` record that users with one outcome share.

    ``assigned``: ``assignedLicenses`` as JSON. ``ordered``: the order by path index is the
    published order, which is by skuId and group id; not so if a product comes by two groups.
    """

    __slots__ = ("assigned", "ordered", "states")

    def __init__(self, outcome: Outcome) -> None:
        self.assigned = _assigned(outcome)
        self.states = [_state_template(state) for state in outcome.states]
        skus = [s.sku for s in outcome.states if s.path_index]
        self.ordered = len(skus) == len(set(skus))


class UserLicensesFields(NamedTuple):
    """Everything that a ``user-licenses`` record is written from.

    ``since``: the time of each state, in the order of ``states``; None if all are ``now``.
    """

    tenant: str
    user: str
    location: str | None
    effective_location: str | None
    mail: str | None
    mail_nickname: str | None
    addresses: tuple[str, ...]
    assigned: str
    states: list[StateTemplate]
    paths: tuple[str, ...]
    since: list[str] | None
    revision: int
    now: str
    cause: str
    ordered: bool


class ChangeAuditFields(NamedTuple):
    """Everything that a ``Change user license`` audit record is written from.

    ``before``, ``after``: ``assignedLicenses`` as JSON.
    """

    tenant: str
    user: str
    before: str
    after: str
    reason: str
    failed: bool
    now: str
    cause: str


def _assigned(outcome: Outcome) -> str:
    """``assignedLicenses``: one per product held, with R1's effective disabled plans."""
    effective: dict[str, set[str]] = {}
    for e in outcome.entries:
        disabled = set(e.plans.disabled)
        known = effective.get(e.plans.sku)
        effective[e.plans.sku] = disabled if known is None else known & disabled
    return text(
        [
            {"skuId": sku, "disabledPlans": sorted(disabled)}
            for sku, disabled in sorted(effective.items())
        ]
    )


def _state_template(state: AssignmentState) -> StateTemplate:
    before_group = f'{{"skuId":{text(state.sku)},"assignedByGroup":'
    before_since = (
        f',"disabledPlans":{text(state.disabled)},"state":"{state.state}",'
        f'"error":"{state.reason.error}",'
    )
    if state.reason.message:
        before_since += f'"message":{text(state.reason.message)},'
    return StateTemplate(state.path_index, before_group, before_since + '"since":"')


def template_of(outcome: Outcome) -> DocumentTemplate:
    """Returns the template of the outcome, made on first use."""
    cache = outcome.cache
    if cache.document_template is None:
        cache.document_template = DocumentTemplate(outcome)
    template: DocumentTemplate = cache.document_template  # type: ignore[assignment]
    return template


def published_states(outcome: Outcome, paths: tuple[str, ...]) -> list[PublishedState]:
    """Returns the states in published order, by skuId and group."""
    found = [
        PublishedState(
            s.sku, paths[s.path_index - 1] if s.path_index else "", s.disabled, s.state, s.reason
        )
        for s in outcome.states
    ]
    found.sort(key=lambda s: s[:2])
    return found


def states_since(
    user: User,
    outcome: Outcome,
    paths: tuple[str, ...],
    timestamp_ms: int,
    adopted: Mapping[tuple[str, str], int] | None = None,
) -> int | tuple[int, ...]:
    """Returns since when each state of a new outcome holds, in milliseconds.

    A state that the user has already keeps its time; the others get ``timestamp_ms``. One number
    stands for all if they are equal. ``adopted``: since when adopted licences are held, by skuId
    and group (R25).
    """
    if adopted:
        return _adopted_since(user, outcome, paths, timestamp_ms, adopted)
    if user.outcome is EMPTY_OUTCOME or not user.outcome.states:
        return timestamp_ms
    old = _known_since(user)
    new = []
    for s in outcome.states:
        group = paths[s.path_index - 1] if s.path_index else ""
        new.append(old.get((s.sku, group, s.state, s.reason.error), timestamp_ms))
    return new[0] if len(set(new)) == 1 else tuple(new) or timestamp_ms


def _known_since(user: User) -> dict[tuple[str, str, str, str], int]:
    return {
        (s.sku, user.path(s.path_index), s.state, s.reason.error): user.since_of(i)
        for i, s in enumerate(user.outcome.states)
    }


def _adopted_since(
    user: User,
    outcome: Outcome,
    paths: tuple[str, ...],
    timestamp_ms: int,
    adopted: Mapping[tuple[str, str], int],
) -> int | tuple[int, ...]:
    old, new = _known_since(user), []
    for s in outcome.states:
        group = paths[s.path_index - 1] if s.path_index else ""
        since = adopted.get((s.sku, group)) if s.state != ERROR else None
        if since is None:
            since = old.get((s.sku, group, s.state, s.reason.error), timestamp_ms)
        new.append(since)
    return new[0] if len(set(new)) == 1 else tuple(new) or timestamp_ms


def user_licenses(user: User, timestamp_ms: int, cause: str) -> bytes:
    """Returns a record of ``user-licenses`` (contract, section 3)."""
    template, now = template_of(user.outcome), timestamp(timestamp_ms)
    since = None
    if user.state_since_ms != timestamp_ms:
        since = [timestamp(user.since_of(i)) for i in range(len(template.states))]
    location, mail, addresses, nickname = published_attributes(user)
    # A plain tuple: to make the named one takes longer than to write the record in C.
    fields = (
        user.tenant.id, user.id, location, user.effective_location, mail, nickname, addresses,
        template.assigned, template.states, user.paths, since, user.revision, now, cause,
        template.ordered,
    )  # fmt: skip
    written: bytes | None = _native.user_licenses(fields) if _native is not None else None
    return write_user_licenses(UserLicensesFields(*fields)) if written is None else written


def write_user_licenses(fields: UserLicensesFields) -> bytes:
    """Writes a ``user-licenses`` record in plain Python."""
    f, paths = fields, fields.paths
    rows: list[str] = []
    for i, (path_index, before_group, before_since) in enumerate(f.states):
        group = f'"{paths[path_index - 1]}"' if path_index else "null"
        since = f.now if f.since is None else f.since[i]
        rows.append(f'{before_group}{group}{before_since}{since}"}}')
    if not f.ordered:
        # States of one product have equal text before the group: sort by product, then by group.
        order = [
            (s.before_group, paths[s.path_index - 1] if s.path_index else "") for s in f.states
        ]
        rows = [rows[i] for i in sorted(range(len(rows)), key=order.__getitem__)]
    return (
        f'{{"tenant":"{f.tenant}","user":"{f.user}",'
        f'"usageLocation":{quoted(f.location) if f.location is not None else "null"},'
        f'"effectiveUsageLocation":'
        f"{quoted(f.effective_location) if f.effective_location is not None else 'null'},"
        f'"mail":{quoted(f.mail) if f.mail is not None else "null"},'
        f'"mailNickname":{quoted(f.mail_nickname) if f.mail_nickname is not None else "null"},'
        f'"proxyAddresses":[{",".join([quoted(address) for address in f.addresses])}],'
        f'"assignedLicenses":{f.assigned},"licenseAssignmentStates":[{",".join(rows)}],'
        f'"revision":{f.revision},"updatedAt":"{f.now}","causedBy":{quoted(f.cause)}}}'
    ).encode()


def publish_errors(
    effects: Effects,
    user: User,
    old: list[PublishedState],
    new: list[PublishedState],
    cause: str,
) -> list[PublishedState]:
    """Emits new and changed error records and tombstones of ended ones; returns the former."""
    before = {s[:2]: s for s in old if s.reason.error != NONE}
    after = {s[:2]: s for s in new if s.reason.error != NONE}
    opened = []
    for key, state in after.items():
        if before.get(key) != state:
            opened.append(state)
            effects.emit("errors", _error_key(user, key), _error(user, state, cause))
    for key in before:
        if key not in after:
            effects.emit("errors", _error_key(user, key), None)
    return opened


def _error_key(user: User, key: tuple[str, str]) -> str:
    sku, group = key
    return f"{user.tenant.id}/{user.id}/{group or 'direct'}/{sku}"


def _error(user: User, published: PublishedState, cause: str) -> dict[str, Any]:
    sku, group, _, state, reason = published
    details = dict(reason.details)
    if reason.error == COUNT:
        lease = user.tenant.lease(sku)
        details = {"purchased": lease.purchased, "consumed": lease.consumed}
    return {
        "tenant": user.tenant.id,
        "user": user.id,
        "group": group or "direct",
        "skuId": sku,
        "state": state,
        "error": reason.error,
        "message": reason.message,
        "details": details,
        "since": timestamp(_since(user, sku, group)),
        "causedBy": cause,
        "revision": user.revision,
    }


def _since(user: User, sku: str, group: str) -> int:
    for i, s in enumerate(user.outcome.states):
        if s.sku == sku and user.path(s.path_index) == group:
            return user.since_of(i)
    raise AssertionError(f"{user.id} has no state of {sku} through {group or 'direct'}")


def change_audit(
    user: User, old: Outcome, opened: list[PublishedState], timestamp_ms: int, cause: str
) -> bytes | None:
    """Returns the audit record ``Change user license``; None if there is nothing to report.

    It is due if the user's licences changed or an error is new (``opened``). The form is that of
    :func:`engine.documents.audit.audit`, written from text that users share.
    """
    before, after = template_of(old).assigned, template_of(user.outcome).assigned
    if before == after and not opened:
        return None
    reason = ""
    if opened:
        reason = "; ".join(sorted({f"{s.reason.error}: {s.reason.message}" for s in opened}))
    fields = (
        user.tenant.id, user.id, before, after, reason, bool(opened), timestamp(timestamp_ms),
        cause,
    )  # fmt: skip
    written: bytes | None = _native.change_audit(fields) if _native is not None else None
    return write_change_audit(ChangeAuditFields(*fields)) if written is None else written


def write_change_audit(fields: ChangeAuditFields) -> bytes:
    """Writes a ``Change user license`` record in plain Python."""
    f, changed = fields, ""
    if f.before != f.after:
        changed = f'{{"name":"AssignedLicense","oldValue":{f.before},"newValue":{f.after}}}'
    return (
        f'{{"time":"{f.now}","tenant":"{f.tenant}","activity":"Change user license",'
        f'"category":"UserManagement","target":{{"type":"User","id":"{f.user}"}},'
        f'"initiatedBy":"Seatflow","result":"{"failure" if f.failed else "success"}",'
        f'"resultReason":{quoted(f.reason)},"modifiedProperties":[{changed}],'
        f'"causedBy":{quoted(f.cause)}}}'
    ).encode()
