"""A replica of a tenant in the what-if engine, made of rows that follow from the read model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import orjson

from engine.domain.events import SubscriptionDeleted, SubscriptionUpdated
from engine.domain.proxy_address import normalize_proxy_address
from engine.membership_rules.rule_set import MembershipRule
from engine.partition_machine import PartitionMachine
from engine.rules.mail_attributes import mail_key
from engine.rules.outcome import AssignmentProblem, ErrorReason, Outcome
from engine.state import row_codecs, user_mail
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
from engine.state.user_row_codecs import OptionalUserFacts
from streams.console.read_model import queries
from streams.console.read_model.graph_mapping import sku_to_graph
from streams.console.read_model.rule_matches import attributes_of, matches, rule_of, values_of
from streams.console.whatif import reconstruction
from streams.console.whatif.affected_users import DEFERRED
from streams.console.whatif.reconstruction import (
    AbsentUser,
    Connection,
    ReconstructedUser,
    milliseconds,
)
from streams.contract.event_reader import Event
from streams.whatif import SeatFigures, Simulation
from streams.whatif.comparison import seat_figures


class TenantReplica:
    """Some users of a tenant, and all its groups and products, in a simulation of their own.

    ``names``: the users' display names. ``held_by_others``: the seats of users outside the replica
    by skuId; they are taken from the units, so that seats run short exactly where they would.
    """

    def __init__(self, db: Connection, tenant: str, users: Iterable[str], now_ms: int) -> None:
        built = ReplicaRows(db, tenant, users)
        self.names, self.held_by_others = built.names, built.held_by_others
        self.simulation = Simulation(built.rows, now_ms, keep_applied=True)

    def apply(self, given: Iterable[Event]) -> None:
        """Applies the events, each to its end."""
        self.simulation.run_one_by_one(map(self._without_others, given))

    def _without_others(self, each: Event) -> Event:
        event = each.event
        if isinstance(event, SubscriptionDeleted):
            event = SubscriptionUpdated(*event, 0, 0, 1, 0)  # as off as with suspended units
        if not isinstance(event, SubscriptionUpdated):
            return each
        if event.enabled + event.warning > 0:
            event = event._replace(suspended=0, locked_out=0)  # not off, whatever the others hold
        less = self.held_by_others.get(event.sku, 0)
        return each._replace(event=event._replace(enabled=event.enabled - less))

    def seats(self) -> dict[str, SeatFigures]:
        """Returns the seats by skuId, including those of users outside the replica."""
        found = {}
        for (_, sku), (units, used, waiting, _) in seat_figures(self.simulation).items():
            less = self.held_by_others.get(sku, 0)
            found[sku] = SeatFigures(units + less, used + less, waiting)
        return found


class ReplicaRows:
    """The rows of a replica: ``rows`` by (table, key), as in a partition's changelog."""

    def __init__(self, db: Connection, tenant: str, users: Iterable[str]) -> None:
        self.db, self.tenant = db, tenant
        self.known = reconstruction.products(db)
        self._machine = PartitionMachine(0, 1)  # encodes users; it is given no events
        self.rows = self._machine.effects.rows
        self.names: dict[str, Any] = {}
        self._claims: dict[str, list[AddressClaimRow]] = {}
        self._owners: set[tuple[str, str]] = set()  # of derived addresses, with them
        self._held: Counter[str] = Counter()
        self._rules: dict[str, tuple[MembershipRule, int]] = {}  # with the time of the status
        self._deferred_changes = self._deferred()
        self._configure()
        for id in users:
            found = reconstruction.reconstruct_user(db, tenant, id, self.known)
            if found is not None:
                self._add(found)
            elif (absent := reconstruction.reconstruct_absent_user(db, tenant, id)) is not None:
                self._add_absent(absent)
        self.held_by_others = self._seats()
        for key, claims in self._claims.items():
            claims.sort(key=lambda c: ((key, c.user) not in self._owners, c))
            row = encode_address_claims(claims)  # the first one owns
            self.rows[row_codecs.ADDRESS_CLAIMS, f"{tenant}/{key}"] = row

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
        domain = settings.initial_domain
        facts = None if domain is None else {"initialDomain": domain}
        row = encode_tenant(*given, facts)
        self.rows[row_codecs.TENANTS, self.tenant] = row
        kept = encode_tenant_settings(TenantSettingsRow(*given, b"", facts))
        self.rows[row_codecs.TENANT_SETTINGS, self.tenant] = kept
        self._machine.load(row_codecs.TENANTS, self.tenant, row)
        for sku, one in self.known.items():
            plans = tuple(one.plans.values())
            self.rows[row_codecs.PRODUCTS, sku] = encode_product(
                sku, one.part_number, one.name, plans
            )
            self.rows[row_codecs.CATALOG_EVENTS, sku] = encode_fingerprints(b"")
            self._machine.configuration.products[sku] = one
        sql = "SELECT body FROM groups WHERE tenant = ?"
        for (text,) in self.db.execute(sql, (self.tenant,)):
            self._group(orjson.loads(text))

    def _group(self, status: dict[str, Any]) -> None:
        state = GroupState(self.tenant, status["group"])
        state.name, state.deleted, state.version = status["displayName"], status["deleted"], 1
        state.licenses = {x["skuId"]: x["disabledPlans"] for x in status["assignedLicenses"]}
        state.deferred = self._deferred_changes.get(("Group", state.group), [])
        if (rule := rule_of(status)) is not None:
            state.rule = rule.row()
            self._rules[state.group] = rule, milliseconds(status["updatedAt"])
        self.rows[row_codecs.GROUP_STATES, state.key] = state.row()
        row = encode_group(1, state.licenses, state.deleted, state.optional_facts())
        self.rows[row_codecs.GROUPS, state.key] = row
        tenant = self._machine.configuration.tenant(self.tenant)
        wanted = {sku: tuple(off) for sku, off in state.licenses.items()}
        tenant.groups[state.group] = self._machine.configuration.group(
            1, wanted, state.deleted, rule
        )

    def _add(self, found: ReconstructedUser) -> None:
        """Adds a user in its published state."""
        shown = found.user
        user = User(self._machine.configuration.tenant(self.tenant), shown["id"])
        self.names[user.id] = shown["displayName"]
        user.known, user.location, user.upn = (
            True,
            shown["usageLocation"],
            shown["userPrincipalName"],
        )
        user.mail, user.addresses = found.given_mail, found.given_addresses
        user.mail_nickname = found.given_nickname
        if shown["mailNickname"] != user_mail.nickname(user):
            user.published_nickname = shown["mailNickname"]  # kept from earlier facts (R19)
        self._add_memberships(user, found)
        user.paths, user.revision = tuple(found.paths), shown["revision"]
        offers = [found.licences[g].offer for g in found.licensing_groups]
        rest = [None] * (len(found.paths) - len(offers))
        user.outcome = Outcome(found.entries, self._problems(found), (*offers, *rest))
        since = {
            (s["skuId"], found.slot(s["assignedByGroup"])): milliseconds(s["since"])
            for s in shown["licenseAssignmentStates"]
        }
        user.state_since_ms = tuple(
            since.get((s.sku, s.path_index), 0) for s in user.outcome.states
        )
        if ("User", user.id) in self._deferred_changes:
            user.ensure_pending_work().deferred_changes = self._deferred_changes["User", user.id]
        if found.duplicates:
            user.ensure_pending_work().duplicates = found.duplicates
        self._claim(user, shown["proxyAddresses"])
        for sku in {entry.plans.sku for entry in found.entries}:
            self._held[sku] += 1
        self._machine.users.applier.write_row(user)

    def _add_memberships(self, user: User, found: ReconstructedUser) -> None:
        """Adds the memberships of a user, by events and by rules, and the attributes (R27).

        A membership by a rule is not published while the group licenses nothing. Since when it is
        one is not known then: not later than the last change of the group's status.
        """
        attributes = attributes_of(self.db, self.tenant, user.id)
        user.attributes = self._machine.configuration.attributes.of(attributes)
        groups = dict(found.groups)
        if self._rules:
            values = values_of(self.db, self.tenant, user.id)
            for group, (rule, changed_ms) in self._rules.items():
                if group not in groups and matches(rule, values):
                    groups[group] = changed_ms, 0
            user.rule_groups = tuple(sorted(self._rules.keys() & groups.keys()))
            kept = queries.kept_memberships(self.db, self.tenant, user.id)
            facts = {group: order_key(since, place).hex() for group, since, place in kept}
            user.set_optional_fact(OptionalUserFacts.KEPT_MEMBERSHIPS, facts or None)
        ordered = sorted(groups.items(), key=lambda each: (each[1], each[0]))
        user.groups = tuple(group for group, _ in ordered)
        user.member_since = b"".join(order_key(*since) for _, since in ordered)

    def _add_absent(self, found: AbsentUser) -> None:
        """Adds a user who is not known, as the recycle bin and the memberships have it (R22)."""
        user = User(self._machine.configuration.tenant(self.tenant), found.id)
        self.names[user.id] = found.name
        user.location, user.upn, user.mail = found.location, found.principal_name, found.mail
        user.addresses, user.mail_nickname = found.addresses, found.nickname
        user.groups = tuple(id for id, _ in found.groups)
        user.member_since = b"".join(order_key(*since) for _, since in found.groups)
        if found.direct is not None:
            user.set_optional_fact(OptionalUserFacts.RECYCLE_BIN, found.direct)
        self._machine.users.applier.write_row(user)

    def _claim(self, user: User, published: list[str]) -> None:
        """Adds the claims of a user, who owns what is published and was not given (R19).

        What a mail plan would bring is claimed while one is asked for (R18).
        """
        given = user_mail.given_keys(user)
        derived = [a for a in published if normalize_proxy_address(a) not in given]
        user.derived = owned = tuple(map(normalize_proxy_address, derived))
        self._owners.update((key, user.id) for key in owned)
        for address in derived:
            key = normalize_proxy_address(address)
            if user.upn is None or key != mail_key(user.upn):
                user.routing = address.partition(":")[2]
        asked_since = [
            user.since_of(n)
            for n, state in enumerate(user.outcome.states)
            if self.known[state.sku].without(state.disabled).mail
        ]
        if asked_since:
            user.derived = user_mail.derived_keys(user, mail_wanted=True)
        for key in (*given, *user.derived):
            if key not in self._claims:
                claims = reconstruction.claims(self.db, self.tenant, key)
                self._claims[key] = [AddressClaimRow(*claim, partition=0) for claim in claims]
            if all(claim.user != user.id for claim in self._claims[key]):
                since_ms = 0 if key in owned or key in given else min(asked_since)
                own = AddressClaimRow(since_ms, 0, user.id, 0, derived=key in user.derived)
                self._claims[key].append(own)

    def _problems(self, found: ReconstructedUser) -> tuple[AssignmentProblem, ...]:
        problems = []
        for s in found.user["licenseAssignmentStates"]:
            if s["state"] != "Active" and s["skuId"] in self.known:
                reason = ErrorReason(s["error"], (), s.get("message", ""))
                slot, off = found.slot(s["assignedByGroup"]), tuple(s["disabledPlans"])
                problems.append(AssignmentProblem(s["skuId"], slot, s["state"], off, reason))
        return tuple(sorted(problems, key=lambda p: (p.sku, p.path_index)))

    def _seats(self) -> dict[str, int]:
        """Writes the seats: units are what the replica's users hold, and what is free."""
        held_by_others = dict.fromkeys(self._held, 0)
        units = dict(self._held)
        off: set[str] = set()
        for row in self.db.execute(f"SELECT {queries.SKUS.query}", (self.tenant,)):
            shown = sku_to_graph(row)
            sku, used = shown["skuId"], self._held[shown["skuId"]]
            held_by_others[sku] = shown["consumedUnits"] - used
            units[sku] = shown["availableUnits"] + used
            if shown["capabilityStatus"] not in ("Enabled", "Warning"):
                off.add(sku)
        for sku in units:
            self._lease(sku, self._held[sku], units[sku], sku in off)
        return held_by_others

    def _lease(self, sku: str, used: int, units: int, off: bool) -> None:
        seats, lease, part = SeatBudget(self.tenant, sku), Lease(self.tenant, sku), PartitionLease()
        lease.granted = part.granted = part.used = used
        lease.purchased, lease.consumed = units, used
        lease.off = part.off = seats.deleted = off
        seats.units, seats.partition_leases = (units, 0, 0, 0), {0: part}
        self.rows[row_codecs.SEAT_BUDGETS, f"{self.tenant}/{sku}"] = seats.row()
        self.rows[row_codecs.LEASES, f"{self.tenant}/{sku}"] = lease.row()
