"""R18: no two users have the same computed address."""

from __future__ import annotations

from tests.checkers.history import History, Violation, tenant_of
from tests.checkers.intent import AskedUser, intent_of
from tests.spec.mail import plain_address


def addresses_are_unique(history: History) -> list[Violation]:
    """Checks that an address that Seatflow computed (R19) is published of one user only.

    Given addresses are published of everybody to whom they were given, duplicates included.
    """
    intent = intent_of(history)
    found: list[Violation] = []
    owners: dict[tuple[str, str], str] = {}
    for key, user in sorted(history.users.items()):
        given = intent.users.get(key, AskedUser()).given_addresses
        published = set(map(plain_address, user.get("proxyAddresses") or ()))
        for address in sorted(published - given):
            owner = owners.setdefault((tenant_of(key), address), key)
            if owner != key:
                text = f"{address} is an address of {owner} and of {key}"
                found.append(Violation("addresses are unique", text))
    return found
