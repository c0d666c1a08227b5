"""The intended state, folded from the input topics and the answers in `results`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

from tests.checkers.history import History
from tests.spec.events import (
    adopted_licenses,
    change_of_licenses,
    milliseconds,
    named_products,
    read_product,
)
from tests.spec.facts import Group, Product
from tests.spec.mail import plain_address

Json = dict[str, Any]
LATEST = 1 << 50
"""Later than every moment in milliseconds: what a snapshot dates is before what events bring."""


@dataclass
class AskedUser:
    """The intended state of a user."""

    known: bool = False
    location: str | None = None
    principal_name: str | None = None
    mail: str | None = None
    proxy_addresses: frozenset[str] = frozenset()
    memberships: dict[str, float] = field(default_factory=dict)  # group -> place in time
    direct: dict[str, frozenset[str]] = field(default_factory=dict)  # skuId -> disabled plans
    unclear: bool = False  # a deferred change and a deletion: the logs do not tell their order

    @property
    def given_addresses(self) -> frozenset[str]:
        """The addresses that are published whatever the licences; a given mail is one (R19)."""
        return self.proxy_addresses | ({self.mail.lower()} if self.mail else set())

    @property
    def addresses(self) -> frozenset[str]:
        """The addresses that the user may claim (R18); a routing address is left out."""
        name = self.principal_name
        return self.given_addresses | ({name.lower()} if name else set())


@dataclass
class AskedGroup:
    """The intended state of a group."""

    licenses: dict[str, frozenset[str]] = field(default_factory=dict)
    deleted: bool = False
    ever_licensed: set[str] = field(default_factory=set)
    ever_deleted: bool = False
    batches: list[set[str]] = field(default_factory=list)  # products, by the change that added them
    only_grew: bool = True
    unclear: bool = False


@dataclass
class AskedTenant:
    """The intended settings of a tenant."""

    location: str | None = None
    seat_retry: str = "automatic"
    on_group_deletion: str = "convert"
    initial_domains: frozenset[str] = frozenset()
    """Of all times: a routing address stays when the domain changes (R19)."""


class Intent:
    """The facts at the end of the input; keys are tenant/user, tenant/group, tenant/skuId."""

    def __init__(self, history: History) -> None:
        self.products: dict[str, Product] = {}
        self.tenants: dict[str, AskedTenant] = {}
        self.users: dict[str, AskedUser] = {}
        self.groups: dict[str, AskedGroup] = {}
        self.units: dict[str, Json] = {}
        self.cancelled: set[str] = set()  # products whose subscription was deleted
        self.left: set[tuple[str, str]] = set()  # (tenant/user, group) removed at some time
        self.answers = answers(history)
        self.not_restored = not_restored(history)
        for position, event in enumerate(in_order_of_effect(history, self.answers)):
            self._take(event, position)

    def tenant(self, name: str) -> AskedTenant:
        return self.tenants.setdefault(name, AskedTenant())

    def purchased(self, key: str) -> int:
        units = self.units.get(key, {})
        return int(units.get("enabled", 0) + units.get("warning", 0))

    def is_off(self, key: str) -> bool:
        """Returns True for a product that is off (R15)."""
        units = self.units.get(key, {})
        blocked = units.get("suspended", 0) + units.get("lockedOut", 0) > 0
        return key in self.cancelled or (blocked and self.purchased(key) == 0)

    @cached_property
    def groups_of(self) -> dict[str, dict[str, Group]]:
        """tenant -> group -> its licences."""
        found: dict[str, dict[str, Group]] = {}
        for key, group in self.groups.items():
            tenant, name = key.split("/")
            found.setdefault(tenant, {})[name] = Group(group.licenses, group.deleted)
        return found

    @cached_property
    def members_of(self) -> dict[str, list[str]]:
        """tenant/group -> the known users among its members, as tenant/user."""
        found: dict[str, list[str]] = {}
        for key, user in self.users.items():
            for group in user.memberships if user.known else ():
                found.setdefault(f"{key.split('/')[0]}/{group}", []).append(key)
        return found

    @cached_property
    def convertible(self) -> set[tuple[str, str]]:
        """(tenant, skuId) of licences that R13 may have made direct."""
        return {
            (key.split("/")[0], sku)
            for key, group in self.groups.items()
            for sku in group.ever_licensed
            if group.ever_deleted or group.unclear
        }

    @cached_property
    def claims(self) -> Counter[tuple[str, str]]:
        """(tenant, address) -> how many known users have it."""
        return Counter(
            (key.split("/")[0], address)
            for key, user in self.users.items()
            if user.known
            for address in user.addresses
        )

    def undefined(self, event: Json) -> set[str]:
        return named_products(event) - set(self.products)

    def _take(self, event: Json, position: int) -> None:
        key = event["key"]
        match event["topic"]:
            case "catalog":
                self.products[key] = read_product(event)
            case "subscriptions":
                self.units[key] = event.get("prepaidUnits", {})
                deleted = event["type"] == "subscription.deleted"
                (self.cancelled.add if deleted else self.cancelled.discard)(key)
            case "tenants":
                policies = event.get("policies", {})
                self.tenants[key] = AskedTenant(
                    event.get("usageLocation"),
                    policies.get("seatRetry", "automatic"),
                    policies.get("onGroupDeletion", "convert"),
                    self.tenant(key).initial_domains | {(event.get("initialDomain") or "").lower()},
                )
            case "group-changes":
                self._take_group(self.groups.setdefault(key, AskedGroup()), event)
            case "user-changes":
                self._take_user(self.users.setdefault(key, AskedUser()), event, position)

    def _take_group(self, group: AskedGroup, event: Json) -> None:
        answered = self.answers.get((event["key"], event["id"]), [])
        match event["type"]:
            case "group.upserted":
                group.deleted = False
            case "group.deleted":
                group.ever_deleted, group.only_grew = True, False
                group.licenses, group.deleted = {}, True
                group.unclear |= event["after deferred"]
            case "licenses.changed" | "licenses.set" if "applied" in answered:
                added, removed = change_of_licenses(event, group.licenses)
                group.only_grew &= not removed & set(group.licenses)
                group.batches.append(set(added) - set(group.licenses))
                kept = {s: off for s, off in group.licenses.items() if s not in removed}
                group.licenses = kept | dict(added)
                group.ever_licensed |= set(added)
                group.deleted &= not group.licenses

    def _take_user(self, user: AskedUser, event: Json, position: int) -> None:
        answered = self.answers.get((event["key"], event["id"]), [])
        match event["type"]:
            case "user.upserted":
                if not user.known:  # R22: direct licences are asked for again
                    refused = self.not_restored.get((event["key"], event["id"]), set())
                    user.direct = {s: o for s, o in user.direct.items() if s not in refused}
                user.known = True
                user.location = event.get("usageLocation", user.location)
                user.principal_name = event.get("userPrincipalName", user.principal_name)
                user.mail = event.get("mail", user.mail)
                if "proxyAddresses" in event:
                    user.proxy_addresses = plain_addresses(event)
            case "user.snapshot":
                self._take_snapshot(user, event, position)
            case "user.deleted" if event.get("restorable", False):
                self.left |= {(event["key"], group) for group in user.memberships}
                undefined = set(user.direct) - set(self.products)
                user.unclear |= event["after deferred"] or bool(undefined)
                user.known = False
            case "user.deleted":
                self.left |= {(event["key"], group) for group in user.memberships}
                unclear = user.unclear or event["after deferred"]
                self.users[event["key"]] = AskedUser(unclear=unclear)
            case "membership.added" if event.get("memberType", "user") == "user":
                self.groups.setdefault(f"{event['tenant']}/{event['group']}", AskedGroup())
                user.memberships.setdefault(event["group"], position)
            case "membership.removed":
                self.groups.setdefault(f"{event['tenant']}/{event['group']}", AskedGroup())
                self.left.add((event["key"], event["group"]))
                user.memberships.pop(event["group"], None)
            case "licenses.changed" | "licenses.set" if "applied" in answered:
                added, removed = change_of_licenses(event, user.direct)
                kept = {s: o for s, o in user.direct.items() if s not in removed}
                user.direct = kept | dict(added)

    def _take_snapshot(self, user: AskedUser, event: Json, position: int) -> None:
        """R25: the facts are replaced. Adopted licences may be a part of what a group gives."""
        held = adopted_licenses(event)
        memberships: dict[str, float] = {}
        for membership in event.get("memberships", ()):
            group, since = membership["group"], milliseconds(membership.get("since"))
            self.groups.setdefault(f"{event['tenant']}/{group}", AskedGroup())
            known = user.memberships.get(group, position)
            memberships[group] = known if since is None else since - LATEST
        touched = {*user.memberships, *memberships, *(path for _, path in held if path)}
        for group in touched:
            self.left.add((event["key"], group))
        user.known, user.memberships = True, memberships
        user.unclear |= event["after deferred"]
        user.location = event.get("usageLocation")
        user.principal_name, user.mail = event.get("userPrincipalName"), event.get("mail")
        user.proxy_addresses = plain_addresses(event)
        user.direct = {sku: one.disabled for (sku, path), one in held.items() if path is None}


def plain_addresses(event: Json) -> frozenset[str]:
    return frozenset(map(plain_address, event.get("proxyAddresses") or []))


def not_restored(history: History) -> dict[tuple[str, str], set[str]]:
    """Returns the direct licences that restored users were not given again, by key and event."""
    return {
        (key, result["causedBy"]): {each["skuId"] for each in result["details"]["notRestored"]}
        for key, result in history.log("results")
        if result is not None and "notRestored" in result.get("details", {})
    }


@lru_cache(maxsize=4)
def intent_of(history: History) -> Intent:
    """Returns the intent of a history."""
    return Intent(history)


def answers(history: History) -> dict[tuple[str, str], list[str]]:
    """Returns the statuses of each command in order, by key and id of the command."""
    found: dict[tuple[str, str], list[str]] = {}
    for key, result in history.log("results"):
        if result is not None:
            found.setdefault((key, result["causedBy"]), []).append(result["status"])
    return found


def in_order_of_effect(history: History, answered: dict[tuple[str, str], list[str]]) -> list[Json]:
    """Returns the events, each deferred change moved to the place of its final answer (R21).

    That answer precedes, in the log of its key, the answers to the changes that took effect later.
    """
    finals = [
        (key, result["causedBy"])
        for key, result in history.log("results")
        if result is not None and result["status"] in ("applied", "rejected")
    ]
    rank = {identity: number for number, identity in enumerate(finals)}
    pending: dict[str, list[Json]] = {}
    ordered: list[Json] = []
    for event in history.events:
        identity = (event["key"], event["id"])
        line = pending.setdefault(f"{event['topic']} {event['key']}", [])
        if "deferred" in answered.get(identity, ()):
            line.append(event)
            line.sort(key=lambda e: rank.get((e["key"], e["id"]), 1 << 60))
            continue
        # A reprocess is answered only when all partitions have done it: that tells no order.
        own = rank.get(identity, -1) if event["type"].startswith("licenses.") else -1
        while line and own > rank.get((line[0]["key"], line[0]["id"]), 1 << 60):
            ordered.append(line.pop(0))
        ordered.append(event | {"after deferred": bool(line)})
    return ordered + [event for line in pending.values() for event in line]
