"""R18 and R19: who owns an address, and the mail attributes of a user."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from tests.spec.facts import Entry, Group, Product, user_plans

PRIMARY = "SMTP:"


class MailUser(Protocol):
    """The facts of a user that decide about mail. ``routing``: once made."""

    principal_name: str | None
    mail: str | None
    nickname: str | None
    published_nickname: str | None
    addresses: list[str]
    routing: str | None
    memberships: dict[str, object]
    entries: tuple[Entry, ...]


def folded(address: str) -> str:
    """Returns an address with its ASCII letters small; no other letter has a case here."""
    return "".join(c.lower() if c.isascii() else c for c in address)


def plain_address(address: str) -> str:
    """Addresses are the same without regard to case; SMTP: marks the primary one."""
    return folded(address).removeprefix("smtp:")


@dataclass
class AddressBook:
    """The claims of a tenant: address -> users, the owner first."""

    claims: dict[str, list[str]] = field(default_factory=dict)

    def owner(self, address: str) -> str | None:
        return self.claims[address][0] if self.claims.get(address) else None

    def hold(self, name: str, wanted: set[str]) -> set[str]:
        """Makes these the addresses that the user claims; returns whom a release affects."""
        affected: set[str] = set()
        for address, users in self.claims.items():
            if name in users and address not in wanted:
                affected |= set(users) - {name} if users[0] == name else set()
                users.remove(name)
        for address in sorted(wanted):
            users = self.claims.setdefault(address, [])
            if name not in users:
                users.append(name)
        return affected

    def shared(self, name: str) -> tuple[str, str] | None:
        """Returns an address of the user that an earlier user owns, and that owner (R18)."""
        for address in sorted(self.claims):
            users = self.claims[address]
            if name in users and users[0] != name:
                return address, users[0]
        return None


def mail_enabled(user: MailUser, products: Mapping[str, Product]) -> bool:
    plans = (products[e.sku].get(plan) for e in user.entries for plan in e.enabled)
    return any(plan is not None and plan.mail for plan in plans)


def brings_mail(products: Mapping[str, Product], licenses: Mapping[str, frozenset[str]]) -> bool:
    """Returns True if licences (skuId -> disabled plans) enable a mail plan."""
    return any(
        products[sku][plan].mail
        for sku, off in licenses.items()
        if sku in products
        for plan in user_plans(products[sku]) - off
    )


def mail_wanted(
    user: MailUser, products: Mapping[str, Product], groups: Mapping[str, Group]
) -> bool:
    """Returns True if the user has a mail plan, or a group or a direct licence asks for one."""
    asked = [groups[g].licenses for g in user.memberships if g in groups]
    asked.append({e.sku: e.disabled_plans for e in user.entries if e.path is None})
    return mail_enabled(user, products) or any(brings_mail(products, some) for some in asked)


def given_addresses(user: MailUser) -> list[str]:
    """A given mail is the primary address if no address is given as such."""
    if not user.mail or any(a.startswith(PRIMARY) for a in user.addresses):
        return list(user.addresses)
    return with_primary(user.mail, user.addresses)


def with_primary(primary: str, addresses: list[str]) -> list[str]:
    others = [a for a in addresses if plain_address(a) != folded(primary)]
    return [PRIMARY + primary, *others]


def nickname(user: MailUser) -> str | None:
    primary = [a for a in given_addresses(user) if a.startswith(PRIMARY)]
    source = primary[0].removeprefix(PRIMARY) if primary else user.principal_name
    local = None
    if source:
        local = source[: source.rindex("@")] if "@" in source[1:] else source
    return user.nickname or user.published_nickname or local


def routing_address(user: MailUser, name: str, domain: str | None, book: AddressBook) -> str | None:
    """Returns the routing address that the user has, or would have with a mail plan."""
    alias = nickname(user)
    if user.routing or not domain or not alias:
        return user.routing
    plain = f"{alias}@{domain}"
    number = int(hashlib.blake2b(name.encode(), digest_size=8).hexdigest(), 16) % 10_000
    numbered = f"{alias}{number:04}@{domain}"
    if name in book.claims.get(folded(numbered), []):
        return numbered
    return plain if book.owner(folded(plain)) in (None, name) else numbered


def made_routing(
    user: MailUser,
    name: str,
    products: Mapping[str, Product],
    domain: str | None,
    book: AddressBook,
) -> str | None:
    """Returns the routing address that the user has from now on."""
    routing = routing_address(user, name, domain, book)
    made = mail_enabled(user, products) and routing and book.owner(folded(routing)) == name
    return routing if made else user.routing


def claimed_addresses(
    user: MailUser, name: str, domain: str | None, book: AddressBook, wanted: bool
) -> set[str]:
    """R18: the given addresses, and those that are or would be published of a mail plan."""
    derived = [user.routing]
    if wanted:
        derived = [user.principal_name, routing_address(user, name, domain, book)]
    return {plain_address(a) for a in given_addresses(user)} | {folded(a) for a in derived if a}


def all_addresses(
    user: MailUser, name: str, products: Mapping[str, Product], book: AddressBook
) -> list[str]:
    addresses = given_addresses(user)
    upn = user.principal_name
    with_mail = mail_enabled(user, products)
    derived = [
        upn if with_mail and upn and book.owner(folded(upn)) == name else None,
        user.routing,
    ]
    for address in filter(None, derived):
        if not any(a.startswith(PRIMARY) for a in addresses):
            addresses = with_primary(address, addresses)
        elif folded(address) not in map(plain_address, addresses):
            addresses.append(f"smtp:{address}")
    return addresses


def mail_address(
    user: MailUser, name: str, products: Mapping[str, Product], book: AddressBook
) -> str | None:
    addresses = all_addresses(user, name, products, book)
    primary = [a for a in addresses if a.startswith(PRIMARY)]
    return primary[0].removeprefix(PRIMARY) if primary else user.mail
