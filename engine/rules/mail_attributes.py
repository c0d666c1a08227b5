"""R19: mail attributes, computed from what was given and from whether a mail plan is enabled.

As Microsoft documents it in KB 3190357. A *key* is a proxy address in the form in which addresses
are compared and claimed (R18); addresses without a type are ``smtp``.
"""

from __future__ import annotations

import hashlib
from typing import Final

from engine.domain.proxy_address import lower_ascii, normalize_proxy_address

PRIMARY: Final = "SMTP:"
SECONDARY: Final = "smtp:"

MailAttributes = tuple[str | None, tuple[str, ...]]
"""``mail`` and ``proxyAddresses`` as they are published."""


def mail_key(address: str) -> str:
    """Returns the key of a mail address without a type."""
    return f"{SECONDARY}{lower_ascii(address)}"


def given_addresses(addresses: tuple[str, ...], mail: str | None) -> tuple[str, ...]:
    """Returns the given addresses; a given ``mail`` is the primary one if no other is."""
    if not mail or _primary(addresses) is not None:
        return addresses
    return _with_primary(addresses, mail)


def nickname(
    given: str | None, published: str | None, addresses: tuple[str, ...], upn: str | None
) -> str | None:
    """Returns the mail nickname. ``addresses``: as :func:`given_addresses` has them.

    The given one, else the one published before, else the local part of the given primary address,
    else that of the principal name, which is also the primary address that a mail plan brings.
    """
    if given:
        return given
    if published:
        return published
    if addresses:
        primary = _primary(addresses)
        if primary is not None:
            return _local_part(primary[len(PRIMARY) :])
    return _local_part(upn) if upn else None


def routing_address(nickname: str, domain: str, user: str = "") -> str:
    """Returns the routing address; with a user id, the one for a nickname that is taken.

    Four digits that follow from the id are put after the nickname, so that a second run gives the
    same.
    """
    digits = ""
    if user:
        digest = hashlib.blake2b(user.encode(), digest_size=8).digest()
        digits = f"{int.from_bytes(digest) % 10_000:04d}"
    return f"{nickname}{digits}@{domain}"


def mail_attributes(
    mail: str | None, addresses: tuple[str, ...], upn: str | None, routing: str | None
) -> MailAttributes:
    """Returns ``mail`` and the proxy addresses.

    ``addresses``: the given ones, as :func:`given_addresses` has them; ``upn``: the principal name
    if it is an address now, as a mail plan makes it; ``routing``: the routing address, if made.
    """
    for derived in (upn, routing):
        if derived is None:
            continue
        if _primary(addresses) is None:
            addresses = _with_primary(addresses, derived)
        elif mail_key(derived) not in map(normalize_proxy_address, addresses):
            addresses = (*addresses, f"{SECONDARY}{derived}")
    primary = _primary(addresses) if addresses else None
    return (mail if primary is None else primary[len(PRIMARY) :]), addresses


def _primary(addresses: tuple[str, ...]) -> str | None:
    for address in addresses:
        if address.startswith(PRIMARY):
            return address
    return None


def _with_primary(addresses: tuple[str, ...], primary: str) -> tuple[str, ...]:
    key = mail_key(primary)
    others = [a for a in addresses if normalize_proxy_address(a) != key]
    return (f"{PRIMARY}{primary}", *others)


def _local_part(address: str) -> str:
    return address.rpartition("@")[0] or address
