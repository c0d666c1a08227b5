"""The checks of a settled simulation: published numbers equal those of users and groups."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from engine.documents import user_documents
from engine.domain import events as ev
from engine.domain.limits import DEFAULT_LIMITS, Limits
from engine.domain.partitioner import partition_of
from engine.domain.vocabulary import (
    ACTIVE,
    COUNT,
    DISABLED,
    NONE,
    OTHER,
    CapabilityStatus,
    GroupProcessingState,
)
from engine.machines.group_rules import names_rule
from engine.partition_machine import PartitionMachine
from engine.simulation.invariants import content, lease_fields, require
from engine.simulation.rule_checks import verify_rules
from engine.simulation.scheduler import Simulation
from engine.simulation.workload import Input
from engine.state.tenant_state import User
from engine.state.user_mail import derived_keys, given_keys

Json = dict[str, Any]
Answers = dict[tuple[str, str], list[str]]
"""Key and event -> the statuses of its results."""
CHANGES = (ev.UserLicensesChanged, ev.UserLicensesSet, ev.GroupLicensesChanged, ev.GroupLicensesSet)
COUNTERS = ("consumedUnits", "availableUnits", "waitingUsers", "capabilityStatus")
COMMANDS = (*CHANGES, ev.UserReprocess, ev.GroupReprocess)


def verify(s: Simulation) -> None:
    """Runs all checks of a settled simulation.

    Raises:
        Violation: if a check fails.
    """
    machines = s.machines()
    users = {
        f"{tenant.id}/{user.id}": user
        for machine in machines
        for tenant in machine.configuration.tenants.values()
        for user in tenant.users.values()
    }
    for key, user in users.items():
        _nothing_under_way(key, user)
        _published(s, key, user)
    _counters(s, machines)
    _disabled(s)
    for machine in machines:
        _leases(machine)
    for p, machine in enumerate(machines):
        require(not machine.users.fan_out.jobs, "no fan-out left", p, machine.users.fan_out.jobs)
    _same_configuration(machines)
    verify_rules(machines, users)
    _groups(s, machines, users)
    _addresses(machines, users, s.config.limits)
    _answers(s)


def _applied(s: Simulation) -> list[Input]:
    """Returns the inputs that machines applied; the others are in the dead letters."""
    return [i for i in s.config.inputs if i.event.id not in s.config.refused]


def _nothing_under_way(key: str, user: User) -> None:
    pending = user.pending_work
    if pending is None:
        return
    names = ("seat_request", "change", "deferred_events", "pending_claims", "evaluation")
    left = [n for n in names if getattr(pending, n)]
    require(not left, "nobody in flight", key, left)
    require(
        pending.published_attributes is None or not user.known,
        "everything shown",
        key,
        pending.published_attributes,
    )


def _published(s: Simulation, key: str, user: User) -> None:
    """The published state equals the machine's and includes every intent (R4)."""
    value = s.monitor.users.get(key)
    if not user.known:
        require(value is None, "unknown users are not published", key, value)
        return
    now = json.loads(user_documents.user_licenses(user, 0, ""))
    if value is None:
        require(not now["licenseAssignmentStates"], "published", key, "is not published", now)
        return
    require(content(value) == content(now), "published = machine", key, value, now)
    published = {(x["skuId"], x["assignedByGroup"]) for x in value["licenseAssignmentStates"]}
    asked = {
        (sku, group)
        for group in user.groups
        for sku in (user.tenant.groups[group].licenses if group in user.tenant.groups else ())
    }
    groups, limits = {group for _, group in asked}, s.config.limits
    if len(groups) <= limits.licensed_groups and len(asked) <= limits.assignments:
        require(asked <= published, "R4 intent", key, asked - published, value)


def _counters(s: Simulation, machines: list[PartitionMachine]) -> None:
    holders: Counter[str] = Counter()
    waiting: dict[str, set[str]] = {}
    automatic: dict[str, bool] = {}
    for key, user in s.monitor.users.items():
        tenant_id = key.split("/")[0]
        holders.update(f"{tenant_id}/{a['skuId']}" for a in user["assignedLicenses"])
        for state in user["licenseAssignmentStates"]:
            if state["error"] == COUNT:
                waiting.setdefault(f"{tenant_id}/{state['skuId']}", set()).add(key)
    for machine in machines:
        for tenant in machine.configuration.tenants.values():
            automatic[tenant.id] = tenant.settings.automatic
    published = s.monitor.latest.get("product-seats", {})
    bought = {i.key: i.event for i in _applied(s) if i.topic == "subscriptions"}
    for key in {*holders, *waiting, *bought, *published}:
        value = published.get(key)
        if value is None:
            require(not holders[key] and key not in bought, "counters", key, "not published")
            continue
        event = bought.get(key)
        units = event.enabled + event.warning if isinstance(event, ev.SubscriptionUpdated) else 0
        free = units - holders[key]
        expected = (holders[key], free, len(waiting.get(key, ())), capability(event))
        actual = tuple(value[name] for name in COUNTERS)
        require(actual == expected, "counters", key, "published", actual, "users make it", expected)
        refused = key in waiting and free > 0 and automatic[key.split("/")[0]]
        require(not refused, "no false refusal", key, waiting.get(key), "with", free, "free")


