"""What is published of a user: state, error records, audit. Shared text is made once."""

from __future__ import annotations

import json
from json.encoder import encode_basestring
from typing import Any, Final

from engine.domain.effects import Effects
from engine.domain.messages import COUNT
from engine.domain.model import timestamp
from engine.native import short_cut
from engine.rules.outcome import ACTIVE, NOTHING, Outcome, Reason, State
from engine.state.tenant_state import User

quoted: Final = encode_basestring
_writer: Final = short_cut("engine.native.records")
Shown = tuple[str, str, tuple[str, ...], str, Reason]
"""A published state of a user, by which two publications are compared: skuId, group, disabled
plans, state, reason."""


def text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


class Form:
    """The parts of a published state that users with one outcome share."""

    __slots__ = ("assigned", "ordered", "states")

    def __init__(self, outcome: Outcome) -> None:
        self.assigned = _assigned(outcome)
        self.states = [_state_form(state) for state in outcome.states]
        skus = [s.sku for s in outcome.states if s.slot]
        self.ordered = len(skus) == len(set(skus))
        """Slots in skuId order are in published order, unless a product comes by two groups."""


def _assigned(outcome: Outcome) -> str:
    """``assignedLicenses``: one per product held, with R1's effective disabled plans."""
    effective: dict[str, set[str]] = {}
    for e in outcome.entries:
        off = set(e.plans.disabled)
        known = effective.get(e.plans.sku)
        effective[e.plans.sku] = off if known is None else known & off
    return text(
        [{"skuId": sku, "disabledPlans": sorted(off)} for sku, off in sorted(effective.items())]
    )


def _state_form(state: State) -> tuple[int, str, str]:
    """The slot, the text before its group, and the text between group and since."""
    before = f'{{"skuId":{text(state.sku)},"assignedByGroup":'
    between = (
        f',"disabledPlans":{text(state.disabled)},"state":"{state.state}",'
        f'"error":"{state.reason.error}",'
    )
    if state.reason.message:
        between += f'"message":{text(state.reason.message)},'
    return state.slot, before, between + '"since":"'


def form(outcome: Outcome) -> Form:
    if outcome.cache is None:
        outcome.cache = Form(outcome)
    found: Form = outcome.cache  # type: ignore[assignment]
    return found


def shown(outcome: Outcome, paths: tuple[str, ...]) -> list[Shown]:
    """The published states as comparable values, in published order (skuId, then group)."""
    found = [
        (s.sku, paths[s.slot - 1] if s.slot else "", s.disabled, s.state, s.reason)
        for s in outcome.states
    ]
    found.sort(key=lambda s: s[:2])
    return found


def sinces(user: User, outcome: Outcome, paths: tuple[str, ...], at: int) -> int | tuple[int, ...]:
    """Since when each state of the new outcome holds: a state that goes on keeps its since."""
    if user.outcome is NOTHING or not user.outcome.states:
        return at
    old = {
        (s.sku, user.path(s.slot), s.state, s.reason.error): user.since_of(i)
        for i, s in enumerate(user.outcome.states)
    }
    new = tuple(
        old.get((s.sku, paths[s.slot - 1] if s.slot else "", s.state, s.reason.error), at)
        for s in outcome.states
    )
    return new[0] if len(set(new)) == 1 else new or at


def user_state(user: User, at: int, cause: str) -> bytes:
    """A record of ``user-licenses`` (contract, section 3)."""
    f, now = form(user.outcome), timestamp(at)
    sinces = None
    if user.sinces != at:
        sinces = [timestamp(user.since_of(i)) for i in range(len(f.states))]
    location, mail, addresses = user.attributes()
    facts = (
        user.tenant.id, user.id, location, mail, addresses, f.assigned, f.states, user.paths,
        sinces, user.revision, now, cause, f.ordered,
    )  # fmt: skip
    written: bytes | None = _writer.user_state(*facts) if _writer is not None else None
    return _user_state(*facts) if written is None else written


