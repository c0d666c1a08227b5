"""The facts that the oracle keeps of tenants and users."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.spec import mail
from tests.spec.adoption import Adopted
from tests.spec.facts import AssignmentState, Entry, Group, held

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


def note_since(user: User, at: At) -> None:
    """Notes the time at which each published state began."""
    old = user.since
    user.since = {}
    for s in user.states:
        path, (state, error, since) = (s.sku, s.path), old.get((s.sku, s.path), ("", "", at))
        since = since if (state, error) == (s.state, s.error) else at
        user.since[path] = (s.state, s.error, since)
