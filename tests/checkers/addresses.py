"""R18: an address that Seatflow computed has one owner: never two, and never nobody."""

from __future__ import annotations

from collections.abc import Iterator

from tests.checkers.history import History, Json, Violation, is_entry, states, tenant_of
from tests.checkers.intent import AskedUser, Intent, intent_of
from tests.spec.facts import UNIQUENESS, user_plans
from tests.spec.mail import plain_address

Owners = dict[tuple[str, str], str]
"""tenant, address -> tenant/user."""


def addresses_are_unique(history: History) -> list[Violation]:
    """Checks that an address that Seatflow computed (R19) is published of one user only.

    Given addresses are published of everybody to whom they were given, duplicates included.
    """
    intent = intent_of(history)
    found: list[Violation] = []
    owners: Owners = {}
    for key, address in computed_addresses(history, intent):
        owner = owners.setdefault((tenant_of(key), address), key)
        if owner != key:
            text = f"{address} is an address of {owner} and of {key}"
            found.append(Violation("addresses are unique", text))
    return found


def computed_addresses(history: History, intent: Intent) -> Iterator[tuple[str, str]]:
    """Yields tenant/user and address of what is published and was not given."""
    for key, user in sorted(history.users.items()):
        given = intent.users.get(key, AskedUser()).given_addresses
        for address in sorted(published_addresses(user) - given):
            yield key, address


def published_addresses(user: Json) -> set[str]:
    return set(map(plain_address, user.get("proxyAddresses") or ()))


def addresses_never_shared(history: History) -> list[Violation]:
    """Checks that at no time two users were published with the same computed address.

    Addresses that were given to a user at any time are left aside: in the log of another topic
    there is no telling since when.
    """
    given: dict[str, set[str]] = {}
    for event in history.events:
        if event["topic"] == "user-changes":
            listed = [*(event.get("proxyAddresses") or ()), event.get("mail") or ""]
            given.setdefault(event["key"], set()).update(map(plain_address, listed))
    found: list[Violation] = []
    published: dict[str, set[str]] = {}
    owners: Owners = {}
    for key, user in history.log("user-licenses"):
        before = published.get(key, set())
        after = published_addresses(user or {}) - given.get(key, set())
        published[key] = after
        for address in before - after:
            if owners.get((tenant_of(key), address)) == key:
                del owners[tenant_of(key), address]
        for address in sorted(after):
            owner = owners.setdefault((tenant_of(key), address), key)
            if owner != key:
                text = f"{key} was published with {address} while {owner} was"
                found.append(Violation("addresses never shared", text))
    return found


def addresses_have_an_owner(history: History) -> list[Violation]:
    """Checks that who lacks an address lacks it because of one other user, who claims it.

    All errors about an address name the same owner; a user of whom it is published without having
    been given is that owner. A principal name that only one user claims is its address.
    """
    intent = intent_of(history)
    name = "addresses have an owner"
    owners: Owners = {
        (tenant_of(key), address): key for key, address in computed_addresses(history, intent)
    }
    found: list[Violation] = []
    for key, error in sorted(history.latest("errors").items()):
        if error["error"] != UNIQUENESS:
            continue
        tenant, user, address = error["tenant"], error["user"], error["details"]["address"]
        named = f"{tenant}/{error['details']['owner']}"
        address = plain_address(address)
        owner = owners.setdefault((tenant, address), named)
        if owner != named or named == f"{tenant}/{user}":
            found.append(Violation(name, f"{key}: {address} belongs to {owner}, not to {named}"))
        elif not may_claim(history, intent, named, address):
            found.append(Violation(name, f"{key}: {named} does not claim {address}"))
    for key, asked in sorted(intent.users.items()):
        principal = (asked.principal_name or "").lower()
        user = history.users.get(key)
        if not asked.known or not principal or user is None or not has_mail(intent, user):
            continue
        if principal not in published_addresses(user) and not any(
            may_claim(history, intent, other, principal) for other in others(intent, key)
        ):
            text = f"{key} is published without {principal}, which nobody else claims"
            found.append(Violation(name, text))
    return found


def others(intent: Intent, key: str) -> Iterator[str]:
    return (o for o in intent.users if o != key and tenant_of(o) == tenant_of(key))


def may_claim(history: History, intent: Intent, key: str, address: str) -> bool:
    """Returns True if the user may claim the address: given, of a mail plan, or published."""
    asked = intent.users.get(key, AskedUser())
    if asked.unclear:
        return True
    return asked.known and (
        address in asked.addresses
        or address in published_addresses(history.users.get(key, {}))
        or address.rpartition("@")[2] in intent.tenant(tenant_of(key)).initial_domains
    )


def has_mail(intent: Intent, user: Json) -> bool:
    return any(
        intent.products[state["skuId"]][plan].mail
        for state in states(user)
        if is_entry(state)
        for plan in user_plans(intent.products[state["skuId"]]) - set(state["disabledPlans"])
    )