def _user_state(
    tenant: str,
    user: str,
    location: str | None,
    mail: str | None,
    addresses: tuple[str, ...],
    assigned: str,
    states: list[tuple[int, str, str]],
    paths: tuple[str, ...],
    sinces: list[str] | None,
    revision: int,
    now: str,
    cause: str,
    ordered: bool,
) -> bytes:
    """``sinces``: of the states, None if all are ``now``."""
    rows: list[str] = []
    for i, (slot, before, between) in enumerate(states):
        group = f'"{paths[slot - 1]}"' if slot else "null"
        rows.append(f'{before}{group}{between}{now if sinces is None else sinces[i]}"}}')
    if not ordered:
        # Of one product the text before the group is the same: by product, then by group.
        order = [(before, paths[slot - 1] if slot else "") for slot, before, _ in states]
        rows = [rows[i] for i in sorted(range(len(rows)), key=order.__getitem__)]
    return (
        f'{{"tenant":"{tenant}","user":"{user}",'
        f'"usageLocation":{quoted(location) if location is not None else "null"},'
        f'"mail":{quoted(mail) if mail is not None else "null"},'
        f'"proxyAddresses":[{",".join([quoted(address) for address in addresses])}],'
        f'"assignedLicenses":{assigned},"licenseAssignmentStates":[{",".join(rows)}],'
        f'"revision":{revision},"updatedAt":"{now}","causedBy":{quoted(cause)}}}'
    ).encode()


def errors(
    effects: Effects, user: User, old: list[Shown], new: list[Shown], cause: str
) -> list[Shown]:
    """Opens, changes and closes the user's error records; returns those that are new."""
    before = {s[:2]: s for s in old if s[3] != ACTIVE}
    after = {s[:2]: s for s in new if s[3] != ACTIVE}
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


def _error(user: User, state: Shown, cause: str) -> dict[str, Any]:
    sku, group, _, kind, reason = state
    details = dict(reason.details)
    if reason.error == COUNT:
        lease = user.tenant.lease(sku)
        details = {"purchased": lease.purchased, "consumed": lease.consumed}
    return {
        "tenant": user.tenant.id,
        "user": user.id,
        "group": group or "direct",
        "skuId": sku,
        "state": kind,
        "error": reason.error,
        "message": reason.message,
        "details": details,
        "since": timestamp(_since(user, sku, group)),
        "causedBy": cause,
        "revision": user.revision,
    }


def _since(user: User, sku: str, group: str) -> int:
    states = enumerate(user.outcome.states)
    return next(user.since_of(i) for i, s in states if (s.sku, user.path(s.slot)) == (sku, group))


def change_audit(
    user: User, old: Outcome, opened: list[Shown], at: int, cause: str
) -> bytes | None:
    """``Change user license``, if the user's licences changed or something could not be done.

    The same as :func:`engine.documents.audit.audit` makes, from text that users share.
    """
    before, after = form(old).assigned, form(user.outcome).assigned
    if before == after and not opened:
        return None
    why = "; ".join(sorted({f"{s[4].error}: {s[4].message}" for s in opened})) if opened else ""
    facts = (user.tenant.id, user.id, before, after, why, bool(opened), timestamp(at), cause)
    written: bytes | None = _writer.change_audit(*facts) if _writer is not None else None
    return _change_audit(*facts) if written is None else written


def _change_audit(
    tenant: str, user: str, before: str, after: str, why: str, failed: bool, now: str, cause: str
) -> bytes:
    changed = ""
    if before != after:
        changed = f'{{"name":"AssignedLicense","oldValue":{before},"newValue":{after}}}'
    return (
        f'{{"time":"{now}","tenant":"{tenant}","activity":"Change user license",'
        f'"category":"UserManagement","target":{{"type":"User","id":"{user}"}},'
        f'"initiatedBy":"Seatflow","result":"{"failure" if failed else "success"}",'
        f'"resultReason":{quoted(why)},"modifiedProperties":[{changed}],'
        f'"causedBy":{quoted(cause)}}}'
    ).encode()
