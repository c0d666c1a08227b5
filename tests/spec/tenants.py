"""The facts that the oracle keeps of tenants and users."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.spec import mail
from tests.spec.adoption import Adopted
from tests.spec.facts import AssignmentState, Entry, Group, held
from tests.spec.membership import UnreadableRuleError, read_rule

At = Any
Json = dict[str, Any]
INVALID_RULE = "InvalidMembershipRule"
RULE_MEMBERS = {"membershipRule", "membershipRuleProcessingState"}
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
    attributes: dict[str, Any] = field(default_factory=dict)  # R27: by name in small letters
    listed: dict[str, At] = field(default_factory=dict)  # memberships by events
    made: dict[str, At] = field(default_factory=dict)  # R27: memberships by rules
    memberships: dict[str, At] = field(default_factory=dict)  # those that count: group -> since
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
    rules: dict[str, tuple[str, bool]] = field(default_factory=dict)  # R27: text, paused
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

    def count_memberships(self, user: User) -> None:
        """R27: the memberships by events do not count in a group with a rule."""
        by_events = {g: since for g, since in user.listed.items() if g not in self.rules}
        user.memberships = by_events | {g: s for g, s in user.made.items() if g in self.rules}

    def change_rule(self, event: Json, at: At) -> bool:
        """R27: takes a group's rule over; False if it cannot be read."""
        name = event["group"]
        text, paused = self.rules.get(name, (None, False))
        text = event.get("membershipRule", text)
        if "membershipRuleProcessingState" in event:
            paused = event["membershipRuleProcessingState"] == "Paused"
        try:
            read_rule(text or "user.objectId -ne null")
        except UnreadableRuleError:
            return False
        if text is None:
            self.rules.pop(name, None)
        else:
            self.rules[name] = text, paused
        for user in self.users:
            self.follow_rules(user, at, changed=name)
        return True

    def follow_rules(self, name: str, at: At, changed: str | None = None) -> None:
        """R27: the known users whom a rule matches are its members, unless it is paused.

        ``changed``: the group whose rule the event changed.
        """
        user = self.users[name]
        made: dict[str, At] = {}
        for group, (text, paused) in self.rules.items() if user.known else ():
            before = user.made.get(group)
            if group == changed and before is None:
                before = user.memberships.get(group)
            if before is not None and (paused or read_rule(text)(properties(user, name))):
                made[group] = before
            elif not paused and read_rule(text)(properties(user, name)):
                made[group] = at
        user.made = made
        self.count_memberships(user)

    def touched_by_group(self, group: str) -> list[str]:
        """Its members, and those who left and still have an entry through it."""
        return [
            name
            for name, user in self.users.items()
            if group in user.memberships or any(e.path == group for e in user.entries)
        ]


def properties(user: User, name: str) -> dict[str, Any]:
    """Returns what rules read of a user: facts of its own before attributes of their names."""
    own = {
        "objectid": name,
        "userprincipalname": user.principal_name,
        "usagelocation": user.location,
        "mail": user.mail,
        "mailnickname": user.nickname,
        "proxyaddresses": list(user.addresses) or None,
    }
    return user.attributes | {key: value for key, value in own.items() if value is not None}


def patched(attributes: dict[str, Any], patch: dict[str, Any] | None) -> dict[str, Any]:
    """Returns the attributes after a patch; null and an empty list clear one."""
    if patch is None:
        return {}
    whole = attributes | {name.lower(): value for name, value in patch.items()}
    return {name: value for name, value in whole.items() if value is not None and value != []}


def note_since(user: User, at: At) -> None:
    """Notes the time at which each published state began."""
    old = user.since
    user.since = {}
    for s in user.states:
        path, (state, error, since) = (s.sku, s.path), old.get((s.sku, s.path), ("", "", at))
        since = since if (state, error) == (s.state, s.error) else at
        user.since[path] = (s.state, s.error, since)
