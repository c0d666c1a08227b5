"""A replica of a tenant in the engine (one partition), and the effect of events on it."""

from __future__ import annotations

import time
from typing import Any

import orjson

from engine.domain import events
from engine.domain.effects import as_json
from engine.domain.proxy_address import normalize_proxy_address
from engine.rules.outcome import AssignmentProblem, ErrorReason, Outcome
from engine.simulation.in_memory_cluster import InMemoryCluster, Output
from engine.state import row_codecs
from engine.state.group_state import GroupState
from engine.state.row_codecs import (
    AddressClaimRow,
    TenantSettingsRow,
    encode_address_claims,
    encode_fingerprints,
    encode_group,
    encode_product,
    encode_tenant,
    encode_tenant_settings,
)
from engine.state.seat_budget import PartitionLease, SeatBudget
from engine.state.seat_lease import Lease
from engine.state.tenant_state import User, order_key
from engine.state.user_row_codecs import decode_entries, decode_user
from streams.console.read_model import queries
from streams.console.read_model.graph_mapping import sku_to_graph
from streams.console.whatif import reconstruction
from streams.console.whatif.affected_users import DEFERRED, decoded, reached
from streams.console.whatif.reconstruction import Connection, ReconstructedUser, milliseconds
from streams.contract.event_reader import Event

SHOWN = 1_000


# --- the replica ---------------------------------------------------------------------------------