def capability(event: ev.InputEvent | None) -> str:
    """Returns the ``capabilityStatus`` that follows from the last event of a subscription."""
    if isinstance(event, ev.SubscriptionDeleted):
        return CapabilityStatus.DELETED.value
    if isinstance(event, ev.SubscriptionUpdated):
        units = (event.enabled, event.warning, event.suspended, event.locked_out)
        for count, status in zip(units, CapabilityStatus, strict=False):
            if count:
                return status.value
    return CapabilityStatus.ENABLED.value


def _disabled(s: Simulation) -> None:
    """R15: an entry without an error is Disabled if, and only if, its product is off."""
    last = {i.key: i.event for i in _applied(s) if i.topic == "subscriptions"}
    for key, user in s.monitor.users.items():
        for state in user["licenseAssignmentStates"]:
            if state["state"] in (ACTIVE, DISABLED):
                status = capability(last.get(f"{user['tenant']}/{state['skuId']}"))
                on = status in (CapabilityStatus.ENABLED, CapabilityStatus.WARNING)
                require((state["state"] == ACTIVE) == on, "R15 off", key, state, status)


def _leases(machine: PartitionMachine) -> None:
    """The counters of a lease equal the sums over its users."""
    for tenant in machine.configuration.tenants.values():
        known = [user for user in tenant.users.values() if user.known]
        for sku, lease in tenant.leases.items():
            used = sum(1 for user in known if sku in user.outcome.held)
            count = [u.id for u in known if sku in u.outcome.waiting]
            require(lease.used == used, "lease used", sku, lease_fields(lease), used)
            require(
                lease.reserved == 0 and not lease.open_requests,
                "lease idle",
                sku,
                lease_fields(lease),
            )
            require(lease.waiting == len(count), "lease waiting", sku, lease_fields(lease), count)
            line = sorted(user for _, user in lease.waitlist)
            require(line == sorted(count), "waiting line", sku, lease_fields(lease), count)


def _same_configuration(machines: list[PartitionMachine]) -> None:
    """Every partition has the licences that the group's own machine has."""
    for owner in machines:
        for state in owner.groups.groups.values():
            for machine in machines if state.version else ():
                group = machine.configuration.tenant(state.tenant).groups.get(state.group)
                licenses = {sku: list(off) for sku, off in group.licenses.items()} if group else {}
                same = licenses == {sku: list(off) for sku, off in state.licenses.items()}
                require(same, "same configuration", state.key, licenses, state.licenses)


def _groups(s: Simulation, machines: list[PartitionMachine], users: dict[str, User]) -> None:
    """Group numbers are those of the published states and of the memberships."""
    published = s.monitor.latest.get("group-status", {})
    states = {state.key: state for m in machines for state in m.groups.groups.values()}
    named = {*states}
    for user in users.values():
        named.update(f"{user.tenant.id}/{group}" for group in user.groups)
    for key in named:
        value = published.get(key)
        require(value is not None, "group status", key, "is not published")
        assert value is not None
        expected = expected_status(s, users, key, value["assignedLicenses"])
        actual = {name: value[name] for name in expected}
        require(actual == expected, "group status", key, "published", actual, "should be", expected)


def expected_status(s: Simulation, users: dict[str, User], key: str, licenses: list[Json]) -> Json:
    """Returns the group status that the published users and the memberships make."""
    tenant, group = key.split("/")
    skus = {licence["skuId"] for licence in licenses}
    members = [u for u in users.values() if u.known and u.tenant.id == tenant and group in u.groups]
    errors: Counter[str] = Counter()
    licensed = with_errors = 0
    for user in s.monitor.users.values():
        if user["tenant"] != tenant:
            continue
        mine = [x for x in user["licenseAssignmentStates"] if x["assignedByGroup"] == group]
        active = {x["skuId"] for x in mine if x["state"] == "Active"}
        member = group in users[f"{tenant}/{user['user']}"].groups
        licensed += member and bool(skus) and skus <= active
        wrong = {x["error"] for x in mine if x["error"] != NONE}
        wrong = wrong - {OTHER} if len(wrong) > 1 else wrong
        errors.update(wrong)
        with_errors += bool(wrong)
    return {
        "licenseProcessingState": GroupProcessingState.COMPLETE.value,
        "members": len(members),
        "membersLicensed": licensed,
        "membersWithErrors": with_errors,
        "errors": dict(sorted(errors.items())),
    }


