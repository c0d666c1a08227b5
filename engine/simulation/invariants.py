"""The invariants of each machine step and of each committed transaction."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from engine.domain.partitioner import partition_of
from engine.domain.proxy_address import normalize_proxy_address
from engine.domain.vocabulary import OTHER
from engine.machines.user_phase import UserPhase, check_at_rest, check_transition
from engine.partition_machine import PartitionMachine
from engine.rules.mail_attributes import given_addresses
from engine.simulation.in_memory_cluster import Output
from engine.simulation.simulated_broker import Broker, Transaction
from engine.state.row_codecs import (
    CLAIMS,
    LEASES,
    SEAT_BUDGETS,
    USERS,
    decode_claim,
)
from engine.state.seat_budget import SeatBudget
from engine.state.seat_lease import Lease
from engine.state.seat_row_codecs import decode_lease, decode_seat_budget
from engine.state.tenant_state import TenantState, User
from engine.state.user_row_codecs import decode_user

Json = dict[str, Any]


class SeatUsage(NamedTuple):
    """Seats of one product, as its machine counts them. ``denied``: grows with every denial."""

    units: int
    leased: int
    used: int
    denied: int
    adopted: int


NO_USAGE = SeatUsage(0, 0, 0, 0, 0)


class Violation(Exception):  # noqa: N818
    """An invariant that does not hold. ``check`` names it."""

    def __init__(self, check: str, text: str) -> None:
        super().__init__(f"{check}: {text}")
        self.check = check


def require(holds: bool, check: str, *text: object) -> None:
    """Raises Violation with the text unless ``holds``."""
    if not holds:
        raise Violation(check, " ".join(map(str, text)))


def owner_of(changelog: Mapping[tuple[str, str], str], tenant: str, address: str) -> str | None:
    """Returns the user who owns the address, by the rows of its partition."""
    for (table, key), row in changelog.items():
        if table == CLAIMS and key.startswith(f"{tenant}/"):
            _, user, claimed = key.split("/", 2)
            if claimed == address and decode_claim(user, json.loads(row))[1]:
                return user
    return None


class InvariantMonitor:
    """Checks every step and every commit.

    ``holders``: (tenant/skuId, partition) -> users published with the product. ``snapshots``: users
    whose entries a snapshot may replace (R25), so that R5 and R6 say nothing of them. ``derived``:
    tenant/address -> users published with it that were not given it.
    """

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.snapshots: set[str] = set()
        self.users: dict[str, Json] = {}
        self.revisions: dict[str, int] = {}
        self.errors: dict[str, dict[str, str]] = {}  # tenant/user -> key -> error
        self.latest: dict[str, dict[str, Json | None]] = {}  # topic -> key -> value
        self.holders: dict[tuple[str, int], set[str]] = {}
        self.derived: dict[str, set[str]] = {}

    # -- steps
    @staticmethod
    def phases(machine: PartitionMachine, phases: dict[User, UserPhase]) -> None:
        """Each change of a user's phase in this step is a transition of the table.

        ``phases``: the phases before the step, brought up to date here.
        """
        log = machine.work.phase_log
        assert log is not None
        for user, trigger, phase in log:
            before = phases.get(user, UserPhase.UNKNOWN)
            check_transition(user, before, trigger, phase)
            phases[user] = phase
        log.clear()
        for tenant in machine.configuration.tenants.values():
            for user in tenant.users.values():
                phase = machine.users.phase(user)
                check_at_rest(user, phase)
                before = phases.setdefault(user, phase)
                require(phase is before, "phases", user.id, "is", phase, "but entered", before)

    def machine(self, machine: PartitionMachine, ago: dict[str, SeatUsage]) -> None:
        """Checks a machine after a step, committed or not.

        No more is leased than there are units, but for R15; a user is denied only because every
        unit is used; and seats are conserved, in each budget and in each lease.

        ``ago``: tenant/skuId -> usage one step ago.
        """
        for key, seats in machine.products.budgets.items():
            now = seat_usage(seats)
            was = ago.get(key, NO_USAGE)
            allowed = max(now.units, was.leased + now.adopted - was.adopted)  # R25
            require(now.leased <= allowed, "never oversold", key, "leased", now, "of", allowed)
            true = now.denied == was.denied or now.used >= now.units
            require(true, "no false denial", key, "denied", now)
            ago[key] = now
            check_budget(seats)
        for tenant in machine.configuration.tenants.values():
            check_leases(tenant)

    # -- commits
    def committed(self, t: Transaction, outputs: list[Output]) -> None:
        """Checks the outputs and the leases that a transaction published."""
        touched = set()
        for topic, p, key, value in outputs:
            if topic == "user-licenses":
                touched.add(key)
                self._user(p, key, value)
            elif topic == "errors":
                user = key.rsplit("/", 2)[0]
                touched.add(user)
                self._error(user, key, value)
            if topic not in ("results", "audit"):
                self.latest.setdefault(topic, {})[key] = value
        for user in touched:
            self._errors_agree(user)
            self._derived_addresses(t.partition, user)
        for table, key in t.rows:
            if table == LEASES:
                self._lease(t.partition, key)

    def _user(self, p: int, key: str, value: Json | None) -> None:
        old = self.users.pop(key, None)
        for sku in held_skus(old):
            self.holders[f"{key.split('/')[0]}/{sku}", p].discard(key)
        if value is None:
            require(old is not None, "no tombstone without a state", key)
            return
        expected = self.revisions.get(key, 0) + 1
        require(value["revision"] == expected, "revision", key, value["revision"], "not", expected)
        self.revisions[key] = expected
        self.users[key] = value
        for sku in held_skus(value):
            self.holders.setdefault((f"{key.split('/')[0]}/{sku}", p), set()).add(key)
        check_state(key, value)
        if key not in self.snapshots:
            check_step(key, old, value)
        if old is not None:
            require(content(old) != content(value), "R24 says something new", key, value)

    def _derived_addresses(self, p: int, key: str) -> None:
        """R18: nobody is published with a computed address that somebody else has or owns."""
        for users in self.derived.values():
            users.discard(key)
        value, changelog = self.users.get(key), self.broker.changelogs[p]
        if value is None:
            return
        row = decode_user(json.loads(changelog[USERS, key] or ""))
        if row.pending is not None and row.pending.pending_claims:
            return  # its facts are newer than the publication
        addresses = given_addresses(tuple(row.proxy_addresses), row.mail)
        given = set(map(normalize_proxy_address, addresses))
        given |= set((row.optional_facts or {}).get("ungivenClaims", ()))
        for address in set(map(normalize_proxy_address, value["proxyAddresses"])) - given:
            claimed = f"{key.split('/')[0]}/{address}"
            users = self.derived.setdefault(claimed, set())
            users.add(key)
            require(users == {key}, "R18 published of one user", claimed, users)
            changelog = self.broker.changelogs[partition_of(claimed, self.broker.partitions)]
            owner = owner_of(changelog, *claimed.split("/", 1))
            require(owner == key.split("/")[1], "R18 owned before published", key, claimed, owner)

    def _error(self, user: str, key: str, value: Json | None) -> None:
        mine = self.errors.setdefault(user, {})
        if value is None:
            require(mine.pop(key, None) is not None, "errors", key, "closed but not open")
        else:
            mine[key] = value["error"]

    def _errors_agree(self, user: str) -> None:
        value = self.users.get(user)
        wanted = {
            f"{user}/{s['assignedByGroup'] or 'direct'}/{s['skuId']}": s["error"]
            for s in (value["licenseAssignmentStates"] if value else ())
            if s["error"] != "None"
        }
        found = self.errors.get(user, {})
        require(found == wanted, "errors agree", user, "open", found, "states", wanted)

    # -- seats
    def _parts(self, key: str) -> dict[int, tuple[int, int, int]]:
        """partition -> (granted, returned, adopted), as the product machine has committed it."""
        changelog = self.broker.changelogs[partition_of(key, self.broker.partitions)]
        row = changelog.get((SEAT_BUDGETS, key))
        leases = decode_seat_budget(json.loads(row)).partition_leases if row else {}
        return {
            p: (lease.granted, lease.returned, (lease.optional_facts or {}).get("adopted", 0))
            for p, lease in leases.items()
        }

    def _lease(self, p: int, key: str) -> None:
        """Users published with the product, the partition's lease, the machine's view of it."""
        lease = decode_lease(json.loads(self.broker.changelogs[p][LEASES, key]))
        granted, returned = lease.granted, lease.returned
        adopted = (lease.optional_facts or {}).get("adopted", 0)
        used = len(self.holders.get((key, p), ()))
        within = used <= granted + adopted - returned
        require(within, "used within lease", key, p, used, granted, returned, adopted)
        theirs = self._parts(key).get(p, (0, 0, 0))
        require(adopted >= theirs[2], "adopted only by the partition", key, p, adopted, theirs)
        require(granted <= theirs[0], "granted only by the machine", key, p, granted, theirs)
        require(returned >= theirs[1], "returned only by the partition", key, p, returned, theirs)


def seat_usage(seats: SeatBudget) -> SeatUsage:
    """Returns the seat usage of a product over all its partitions."""
    parts = seats.partition_leases.values()
    return SeatUsage(
        sum(seats.units[:2]) if seats.units else 0,
        sum(part.leased for part in parts),
        sum(part.used for part in parts),
        sum(part.denied_seq for part in parts),
        sum(part.adopted for part in parts),
    )


# The conservation law of seats. Of a budget: capacity = free + the sum over the partitions of
# (granted - returned). Of a lease: granted = returned + used + reserved + idle, where used and
# reserved are counted from the users and idle is not negative. The two sides of a lease are
# compared when a transaction commits (_lease): the partition's granted is never more, and its
# returned never less, than what the budget has of it.
def check_budget(budget: SeatBudget) -> None:
    """Checks that the units of a budget are free, returned, or leased to one partition."""
    key = f"{budget.tenant}/{budget.sku}"
    leases = budget.partition_leases.values()
    leased = sum(lease.granted + lease.adopted - lease.returned for lease in leases)
    require(
        budget.capacity == budget.free_units + leased,
        "budget conserved", key, budget.capacity, "not", budget.free_units, "+", leased,
    )  # fmt: skip
    for p, lease in budget.partition_leases.items():
        unused = lease.granted + lease.adopted - lease.returned - lease.used
        counts = (lease.returned, lease.adopted, lease.used, lease.waiting, lease.demand)
        sound = min(unused, *counts) >= 0
        numbers = (lease.granted, *counts)
        require(sound, "budget conserved", key, "partition", p, numbers)


def check_leases(tenant: TenantState) -> None:
    """Checks that every unit is returned, idle, or counted for exactly one user.

    Units are granted by the product's owner, or brought by adopted users (R25).
    """
    used, reserved, waiting = Counter[str](), Counter[str](), Counter[str]()
    for user in tenant.users.values():
        used.update(user.outcome.held)
        waiting.update(user.outcome.waiting)
        if user.seat_request is not None:
            reserved.update(user.seat_request.reserved)
    without = (used.keys() | reserved.keys() | waiting.keys()) - tenant.leases.keys()
    require(not without, "lease conserved", tenant.id, "seats without a lease", without)
    for sku, lease in tenant.leases.items():
        idle = lease.granted + lease.adopted - lease.returned - used[sku] - reserved[sku]
        counted = (used[sku], reserved[sku], waiting[sku], idle)
        known = (lease.used, lease.reserved, lease.waiting, lease.idle)
        fields = lease_fields(lease)
        require(counted == known and idle >= 0, "lease conserved", sku, counted, "not", fields)


def held_skus(user: Json | None) -> set[str]:
    """Returns the products that a published user holds."""
    if user is None:
        return set()
    return {s["skuId"] for s in user["licenseAssignmentStates"] if s["state"] != "Error"}


def content(user: Json) -> Json:
    """Returns the published state without the members that change with every revision."""
    return {k: v for k, v in user.items() if k not in ("revision", "updatedAt", "causedBy")}


def check_state(key: str, user: Json) -> None:
    """Checks the order of the lists, the union (R1), and Other only beside the reason (R6)."""
    states = user["licenseAssignmentStates"]
    order = [(s["skuId"], s["assignedByGroup"] or "") for s in states]
    require(order == sorted(set(order)), "sorted, each path once", key, order)
    union: dict[str, set[str]] = {}
    for s in states:
        if s["state"] != "Error":
            off = set(s["disabledPlans"])
            union[s["skuId"]] = union.get(s["skuId"], off) & off
    assigned = {a["skuId"]: set(a["disabledPlans"]) for a in user["assignedLicenses"]}
    require(assigned == union, "R1 union", key, assigned, union)
    for s in states:
        if s["error"] == OTHER:
            reasons = [
                x["error"]
                for x in states
                if x["assignedByGroup"] == s["assignedByGroup"] and x["state"] == "Error"
            ]
            require(any(r != OTHER for r in reasons), "R6 Other has a reason", key, s)


def check_step(key: str, old: Json | None, new: Json) -> None:
    """Checks a published change.

    R5: a product admitted by a path is never refused to that path later. R6: no product of a
    group is admitted beside a refused one.
    """
    had = paths(old)
    for s in new["licenseAssignmentStates"]:
        if s["state"] != "Error":
            continue
        require((s["skuId"], s["assignedByGroup"]) not in had, "R5 never revoked", key, s, had)
        admitted = {p for p in paths(new) - had if p[1] == s["assignedByGroup"]}
        require(not admitted, "R6 all or nothing", key, admitted, "beside", s)


def paths(user: Json | None) -> set[tuple[str, str | None]]:
    """Returns the (skuId, group) of the user's admitted entries."""
    states = user["licenseAssignmentStates"] if user else ()
    return {(s["skuId"], s["assignedByGroup"]) for s in states if s["state"] != "Error"}


def lease_fields(lease: Lease) -> Json:
    """Returns the fields of a lease that a violation shows."""
    names = (
        "granted",
        "returned",
        "used",
        "reserved",
        "waiting",
        "contended",
        "waitlist",
        "open_requests",
    )
    return {name: getattr(lease, name) for name in names}
