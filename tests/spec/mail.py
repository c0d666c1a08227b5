"""R18 and R19: proxy addresses and what becomes of them when mail begins and ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from tests.spec.licensing import Entry, Product

PRIMARY = "SMTP:"


class MailUser(Protocol):
    principal_name: str | None
    mail: str | None
    addresses: list[str]
    assigned_primary_address: str | None
    entries: tuple[Entry, ...]


def plain_address(address: str) -> str:
    """Addresses are the same without regard to case; SMTP: marks the primary one."""
    return address.lower().removeprefix("smtp:")


def mail_enabled(user: MailUser, products: Mapping[str, Product]) -> bool:
    return any(products[e.sku][plan].mail for e in user.entries for plan in e.enabled)


def assign_primary_address(user: MailUser, products: Mapping[str, Product]) -> None:
    """A mail-enabled user always has a primary address; one that was given stays."""
    has_one = any(a.startswith(PRIMARY) for a in all_addresses(user))
    if mail_enabled(user, products) and not has_one and user.principal_name is not None:
        user.assigned_primary_address = PRIMARY + user.principal_name


def all_addresses(user: MailUser) -> list[str]:
    if user.assigned_primary_address is None:
        return list(user.addresses)
    others = [
        a
        for a in user.addresses
        if plain_address(a) != plain_address(user.assigned_primary_address)
    ]
    return [user.assigned_primary_address, *others]


def mail_address(user: MailUser, products: Mapping[str, Product]) -> str | None:
    primary = [a for a in all_addresses(user) if a.startswith(PRIMARY)]
    if mail_enabled(user, products) and primary:
        return primary[0].removeprefix(PRIMARY)
    return user.mail