def _addresses(machines: list[PartitionMachine], users: dict[str, User], limits: Limits) -> None:
    """R18: each address has one owner, and every other user with the address knows the owner.

    A claim beyond the limit is given up; its user is a duplicate, of an owner who may have changed.
    """
    claims: dict[str, list[str]] = {}
    for machine in machines:
        for key, row in machine.addresses.claims.items():
            shared = [row] if isinstance(row, tuple) else [row.owner, *row.others]
            claims[key] = [claim.user for claim in shared]
    claimed: dict[str, set[str]] = {}
    for user in users.values():
        needed = derived_keys(user, user.outcome.mail_wanted) if user.known else ()
        require(set(user.derived) == set(needed), "R18 derived", user.id, user.derived, needed)
        mine = {*given_keys(user), *needed} if user.known else set()
        for address in mine:
            claimed.setdefault(f"{user.tenant.id}/{address}", set()).add(user.id)
        actual = user.pending_work.duplicates if user.pending_work else {}
        lines = {a: claims.get(f"{user.tenant.id}/{a}", []) for a in mine}
        expected = {
            a: line[0] if user.id in line else actual.get(a, "somebody")
            for a, line in lines.items()
            if not line or line[0] != user.id
        }
        require(actual == expected, "R18 duplicates", user.id, actual, expected)
    for key in claims.keys() | claimed.keys():
        line, wanted = claims.get(key, []), claimed.get(key, set())
        complete = limits != DEFAULT_LIMITS or set(line) == wanted
        holds = complete and wanted.issuperset(line) and len(line) <= limits.address_claims
        require(holds, "R18 claims", key, line, wanted)


def _answers(s: Simulation) -> None:
    """Every command is answered once, or deferred until its products are defined (R21)."""
    answers: Answers = {}
    for output in s.broker.outputs:
        if output.topic == "results":
            status = output.value["status"]
            answers.setdefault((output.key, output.value["causedBy"]), []).append(status)
    defined = {i.key for i in _applied(s) if i.topic == "catalog"}
    sent = [i for i in s.sent.values() if i.event.id not in s.config.refused]
    for i in sent:
        if not isinstance(i.event, COMMANDS):
            continue
        statuses = answers.pop((i.key, i.event.id), [])
        if isinstance(i.event, CHANGES) and statuses == ["deferred"]:
            named = {*dict(i.event[3])}
            if isinstance(i.event, ev.LicensesChanged):
                named.update(i.event.remove)
            require(not named <= defined, "answers", i, "stays deferred")
            continue
        final = statuses[1:] if statuses[:1] == ["deferred"] else statuses
        require(final in (["applied"], ["rejected"]), "answers", i, statuses)
    for i in sent:
        if isinstance(i.event, ev.GroupUpserted):  # R27: answered if it names a rule
            statuses = answers.pop((i.key, i.event.id), [])
            expected = [["applied"], ["rejected"]] if names_rule(i.event) else [[]]
            require(statuses in expected, "answers", i, statuses)
    _answers_of_facts(sent, answers, s.config.limits != DEFAULT_LIMITS)
    require(not answers, "answers", "nobody asked", answers)


def _answers_of_facts(sent: list[Input], answers: Answers, limited: bool) -> None:
    """Takes the answers to events that state facts: those of a restoration (R22), and at limits.

    A claim of an address that takes another user's place is answered at that user.
    """
    for i in sent:
        if isinstance(i.event, ev.UserUpserted | ev.MembershipAdded | ev.UserSnapshot):
            statuses = answers.pop((i.key, i.event.id), [])
            if limited:
                statuses = [status for status in statuses if status != "rejected"]
            restores = isinstance(i.event, ev.UserUpserted)
            holds = not statuses or (restores and statuses in (["applied"], ["rejected"]))
            require(holds, "answers", i, statuses)
    if limited:
        causes = {i.event.id for i in sent}  # any may bring a mail plan, and with it addresses
        for place in [p for p, statuses in answers.items() if set(statuses) == {"rejected"}]:
            if place[1] in causes:
                del answers[place]


def input_partitions(s: Simulation) -> list[tuple[str, int]]:
    """Returns the keys of the inputs with their partitions, to read a trace with."""
    return sorted({(i.key, partition_of(i.key, s.config.partitions)) for i in s.config.inputs})
