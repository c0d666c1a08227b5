"""What must hold at the end, when everything has settled: the published numbers tell the truth."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from engine.documents import user_documents
from engine.domain import events as ev
from engine.domain.partitioner import partition_of
from engine.domain.proxy_address import normalize_proxy_address
from engine.domain.vocabulary import COUNT, NONE, OTHER, GroupProcessingState
from engine.partition_machine import PartitionMachine
from engine.simulation.invariants import content, figures, require
from engine.simulation.scheduler import Simulation
from engine.state.tenant_state import User

Json = dict[str, Any]
COMMANDS = (ev.UserLicensesChanged, ev.UserReprocess, ev.GroupLicensesChanged, ev.GroupReprocess)


def judge(s: Simulation) -> None:
    """All checks of a settled simulation; raises Violation."""
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
    for machine in machines:
        _leases(machine)
    for p, machine in enumerate(machines):
        require(not machine.users.fan_out.jobs, "no fan-out left", p, machine.users.fan_out.jobs)
    _same_configuration(machines)
    _groups(s, machines, users)
    _addresses(machines, users)
    _answers(s)


def _nothing_under_way(key: str, user: User) -> None:
    more = user.more
    if more is None:
        return
    left = [n for n in ("attempt", "change", "queue", "pending", "due") if getattr(more, n)]
    require(not left, "nobody in flight", key, left)
    require(more.shown is None or not user.known, "everything shown", key, more.shown)


def _published(s: Simulation, key: str, user: User) -> None:
    """The published state is the machine's, and tells every intent (R4)."""
    value = s.watch.users.get(key)
    if not user.known:
        require(value is None, "unknown users are not published", key, value)
        return
    now = json.loads(user_documents.user_licenses(user, 0, ""))
    if value is None:
        require(not now["licenseAssignmentStates"], "published", key, "is not published", now)
        return
    require(content(value) == content(now), "published = machine", key, value, now)
    told = {(x["skuId"], x["assignedByGroup"]) for x in value["licenseAssignmentStates"]}
    for group in user.groups:
        known = user.tenant.groups.get(group)
        for sku in known.licenses if known else ():
            require((sku, group) in told, "R4 intent", key, sku, group, value)


def _counters(s: Simulation, machines: list[PartitionMachine]) -> None:
    holders: Counter[str] = Counter()
    waiting: dict[str, set[str]] = {}
    automatic: dict[str, bool] = {}
    for key, user in s.watch.users.items():
        tenant_id = key.split("/")[0]
        holders.update(f"{tenant_id}/{a['skuId']}" for a in user["assignedLicenses"])
        for state in user["licenseAssignmentStates"]:
            if state["error"] == COUNT:
                waiting.setdefault(f"{tenant_id}/{state['skuId']}", set()).add(key)
    for machine in machines:
        for tenant in machine.configuration.tenants.values():
            automatic[tenant.id] = tenant.settings.automatic
    published = s.watch.latest.get("product-seats", {})
    bought = {i.key: i.event for i in s.setting.inputs if i.topic == "subscriptions"}
    for key in {*holders, *waiting, *bought, *published}:
        value = published.get(key)
        if value is None:
            require(not holders[key] and key not in bought, "counters", key, "not published")
            continue
        event = bought.get(key)
        units = event.enabled + event.warning if isinstance(event, ev.SubscriptionUpdated) else 0
        free = units - holders[key]
        wanted = (holders[key], free, len(waiting.get(key, ())))
        found = (value["consumedUnits"], value["availableUnits"], value["waitingUsers"])
        require(found == wanted, "counters", key, "published", found, "users make it", wanted)
        refused = key in waiting and free > 0 and automatic[key.split("/")[0]]
        require(not refused, "no false refusal", key, waiting.get(key), "with", free, "free")


def _leases(machine: PartitionMachine) -> None:
    """The counters that are kept are those that the users make."""
    for tenant in machine.configuration.tenants.values():
        known = [user for user in tenant.users.values() if user.known]
        for sku, lease in tenant.leases.items():
            used = sum(1 for user in known if sku in user.outcome.held)
            count = [u.id for u in known if sku in u.outcome.waiting]
            require(lease.used == used, "lease used", sku, figures(lease), used)
            require(lease.reserved == 0 and not lease.asking, "lease idle", sku, figures(lease))
            require(lease.waiting == len(count), "lease waiting", sku, figures(lease), count)
            line = sorted(user for _, user in lease.line)
            require(line == sorted(count), "waiting line", sku, figures(lease), count)


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
    published = s.watch.latest.get("group-status", {})
    states = {state.key: state for m in machines for state in m.groups.groups.values()}
    named = {*states}
    for user in users.values():
        named.update(f"{user.tenant.id}/{group}" for group in user.groups)
    for key in named:
        value = published.get(key)
        require(value is not None, "group status", key, "is not published")
        assert value is not None
        wanted = expected_status(s, users, key, value["assignedLicenses"])
        found = {name: value[name] for name in wanted}
        require(found == wanted, "group status", key, "published", found, "should be", wanted)


def expected_status(s: Simulation, users: dict[str, User], key: str, licenses: list[Json]) -> Json:
    tenant, group = key.split("/")
    skus = {licence["skuId"] for licence in licenses}
    members = [u for u in users.values() if u.known and u.tenant.id == tenant and group in u.groups]
    errors: Counter[str] = Counter()
    licensed = with_errors = 0
    for user in s.watch.users.values():
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


def _addresses(machines: list[PartitionMachine], users: dict[str, User]) -> None:
    """R18: one owner per address, and everybody else who has it knows who that is."""
    claims: dict[str, list[str]] = {}
    for machine in machines:
        for key, row in machine.addresses.claims.items():
            claims[key] = [claim[2] for claim in row]
    claimed: dict[str, set[str]] = {}
    for user in users.values():
        mine = {normalize_proxy_address(a) for a in user.addresses} if user.known else set()
        for address in mine:
            claimed.setdefault(f"{user.tenant.id}/{address}", set()).add(user.id)
        owners = {a: claims.get(f"{user.tenant.id}/{a}", ["nobody"])[0] for a in mine}
        wanted = {a: owner for a, owner in owners.items() if owner != user.id}
        found = user.more.duplicates if user.more else {}
        require(found == wanted, "R18 duplicates", user.id, found, wanted)
    found_claims = {key: set(row) for key, row in claims.items()}
    require(found_claims == claimed, "R18 claims", found_claims, claimed)


def _answers(s: Simulation) -> None:
    """Every command is answered once, or deferred until its products are defined (R21)."""
    answers: dict[tuple[str, str], list[str]] = {}
    for output in s.broker.outputs:
        if output.topic == "results":
            status = output.value["status"]
            answers.setdefault((output.key, output.value["causedBy"]), []).append(status)
    defined = {i.key for i in s.setting.inputs if i.topic == "catalog"}
    for i in s.sent.values():
        if not isinstance(i.event, COMMANDS):
            continue
        given = answers.pop((i.key, i.event.id), [])
        if isinstance(i.event, ev.LicensesChanged) and given == ["deferred"]:
            named = {*dict(i.event.add), *i.event.remove}
            require(not named <= defined, "answers", i, "stays deferred")
            continue
        final = given[1:] if given[:1] == ["deferred"] else given
        require(final in (["applied"], ["rejected"]), "answers", i, given)
    require(not answers, "answers", "nobody asked", answers)


def places(s: Simulation) -> list[tuple[str, int]]:
    """Where the inputs of this simulation go; for reading a story."""
    return sorted({(i.key, partition_of(i.key, s.setting.partitions)) for i in s.setting.inputs})