class TenantReplica:
    """The tenant in one partition. ``held_by_others``: seats of users outside the replica."""

    def __init__(self, db: Connection, tenant: str, users: list[str]) -> None:
        self.db, self.tenant = db, tenant
        self.known = reconstruction.products(db)
        self.cluster = InMemoryCluster(1)
        self.machine = self.cluster.machines[0]
        self.rows = self.machine.effects.rows
        self.claims: dict[str, list[AddressClaimRow]] = {}
        self.names: dict[str, Any] = {}
        self.deferred = self._deferred()
        self._configure()
        for id in users:
            standing = reconstruction.reconstruct_user(db, tenant, id, self.known)
            if standing is not None:
                self._add(standing)
        self.held_by_others = self._seats()
        for text, claims in self.claims.items():
            row = encode_address_claims(claims)
            self.rows[row_codecs.ADDRESS_CLAIMS, f"{tenant}/{text}"] = row
        self.cluster.commit(0)
        self.cluster.restart(0)
        self.cluster.settle()

    def _deferred(self) -> dict[tuple[str, str], list[list[Any]]]:
        """Returns the changes that wait for a product (R21), by (User or Group, id)."""
        found: dict[tuple[str, str], list[list[Any]]] = {}
        sql = f"SELECT d.kind, d.target, d.cause, d.at, d.body {DEFERRED} ORDER BY d.rowid"
        for kind, target, cause, at, body in self.db.execute(sql, (self.tenant,)):
            add, remove = orjson.loads(body)
            found.setdefault((kind, target), []).append([cause, add, remove, at])
        return found

    def _configure(self) -> None:
        """Products, the tenant's settings, and its groups."""
        settings = reconstruction.settings(self.db, self.tenant)
        given = settings.location, settings.automatic, settings.convert
        row = encode_tenant(*given)
        self.rows[row_codecs.TENANTS, self.tenant] = row
        kept = encode_tenant_settings(TenantSettingsRow(*given, seen_fingerprints=b""))
        self.rows[row_codecs.TENANT_SETTINGS, self.tenant] = kept
        self.machine.load(row_codecs.TENANTS, self.tenant, row)
        for sku, one in self.known.items():
            plans = tuple(one.plans.values())
            self.rows[row_codecs.PRODUCTS, sku] = encode_product(
                sku, one.part_number, one.name, plans
            )
            self.rows[row_codecs.CATALOG_EVENTS, sku] = encode_fingerprints(b"")
            self.machine.configuration.products[sku] = one
        sql = "SELECT body FROM groups WHERE tenant = ?"
        for (text,) in self.db.execute(sql, (self.tenant,)):
            self._group(orjson.loads(text))

    def _group(self, status: dict[str, Any]) -> None:
        state = GroupState(self.tenant, status["group"])
        state.name, state.deleted, state.version = status["displayName"], status["deleted"], 1
        state.licenses = {x["skuId"]: x["disabledPlans"] for x in status["assignedLicenses"]}
        state.deferred = self.deferred.get(("Group", state.group), [])
        self.rows[row_codecs.GROUP_STATES, state.key] = state.row()
        row = encode_group(1, state.licenses, state.deleted)
        self.rows[row_codecs.GROUPS, state.key] = row
        tenant = self.machine.configuration.tenant(self.tenant)
        wanted = {sku: tuple(off) for sku, off in state.licenses.items()}
        tenant.groups[state.group] = self.machine.configuration.group(1, wanted, state.deleted)

    def _add(self, found: ReconstructedUser) -> None:
        """Adds a user in its published state."""
        shown = found.user
        user = User(self.machine.configuration.tenant(self.tenant), shown["id"])
        self.names[user.id] = shown["displayName"]
        user.known, user.location, user.upn = (
            True,
            shown["usageLocation"],
            shown["userPrincipalName"],
        )
        user.mail, user.addresses = shown["mail"], tuple(shown["proxyAddresses"])
        user.groups = tuple(id for id, _ in found.groups)
        user.member_since = b"".join(order_key(*since) for _, since in found.groups)
        user.paths, user.revision = tuple(found.paths), shown["revision"]
        asked = [found.licences[g].offer for g in found.asked]
        rest = [None] * (len(found.paths) - len(asked))
        user.outcome = Outcome(found.entries, self._problems(found), (*asked, *rest))
        since = {
            (s["skuId"], found.slot(s["assignedByGroup"])): milliseconds(s["since"])
            for s in shown["licenseAssignmentStates"]
        }
        user.state_since_ms = tuple(
            since.get((s.sku, s.path_index), 0) for s in user.outcome.states
        )
        if ("User", user.id) in self.deferred:
            user.ensure_pending_work().deferred_changes = self.deferred["User", user.id]
        if found.duplicates:
            user.ensure_pending_work().duplicates = found.duplicates
        for text in map(normalize_proxy_address, user.addresses):
            if text not in self.claims:
                claims = reconstruction.claims(self.db, self.tenant, text)
                self.claims[text] = [AddressClaimRow(*claim, partition=0) for claim in claims]
        self.machine.users.applier.write_row(user)

    def _problems(self, found: ReconstructedUser) -> tuple[AssignmentProblem, ...]:
        problems = []
        for s in found.user["licenseAssignmentStates"]:
            if s["state"] != "Active" and s["skuId"] in self.known:
                reason = ErrorReason(s["error"], (), s.get("message", ""))
                slot, off = found.slot(s["assignedByGroup"]), tuple(s["disabledPlans"])
                problems.append(AssignmentProblem(s["skuId"], slot, s["state"], off, reason))
        return tuple(sorted(problems, key=lambda p: (p.sku, p.path_index)))

    def _seats(self) -> dict[str, int]:
        """Units are what the copied users hold, and what is free."""
        held: dict[str, int] = {}
        for (table, _), row in self.rows.items():
            if table == row_codecs.USERS and row is not None:
                entries = decode_entries(decode_user(orjson.loads(as_json(row))).entries)
                for sku in {self._sku(entry.plan_set_key) for entry in entries}:
                    held[sku] = held.get(sku, 0) + 1
        held_by_others = {}
        rows = self.db.execute(f"SELECT {queries.SKUS.query}", (self.tenant,)).fetchall()
        for shown in map(sku_to_graph, rows):
            sku, used = shown["skuId"], held.get(shown["skuId"], 0)
            held_by_others[sku] = shown["consumedUnits"] - used
            self._lease(sku, used, shown["availableUnits"] + used)
        for sku in held.keys() - held_by_others.keys():
            held_by_others[sku] = 0
            self._lease(sku, held[sku], held[sku])
        return held_by_others

    def _sku(self, plans: str) -> str:
        return str(self.machine.users.applier.plans[plans].sku)

    def _lease(self, sku: str, used: int, units: int) -> None:
        seats, lease, part = SeatBudget(self.tenant, sku), Lease(self.tenant, sku), PartitionLease()
        lease.granted = part.granted = part.used = used
        lease.purchased, lease.consumed = units, used
        seats.units, seats.partition_leases = (units, 0, 0, 0), {0: part}
        self.rows[row_codecs.SEAT_BUDGETS, f"{self.tenant}/{sku}"] = seats.row()
        self.rows[row_codecs.LEASES, f"{self.tenant}/{sku}"] = lease.row()

    # -- asking it
    def apply(self, given: list[Event]) -> None:
        """Applies the events, each to its end."""
        at = max(int(time.time() * 1000), 0)
        for number, (topic, key, _, event, _) in enumerate(given):
            if isinstance(event, events.SubscriptionUpdated):
                less = self.held_by_others.get(event.sku, 0)
                event = event._replace(enabled=event.enabled - less)
            self.cluster.publish(topic, key.decode(), event, at + number)
            self.cluster.settle()

    def latest(self, topic: str) -> dict[str, Any]:
        """Returns key -> last output of a topic."""
        return {o.key: o.value for o in self.cluster.outputs if o.topic == topic}

    def outputs_since(self, mark: int) -> list[Output]:
        """Returns the outputs after the first ``mark``."""
        return self.cluster.outputs[mark:]

    def states(self) -> dict[str, dict[tuple[str, str], tuple[str, str, str]]]:
        """Returns state, error and message by user and by (skuId, group)."""
        users = self.cluster.machines[0].configuration.tenant(self.tenant).users
        return {
            id: {
                (s.sku, user.path(s.path_index)): (s.state, s.reason.error, s.reason.message)
                for s in user.outcome.states
            }
            for id, user in users.items()
        }

    def seats(self) -> dict[str, tuple[int, int, int]]:
        """Returns units, consumed and waiting by skuId, including users that are not copied."""
        found = {}
        machine = self.cluster.machines[0]
        for key, seats in machine.products.budgets.items():
            sku = key.partition("/")[2]
            lease = machine.configuration.tenant(self.tenant).lease(sku)
            less = self.held_by_others.get(sku, 0)
            found[sku] = (seats.capacity + less, lease.used + less, lease.waiting)
        return found


