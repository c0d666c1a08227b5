"""A whole system as a sequential oracle: one event at a time, everything settled in between.

`World.apply(topic, event, at)` takes events that `contract.read` accepts. `at` is when the event
was recorded: (timestamp in milliseconds, offset). `World.log` holds what was published,
`World.latest` the latest of each key, `World.state(tenant)` a short form to compare.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tests.spec import documents, mail
from tests.spec.adoption import Adopted, adopt, ready
from tests.spec.changes import (
    USER_NOT_FOUND,
    Rejection,
    change_direct,
    change_group,
    undefined_products,
)
from tests.spec.events import (
    adopted_licenses,
    change_of_licenses,
    milliseconds,
    named_products,
    read_product,
)
from tests.spec.licensing import (
    COUNT,
    AssignmentState,
    Entry,
    EvaluationInput,
    Group,
    Product,
    evaluate,
    held,
)

At = Any
Json = dict[str, Any]
NO_UNITS = {"enabled": 0, "warning": 0, "suspended": 0, "lockedOut": 0}


@dataclass
class User:
    known: bool = False
    principal_name: str | None = None
    location: str | None = None
    mail: str | None = None
    addresses: list[str] = field(default_factory=list)
    nickname: str | None = None  # as given
    published_nickname: str | None = None
    routing: str | None = None  # R19: stays once it is made
    memberships: dict[str, At] = field(default_factory=dict)  # group -> since when
    entries: tuple[Entry, ...] = ()
    states: tuple[AssignmentState, ...] = ()
    since: dict[tuple[str, str | None], tuple[str, str, At]] = field(default_factory=dict)
    to_adopt: list[Adopted] = field(default_factory=list)  # R25: waits for a product or a group
    bin: dict[str, frozenset[str]] | None = None  # R22: direct licences of a user to be restored


@dataclass
class Tenant:
    name: str
    location: str | None = None
    seat_retry: str = "automatic"
    on_group_deletion: str = "convert"
    users: dict[str, User] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    licensed: set[str] = field(default_factory=set)  # groups with a change or deletion applied
    group_names: dict[str, str | None] = field(default_factory=dict)
    units: dict[str, dict[str, int]] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)  # products whose subscription was deleted
    domain: str | None = None
    book: mail.AddressBook = field(default_factory=mail.AddressBook)
    affected: set[str] = field(default_factory=set)  # by a released address
    waiting: dict[str, dict[str, At]] = field(default_factory=dict)  # skuId -> user -> since when

    def holders(self, sku: str) -> set[str]:
        return {name for name, user in self.users.items() if sku in held(user.entries)}

    def purchased(self, sku: str) -> int:
        units = self.units.get(sku, NO_UNITS)
        return units["enabled"] + units["warning"]

    def available(self, sku: str) -> int:
        return self.purchased(sku) - len(self.holders(sku))

    def capability(self, sku: str) -> str:
        """Returns `capabilityStatus`; a product without any units is Enabled, too."""
        if sku in self.cancelled:
            return "Deleted"
        units = self.units.get(sku, NO_UNITS)
        return next((kind[0].upper() + kind[1:] for kind in units if units[kind]), "Enabled")

    def off(self) -> frozenset[str]:
        """Returns the products that are off (R15)."""
        working = ("Enabled", "Warning")
        return frozenset(sku for sku in self.units if self.capability(sku) not in working)

    def touched_by_group(self, group: str) -> list[str]:
        """Its members, and those who left and still have an entry through it."""
        return [
            name
            for name, user in self.users.items()
            if group in user.memberships or any(e.path == group for e in user.entries)
        ]


class World:
    def __init__(self) -> None:
        self.products: dict[str, Product] = {}
        self.part_numbers: dict[str, str | None] = {}
        self.tenants: dict[str, Tenant] = {}
        self.deferred: list[tuple[str, Json]] = []
        self.seen: set[tuple[object, ...]] = set()
        self.cause: Json = {}  # the event that is being applied
        self.log: list[tuple[str, str, Json | None]] = []  # topic, key, value as published
        self.latest: dict[str, dict[str, Json | None]] = {}  # topic -> key -> value

    def apply(self, topic: str, event: Mapping[str, Any], at: At) -> None:
        """Applies an event; a repeated one changes nothing (R24)."""
        identity = (topic, event.get("tenant"), event["type"], event["id"])
        if identity in self.seen:
            return
        self.seen.add(identity)
        handler = getattr(self, f"_{topic}_{event['type']}".replace("-", "_").replace(".", "_"))
        self.cause = dict(event)
        handler(self.cause, at)
        documents.publish_rest(self, at)

    def emit(self, topic: str, key: str, value: Json | None) -> None:
        self.log.append((topic, key, value))
        self.latest.setdefault(topic, {})[key] = value

    def state(self, tenant: str) -> Json:
        return documents.short_form(self.log, tenant)

    def tenant(self, event: Json) -> Tenant:
        return self.tenants.setdefault(event["tenant"], Tenant(event["tenant"]))

    # ---- catalogue, subscriptions, tenants

    def _catalog_product_defined(self, event: Json, at: At) -> None:
        sku = event["skuId"]
        self.products[sku] = read_product(event)
        self.part_numbers[sku] = event.get("skuPartNumber")
        for tenant in self.tenants.values():
            self._evaluate_all(tenant, tenant.users, at, retry=False)
        waiting, self.deferred = self.deferred, []
        for topic, change in waiting:
            if undefined_products(self.products, named_products(change)):
                self.deferred.append((topic, change))
            elif topic == "user-changes":
                self._change_user_licenses(change, at)
            else:
                self._change_group_licenses(change, at)

    def _subscriptions_subscription_updated(self, event: Json, at: At) -> None:
        tenant = self.tenant(event)
        tenant.cancelled.discard(event["skuId"])
        self._change_units(tenant, event["skuId"], event["prepaidUnits"], at)

    def _subscriptions_subscription_deleted(self, event: Json, at: At) -> None:
        tenant = self.tenant(event)
        tenant.cancelled.add(event["skuId"])
        self._change_units(tenant, event["skuId"], {}, at)

    def _change_units(self, tenant: Tenant, sku: str, units: Json, at: At) -> None:
        """R15: holders are published as disabled, or active again."""
        tenant.units[sku] = NO_UNITS | units
        self._serve_waiting(tenant, at)
        self._evaluate_all(tenant, tenant.holders(sku), at, retry=False)

    def _tenants_tenant_updated(self, event: Json, at: At) -> None:
        tenant = self.tenant(event)
        policies = event.get("policies", {})
        tenant.location = event.get("usageLocation")
        tenant.domain = event.get("initialDomain", tenant.domain)
        tenant.seat_retry = policies.get("seatRetry", "automatic")
        tenant.on_group_deletion = policies.get("onGroupDeletion", "convert")
        self._evaluate_all(tenant, tenant.users, at, retry=False)

    # ---- groups

    def _group_changes_group_upserted(self, event: Json, at: At) -> None:
        tenant, name = self.tenant(event), event["group"]
        group = tenant.groups.get(name, Group({}))
        tenant.groups[name] = Group(group.licenses)
        tenant.group_names[name] = event.get("displayName", tenant.group_names.get(name))
        self._evaluate_all(tenant, tenant.touched_by_group(name), at)

    def _group_changes_group_deleted(self, event: Json, at: At) -> None:
        """R13: the licences go, the memberships stay as facts."""
        tenant, name = self.tenant(event), event["group"]
        tenant.groups[name] = Group({}, deleted=True)
        tenant.licensed.add(name)
        self._evaluate_all(tenant, tenant.touched_by_group(name), at)

    def _group_changes_group_reprocess(self, event: Json, at: At) -> None:
        tenant, name = self.tenant(event), event["group"]
        tenant.groups.setdefault(name, Group({}))
        tenant.licensed.add(name)
        self._evaluate_all(tenant, tenant.touched_by_group(name), at)
        self._answer("group", event, "applied")

    def _group_changes_licenses_changed(self, event: Json, at: At) -> None:
        self.tenant(event).groups.setdefault(event["group"], Group({}))
        if undefined_products(self.products, named_products(event)):
            self.deferred.append(("group-changes", event))
            self._answer("group", event, "deferred")
        else:
            self._change_group_licenses(event, at)

    _group_changes_licenses_set = _group_changes_licenses_changed  # R28

    def _change_group_licenses(self, event: Json, at: At) -> None:
        tenant, name = self.tenant(event), event["group"]
        group = tenant.groups[name]
        added, removed = change_of_licenses(event, group.licenses)
        result = change_group(self.products, group.licenses, added, removed)
        if isinstance(result, Rejection):
            self._answer("group", event, "rejected", result)
            return
        tenant.groups[name] = Group(result, deleted=group.deleted and not result)
        tenant.licensed.add(name)
        self._answer("group", event, "applied")
        self._evaluate_all(tenant, tenant.touched_by_group(name), at)

    # ---- users

    def _user_changes_user_upserted(self, event: Json, at: At) -> None:
        """Applies a patch: an absent member stays, null clears it."""
        tenant, name = self.tenant(event), event["user"]
        user = tenant.users.setdefault(name, User())
        user.known = True
        user.principal_name = event.get("userPrincipalName", user.principal_name)
        user.location = event.get("usageLocation", user.location)
        user.mail = event.get("mail", user.mail)
        user.nickname = event.get("mailNickname", user.nickname)
        user.addresses = event.get("proxyAddresses", user.addresses) or []
        restored, user.bin = user.bin, None
        if restored:
            self._restore(tenant, name, restored)
        self._evaluate_all(tenant, [name], at)

    def _restore(self, tenant: Tenant, name: str, direct: dict[str, frozenset[str]]) -> None:
        """R22: the memberships as they stand, then each direct licence by R16."""
        user = tenant.users[name]
        refused: list[Json] = []
        self._claim(tenant, name, mail.brings_mail(self.products, direct))
        user.entries = evaluate(self._facts(tenant, name)).entries
        for sku in sorted(direct):
            added = {sku: direct[sku]}
            facts = self._facts(tenant, name)
            result = change_direct(facts, added, frozenset(), needs_own_location=False)
            if isinstance(result, Rejection):
                refused.append({"skuId": sku, "error": result.error})
                continue
            before, user.entries = held(user.entries), result
            user.entries = evaluate(self._facts(tenant, name, seats_before=before)).entries
        answer: Json = {"causedBy": self.cause["id"], "tenant": tenant.name, "user": name}
        answer["status"] = "applied"
        if refused:
            answer["details"] = {"notRestored": refused}
        self.emit("results", f"{tenant.name}/{name}", answer)

    def _user_changes_user_snapshot(self, event: Json, at: At) -> None:
        """R25: all facts of the user are replaced, and what it holds is adopted."""
        tenant, name = self.tenant(event), event["user"]
        user = tenant.users.setdefault(name, User())
        user.known, user.bin = True, None
        user.principal_name, user.mail = event.get("userPrincipalName"), event.get("mail")
        user.location = event.get("usageLocation")
        user.nickname, user.addresses = event.get("mailNickname"), event.get("proxyAddresses") or []
        memberships: dict[str, At] = {}
        for membership in event.get("memberships", ()):
            group, since = membership["group"], milliseconds(membership.get("since"))
            tenant.groups.setdefault(group, Group({}))
            begun = user.memberships.get(group, at) if since is None else (min(since, at[0]), 0)
            memberships[group] = begun
        for group in user.memberships:
            tenant.groups.setdefault(group, Group({}))
        user.memberships = memberships
        before = held(user.entries)
        licenses = [
            replace(one, since=None if one.since is None else min(one.since, at[0]))
            for one in adopted_licenses(event).values()
        ]
        defined = [one for one in licenses if one.sku in self.products]
        user.entries = adopt((), defined, self.products)
        self._evaluate(tenant, name, at, seats_before=before | held(user.entries))
        has = {(e.sku, e.path) for e in user.entries}
        user.to_adopt = [
            one
            for one in licenses
            if (one.path is None or one.path in user.memberships)
            and (
                one.sku not in self.products
                or (one.path not in tenant.licensed and (one.sku, one.path) not in has)
            )
        ]
        self._serve_waiting(tenant, at)
        self._tell_affected(tenant, at)

    def _adopt_late(self, tenant: Tenant, user: User) -> frozenset[str]:
        """R25: adopts what waited for its product or its group; returns the seats it brings."""
        late, left = [], []
        for one in user.to_adopt:
            now = ready(one, self.products, tenant.groups, tenant.licensed, user.memberships)
            if now:
                late.append(one)
            elif now is False:
                left.append(one)
        user.to_adopt = left
        before = user.entries
        user.entries = adopt(before, late, self.products)
        return held(user.entries)

    def _user_changes_user_deleted(self, event: Json, at: At) -> None:
        tenant, name = self.tenant(event), event["user"]
        if name not in tenant.users:
            return
        user = tenant.users[name]
        restorable = event.get("restorable", False)
        if restorable and not user.known:
            return
        tenant.affected |= tenant.book.hold(name, set())
        if restorable:
            user.bin = {e.sku: e.disabled_plans for e in user.entries if e.path is None}
            user.known, user.routing, user.published_nickname = False, None, None
            user.entries, user.states, user.since = (), (), {}
            user.to_adopt = []
        else:
            del tenant.users[name]
        documents.publish_user(self, tenant, name, at)
        for line in tenant.waiting.values():
            line.pop(name, None)
        self._serve_waiting(tenant, at)
        self._tell_affected(tenant, at)

    def _claim(self, tenant: Tenant, name: str, brought: bool = False) -> None:
        """R18: claims what the user has or would have, before a mail plan; releases the rest."""
        user = tenant.users[name]
        wanted = brought or mail.mail_wanted(user, self.products, tenant.groups)
        claimed = mail.claimed_addresses(user, name, tenant.domain, tenant.book, wanted)
        tenant.affected |= tenant.book.hold(name, claimed)

    def _claim_first(self, tenant: Tenant, name: str, facts: dict[str, Any]) -> None:
        """R18: claims what an evaluation would bring, before it is made."""
        user = tenant.users[name]
        present = {a for a, users in tenant.book.claims.items() if name in users}
        tenant.book.hold(name, present | set(map(mail.plain_address, mail.given_addresses(user))))
        before, user.entries = user.entries, evaluate(self._facts(tenant, name, **facts)).entries
        self._claim(tenant, name)
        user.entries = before

    def _tell_affected(self, tenant: Tenant, at: At) -> None:
        """R18: when an address is released, the former duplicates are re-evaluated."""
        while tenant.affected:
            name = min(tenant.affected)
            tenant.affected.remove(name)
            if name in tenant.users:
                self._evaluate(tenant, name, at, retry=False)
                self._serve_waiting(tenant, at)

    def _user_changes_membership_added(self, event: Json, at: At) -> None:
        if event.get("memberType", "user") != "user":
            return
        tenant, name = self.tenant(event), event["user"]
        tenant.groups.setdefault(event["group"], Group({}))
        user = tenant.users.setdefault(name, User())
        user.memberships.setdefault(event["group"], at)
        self._evaluate_all(tenant, [name], at)

    def _user_changes_membership_removed(self, event: Json, at: At) -> None:
        tenant, name = self.tenant(event), event["user"]
        tenant.groups.setdefault(event["group"], Group({}))
        user = tenant.users.setdefault(name, User())
        user.memberships.pop(event["group"], None)
        self._evaluate_all(tenant, [name], at)

    def _user_changes_user_reprocess(self, event: Json, at: At) -> None:
        tenant, name = self.tenant(event), event["user"]
        if not tenant.users.get(name, User()).known:
            self._answer("user", event, "rejected", Rejection(USER_NOT_FOUND))
            return
        self._evaluate_all(tenant, [name], at)
        self._answer("user", event, "applied")

    def _user_changes_licenses_changed(self, event: Json, at: At) -> None:
        user = self.tenant(event).users.get(event["user"], User())
        if user.known and undefined_products(self.products, named_products(event)):
            self.deferred.append(("user-changes", event))
            self._answer("user", event, "deferred")
        else:
            self._change_user_licenses(event, at)

    _user_changes_licenses_set = _user_changes_licenses_changed  # R28

    def _change_user_licenses(self, event: Json, at: At) -> None:
        """R16, then the re-evaluation of R9."""
        tenant, name = self.tenant(event), event["user"]
        user = tenant.users.get(name, User())
        if not user.known:
            self._answer("user", event, "rejected", Rejection(USER_NOT_FOUND))
            return
        present = {e.sku: e.disabled_plans for e in user.entries if e.path is None}
        added, removed = change_of_licenses(event, present)
        self._claim(tenant, name, mail.brings_mail(self.products, added))
        result = change_direct(self._facts(tenant, name), added, removed)
        if isinstance(result, Rejection):
            self._claim(tenant, name)
            self._tell_affected(tenant, at)
            self._answer("user", event, "rejected", self._with_numbers(tenant, result))
            return
        before, user.entries = held(user.entries), result
        self._answer("user", event, "applied")
        self._evaluate(tenant, name, at, seats_before=before)
        self._serve_waiting(tenant, at)
        self._tell_affected(tenant, at)

    def _with_numbers(self, tenant: Tenant, rejected: Rejection) -> Rejection:
        sku = rejected.sku
        if rejected.error != COUNT or sku is None:
            return rejected
        numbers = {"purchased": tenant.purchased(sku), "consumed": len(tenant.holders(sku))}
        return Rejection(COUNT, sku, numbers)

    # ---- evaluation and the waiting line

    def _facts(
        self,
        tenant: Tenant,
        name: str,
        *,
        retry: bool = True,
        seats_before: frozenset[str] | None = None,
    ) -> EvaluationInput:
        user = tenant.users[name]
        denied = {sku for sku in self.products if tenant.available(sku) <= 0}
        if tenant.seat_retry == "manual" and not retry:
            denied |= {sku for sku, line in tenant.waiting.items() if name in line}
        return EvaluationInput(
            products=self.products,
            groups=tenant.groups,
            memberships=tuple(sorted(user.memberships, key=lambda g: (user.memberships[g], g))),
            entries=user.entries,
            location=user.location,
            tenant_location=tenant.location,
            on_group_deletion=tenant.on_group_deletion,
            duplicate=tenant.book.shared(name) is not None,
            denied=frozenset(denied),
            held=seats_before,
            off=tenant.off(),
        )

    def _evaluate(
        self,
        tenant: Tenant,
        name: str,
        at: At,
        *,
        retry: bool = True,
        seats_before: frozenset[str] | None = None,
    ) -> None:
        user = tenant.users[name]
        if not user.known:
            return
        if user.to_adopt:
            before = held(user.entries) if seats_before is None else seats_before
            seats_before = before | self._adopt_late(tenant, user)
        self._claim_first(tenant, name, {"retry": retry, "seats_before": seats_before})
        result = evaluate(self._facts(tenant, name, retry=retry, seats_before=seats_before))
        user.entries, user.states = result.entries, result.states
        lacked = {s.sku for s in result.states if s.error == COUNT}
        for sku in lacked:
            tenant.waiting.setdefault(sku, {}).setdefault(name, at)
        for sku, line in tenant.waiting.items():
            if sku not in lacked:
                line.pop(name, None)
        note_since(user, at)
        self._claim(tenant, name)
        user.routing = mail.made_routing(user, name, self.products, tenant.domain, tenant.book)
        documents.publish_user(self, tenant, name, at)

    def _evaluate_all(
        self, tenant: Tenant, names: Iterable[str], at: At, *, retry: bool = True
    ) -> None:
        """R8: the longest waiting user is first, then by user id; freed seats go immediately.

        Users who bring a seat (R25) are before those who ask for one.
        """
        lines = list(tenant.waiting.values())
        first = {n: min((line[n] for line in lines if n in line), default=at) for n in names}
        users = tenant.users
        for name in sorted(first, key=lambda n: (not users[n].to_adopt, first[n], n)):
            self._evaluate(tenant, name, at, retry=retry)
            self._serve_waiting(tenant, at)
        self._serve_waiting(tenant, at)
        self._tell_affected(tenant, at)

    def _serve_waiting(self, tenant: Tenant, at: At) -> None:
        """R9: with automatic retry no unit is free while somebody waits for it."""
        while tenant.seat_retry == "automatic":
            free = [s for s, line in tenant.waiting.items() if line and tenant.available(s) > 0]
            if not free:
                return
            line = tenant.waiting[min(free)]
            name = min(line, key=lambda n: (line[n], n))
            self._evaluate(tenant, name, at)
            assert name not in line, "a free unit was refused"

    def _answer(
        self, kind: str, event: Json, status: str, rejected: Rejection | None = None
    ) -> None:
        result = {"causedBy": event["id"], "tenant": event["tenant"], kind: event[kind]}
        result["status"] = status
        if rejected is not None:
            result |= {"error": rejected.error, "skuId": rejected.sku}
            result |= {"message": f"The change was rejected: {rejected.error}."}
            result |= {"details": dict(rejected.details)}
        self.emit("results", f"{event['tenant']}/{event[kind]}", result)


def note_since(user: User, at: At) -> None:
    """Notes the time at which each published state began."""
    old = user.since
    user.since = {}
    for s in user.states:
        path, (state, error, since) = (s.sku, s.path), old.get((s.sku, s.path), ("", "", at))
        since = since if (state, error) == (s.state, s.error) else at
        user.since[path] = (s.state, s.error, since)
