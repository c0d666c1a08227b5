"""A tenant's state as events: a snapshot to simulate on, to inspect, or to move.

The rows of the changelog are loaded into the engine, like in a worker, and written as events in an
order that gives the same state: users as ``user.snapshot`` (R25), those who wait for a seat last. A
user in the recycle bin (R22) is taken over and deleted. Rules (R27) come before the users; a paused
one comes last, after the members that it freezes. A direct entry that could not take its new
plans (R12) cannot be expressed; the command reports the users whose state would differ.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from engine.documents.user_documents import PublishedState, published_states
from engine.domain.model import Product, timestamp
from engine.domain.vocabulary import UNIT_KINDS, RuleProcessingState
from engine.machines.rule_members import kept_memberships
from engine.membership_rules.attributes import as_dict
from engine.partition_machine import PartitionMachine
from engine.state.row_codecs import encode_product
from engine.state.seat_budget import SeatBudget
from engine.state.tenant_state import TenantState, User
from engine.state.user_row_codecs import OptionalUserFacts
from streams.contract.topics import CHANGELOG
from streams.kafka.changelog import read, reader
from streams.kafka.topic_reader import admin_client, connected, topic_partitions
from streams.runtime.errors import CONFIGURATION, WorkerError
from streams.runtime.settings import Settings

TIME = "2026-01-01T00:00:00Z"
Event = dict[str, Any]


async def partitions_of(settings: Settings) -> list[PartitionMachine]:
    """Returns the committed state of every partition. Raises: WorkerError."""
    async with connected(admin_client(settings), settings) as admin:
        places = await topic_partitions(admin, settings, [CHANGELOG.name])
    machines = []
    async with reader(settings) as consumer:
        for place in places:
            restored = await read(consumer, settings, place.partition)
            machine = PartitionMachine(place.partition, len(places))
            await restored.load_into(machine)
            machine.start()
            machines.append(machine)
    return machines


class Snapshot:
    """The events of one tenant, from all partitions. Raises: WorkerError, for an unknown tenant."""

    def __init__(self, machines: list[PartitionMachine], tenant: str) -> None:
        self.tenant = tenant
        self._machines = machines
        self._event_count = 0
        self.tenants = [
            m.configuration.tenants[tenant] for m in machines if tenant in m.configuration.tenants
        ]
        self._paused: dict[str, str] = {
            state.group: state.rule[0]
            for machine in machines
            for state in machine.groups.groups.values()
            if state.tenant == tenant and state.rule is not None and is_paused(state.rule)
        }
        if not self.tenants:
            raise WorkerError(f"the tenant {tenant} is unknown", CONFIGURATION)

    def users(self) -> list[User]:
        """Returns the users in the order in which they get their seats."""
        found = [user for tenant in self.tenants for user in tenant.users.values()]
        waiting = [user for user in found if user.outcome.waiting]
        # Users who wait for a seat come after those who have one, the longest waiting first (R8).
        # Users who share an address come after its owner (R18).
        has = [user for user in found if not user.outcome.waiting]
        has.sort(key=lambda u: (u.duplicate is not None, u.member_since[:1], u.id))
        waiting.sort(
            key=lambda u: (min(u.since_of(i) for i, _ in enumerate(u.outcome.states)), u.id)
        )
        return [*has, *waiting]

    def states(self) -> dict[str, list[PublishedState]]:
        """Returns the published states by user, for comparison."""
        return {
            user.id: published_states(user.outcome, user.paths)
            for user in self.users()
            if user.outcome.states
        }

    def events(self) -> Iterator[Event]:
        """Yields the events in an order that gives the same state."""
        users = self.users()
        # Seats of users who come last because they wait for another product: they are withheld
        # until everybody is there, so that nobody who waits gets them.
        withheld = Counter(sku for u in users if u.outcome.waiting for sku in u.outcome.held)
        yield from self._catalog()
        yield self._tenant()
        for seats in self._budgets():
            yield self._units(seats, withheld[seats.sku])
        yield from self._groups()
        has_waiting = False
        for user in users:
            if user.outcome.waiting and not has_waiting:
                has_waiting = True
                # A record of another topic ends the batch: what users hold is adopted, which may
                # wait for their addresses (R18), before others ask for a seat.
                yield from (self._units(s, withheld[s.sku]) for s in [*self._budgets()][:1])
            yield from self._user(user)
        yield from self._paused_rules(users)
        for seats in self._budgets():
            if seats.deleted:
                yield self._event("subscription.deleted", skuId=seats.sku)
            elif withheld[seats.sku]:
                yield self._units(seats, 0)

    def lines(self) -> Iterator[bytes]:
        """Yields the events as JSON Lines."""
        return (orjson.dumps(event) for event in self.events())

    def _event(self, kind: str, **members: Any) -> Event:
        self._event_count += 1
        id = f"snapshot:{self._event_count}"
        return {"type": kind, "id": id, "time": TIME, "tenant": self.tenant, **members}

    def _catalog(self) -> Iterator[Event]:
        """Yields the products that the tenant uses, and no others."""
        products = self._machines[0].configuration.products
        named = {
            sku
            for tenant in self.tenants
            for group in tenant.groups.values()
            for sku in group.licenses
        }
        named |= {seats.sku for m in self._machines for seats in m.products.budgets.values()}
        named |= {e.plans.sku for user in self.users() for e in user.outcome.entries}
        for sku in sorted(named & products.keys()):
            yield _defined(products[sku])

    def _tenant(self) -> Event:
        settings = self.tenants[0].settings
        policies = {
            "seatRetry": "automatic" if settings.automatic else "manual",
            "onGroupDeletion": "convert" if settings.convert else "error",
        }
        return self._event(
            "tenant.updated",
            usageLocation=settings.location,
            initialDomain=settings.initial_domain,
            policies=policies,
        )

    def _budgets(self) -> Iterator[SeatBudget]:
        """Yields the products that have units."""
        for machine in self._machines:
            for seats in machine.products.budgets.values():
                if seats.tenant == self.tenant and seats.units is not None:
                    yield seats

    def _units(self, seats: SeatBudget, withheld: int) -> Event:
        assert seats.units is not None
        enabled, *rest = seats.units
        units = (max(0, enabled - withheld), *rest)
        prepaid = dict(zip(UNIT_KINDS, units, strict=True))
        return self._event("subscription.updated", skuId=seats.sku, prepaidUnits=prepaid)

    def _groups(self) -> Iterator[Event]:
        for machine in self._machines:
            for state in machine.groups.groups.values():
                if state.tenant != self.tenant:
                    continue
                rule = {}
                if state.rule is not None and not is_paused(state.rule):
                    rule = {"membershipRule": state.rule[0]}
                yield self._event(
                    "group.upserted", group=state.group, displayName=state.name, **rule
                )
                for _, listed, removed, _ in [["", state.licenses.items(), (), 0], *state.deferred]:
                    added = [{"skuId": sku, "disabledPlans": list(off)} for sku, off in listed]
                    if added or removed or removed is None:
                        yield self._licenses(added, removed, group=state.group)
                if state.deleted:
                    yield self._event("group.deleted", group=state.group)

    def _paused_rules(self, users: list[User]) -> Iterator[Event]:
        """Yields the paused rules, and the memberships that they keep from counting.

        Those that stood for what the rule had made are taken away.
        """
        paused = sorted(self._paused)
        for group in paused:
            yield self._event(
                "group.upserted",
                group=group,
                membershipRule=self._paused[group],
                membershipRuleProcessingState=RuleProcessingState.PAUSED.value,
            )
        for user in users:
            made, kept = set(user.rule_groups), kept_memberships(user).keys()
            for kind, groups in (("added", kept - made), ("removed", made - kept)):
                for group in sorted(groups & self._paused.keys()):
                    yield self._event(f"membership.{kind}", user=user.id, group=group)

    def _licenses(self, added: list[Event], removed: Iterable[str] | None, **target: str) -> Event:
        """Returns a change of licences; a whole list (R28) if ``removed`` is None."""
        if removed is None:
            return self._event("licenses.set", **target, licenses=added)
        change = {"addLicenses": added, "removeLicenses": list(removed)}
        return self._event("licenses.changed", **target, **change)

    def _user(self, user: User) -> Iterator[Event]:
        direct = (user.optional_facts or {}).get(OptionalUserFacts.RECYCLE_BIN)
        if user.known or direct is not None:
            yield self._event(
                "user.snapshot",
                user=user.id,
                userPrincipalName=user.upn,
                usageLocation=user.location,
                mail=user.mail,
                mailNickname=user.mail_nickname or user.published_nickname,
                proxyAddresses=list(user.addresses),
                attributes=as_dict(user.attributes),
                memberships=self._memberships(user),
                licenseAssignmentStates=_held(user) if direct is None else _in_bin(direct),
            )
        else:
            for group in (*user.groups, *kept_memberships(user)):
                yield self._event("membership.added", user=user.id, group=group)
        if direct is not None:
            yield self._event("user.deleted", user=user.id, restorable=True)
        for _, added, removed, _ in user.pending_work.deferred_changes if user.pending_work else ():
            listed = [{"skuId": sku, "disabledPlans": list(off)} for sku, off in added]
            yield self._licenses(listed, removed, user=user.id)

    def _memberships(self, user: User) -> list[Event]:
        """Returns the memberships in their order (R8), with times that give the same order.

        Those that a rule makes follow from it, and those that it keeps from counting are kept
        again. Of a paused rule, those that it made stand here, and the others come after it.
        """
        made = set(user.rule_groups) - self._paused.keys()
        keys = {group: key for group, key in user.memberships().items() if group not in made}
        kept = {
            group: bytes.fromhex(key)
            for group, key in kept_memberships(user).items()
            if group not in self._paused
        }
        found, last = [], -1
        for group, key in sorted((kept | keys).items(), key=lambda each: each[1]):
            last = max(last + 1, int.from_bytes(key[:6], "big"))  # equal times: by offset until now
            found.append({"group": group, "since": timestamp(last)})
        return found


def is_paused(rule: list[Any]) -> bool:
    """Returns True for the row of a rule that is paused."""
    return bool(rule[1])


def _held(user: User) -> list[Event]:
    """Returns the licences of a user, and those that wait to be adopted (R25)."""
    since = {(s.sku, s.path_index): user.since_of(i) for i, s in enumerate(user.outcome.states)}
    found = [
        _state(
            entry.plans.sku,
            user.path(entry.path_index),
            entry.plans.disabled,
            since[entry.plans.sku, entry.path_index],
        )
        for entry in sorted(user.outcome.entries, key=lambda e: (e.admission_order, e.plans.sku))
    ]
    _, adopted = (user.optional_facts or {}).get(OptionalUserFacts.ADOPTION, (False, ()))
    return [*found, *(_state(*licence) for licence in adopted)]


def _in_bin(direct: list[Any]) -> list[Event]:
    return [_state(sku, "", disabled, None) for sku, disabled in direct]


def _state(sku: str, group: str, disabled: Iterable[str], since_ms: int | None) -> Event:
    return {
        "skuId": sku,
        "assignedByGroup": group or None,
        "disabledPlans": list(disabled),
        "state": "Active",
        "error": "None",
        "since": None if since_ms is None else timestamp(since_ms),
    }


def _defined(product: Product) -> Event:
    sku, part, name, plans = encode_product(
        product.id, product.part_number, product.name, tuple(product.plans.values())
    )
    members = (
        "servicePlanId", "servicePlanName", "appliesTo", "exclusiveSets", "requires",
        "prohibitedLocations", "mailEnabled",
    )  # fmt: skip
    return {
        "type": "product.defined",
        "id": f"snapshot:{sku}",
        "time": TIME,
        "skuId": sku,
        "skuPartNumber": part,
        "displayName": name,
        "servicePlans": [dict(zip(members, plan, strict=True)) for plan in plans],
    }


def differences(snapshot: Snapshot) -> list[str]:
    """Returns the users for whom a simulation of the snapshot gives another state."""
    from streams.contract.event_reader import event_of
    from streams.whatif import Simulation

    simulation = Simulation()
    simulation.run(_read(snapshot.lines(), event_of))
    tenant: TenantState = simulation.machine.configuration.tenant(snapshot.tenant)
    wanted = snapshot.states()
    found = {
        u.id: published_states(u.outcome, u.paths)
        for u in tenant.users.values()
        if u.outcome.states
    }
    return sorted(id for id in wanted.keys() | found.keys() if wanted.get(id) != found.get(id))


def _read(lines: Iterable[bytes], event_of: Any) -> Iterator[Any]:
    for number, line in enumerate(lines, start=1):
        event = event_of(line)
        if isinstance(event, str):
            raise AssertionError(f"event {number} of the snapshot cannot be read: {event}")
        yield event