# --- the difference ------------------------------------------------------------------------------


def outcome(db: Connection, tenant: str, given: list[Any], most: int) -> dict[str, Any]:
    """Returns the outcome of the events.

    Raises: EventNotReadableError, ScopeTooLargeError.
    """
    readable = decoded(tenant, given)
    users = reached(db, tenant, readable, most)
    replica = TenantReplica(db, tenant, users)
    before, seats_before = replica.states(), replica.seats()
    mark = len(replica.cluster.outputs)
    replica.apply(readable)
    failures, cleared, changes = _compare(replica, before, replica.states())
    names = queries.group_names(db, tenant, {f["group"] for f in failures if f["group"]})
    for failure in failures:
        failure["groupDisplayName"] = names.get(failure["group"])
    return {
        "events": len(given),
        "usersEvaluated": len(users),
        "usersChanged": len({c["user"] for c in changes}),
        "usersFailing": len({f["user"] for f in failures}),
        "results": [
            output.value for output in replica.outputs_since(mark) if output.topic == "results"
        ],
        "failures": failures[:SHOWN],
        "failuresTotal": len(failures),
        "cleared": cleared[:SHOWN],
        "clearedTotal": len(cleared),
        "changes": changes[:SHOWN],
        "changesTotal": len(changes),
        "seats": _seat_changes(replica, seats_before),
    }


States = dict[str, dict[tuple[str, str], tuple[str, str, str]]]


def _compare(
    replica: TenantReplica, before: States, after: States
) -> tuple[list[Any], list[Any], list[Any]]:
    """Errors that would come, errors that would go, and products gained and lost."""
    failures, cleared, changes = [], [], []
    for id in sorted(before.keys() | after.keys()):
        was, now = before.get(id, {}), after.get(id, {})
        for path in sorted(was.keys() | now.keys()):
            old, new = was.get(path), now.get(path)
            old_error, new_error = old[1] if old else "None", new[1] if new else "None"
            if new and new_error not in ("None", old_error):
                failures.append(_row(replica, id, path) | _why(new))
            elif old and old_error != "None" and new_error == "None":
                cleared.append(_row(replica, id, path) | {"error": old_error})
        had = {path[0] for path, state in was.items() if state[0] != "Error"}
        has = {path[0] for path, state in now.items() if state[0] != "Error"}
        for sku, change in [
            *((s, "gained") for s in sorted(has - had)),
            *((s, "lost") for s in sorted(had - has)),
        ]:
            changes.append(_row(replica, id, (sku, "")) | {"change": change})
    return failures, cleared, changes


def _row(replica: TenantReplica, id: str, path: tuple[str, str]) -> dict[str, Any]:
    known = replica.cluster.machines[0].configuration.products.get(path[0])
    return {
        "user": id,
        "displayName": replica.names.get(id),
        "skuId": path[0],
        "skuPartNumber": known.part_number if known else None,
        "group": path[1] or None,
    }


def _why(state: tuple[str, str, str]) -> dict[str, str]:
    return {"state": state[0], "error": state[1], "message": state[2]}


def _seat_changes(
    replica: TenantReplica, before: dict[str, tuple[int, int, int]]
) -> list[dict[str, Any]]:
    """Products whose figures would be others, and by how many seats each would be short."""
    found = []
    for sku, (units, consumed, waiting) in sorted(replica.seats().items()):
        was = before.get(sku, (0, 0, 0))
        if was == (units, consumed, waiting):
            continue
        known = replica.cluster.machines[0].configuration.products.get(sku)
        found.append(
            {
                "skuId": sku,
                "skuPartNumber": known.part_number if known else sku,
                "units": units,
                "unitsBefore": was[0],
                "consumed": consumed,
                "consumedBefore": was[1],
                "available": units - consumed,
                "waiting": waiting,
                "waitingBefore": was[2],
                "short": waiting,
            }
        )
    return found
