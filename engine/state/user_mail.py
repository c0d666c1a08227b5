"""A user's mail attributes and the addresses that belong to them (R18, R19).

Addresses that are not given are *derived*: the principal name and the routing address. They are
claimed before a mail plan is admitted, and published only of their owner.
"""

from __future__ import annotations

from typing import Any, Final

from engine.domain.proxy_address import normalize_proxy_address
from engine.rules import mail_attributes
from engine.rules.mail_attributes import mail_key, routing_address
from engine.state.row_codecs import OptionalFacts
from engine.state.tenant_state import PublishedAttributes, User

ATTRIBUTES: Final = 4
ONLY_PRINCIPAL_NAME: Final[dict[str, Any]] = {"derivedClaims": True}
"""The facts of a user whose principal name is the only address claimed that is not given."""


def given_facts(user: User) -> tuple[Any, ...]:
    """Returns the facts that ``user.upserted`` gives."""
    return user.location, user.upn, user.mail, user.addresses, user.mail_nickname


def given_addresses(user: User) -> tuple[str, ...]:
    """Returns the given proxy addresses; a given ``mail`` is the primary one if no other is."""
    return mail_attributes.given_addresses(user.addresses, user.mail)


def given_keys(user: User) -> set[str]:
    """Returns the keys of the given addresses (R18)."""
    return set(map(normalize_proxy_address, given_addresses(user)))


def nickname(user: User) -> str | None:
    """Returns the mail nickname (R19)."""
    return mail_attributes.nickname(
        user.mail_nickname, user.published_nickname, given_addresses(user), user.upn
    )


def published_attributes(user: User) -> PublishedAttributes:
    """Returns usage location, mail, proxy addresses and mail nickname as they are published (R19).

    A derived address that somebody else owns is left out (R18).
    """
    given, upn = given_addresses(user), None
    if user.outcome.mail and user.upn and not _owned_by_another(user, mail_key(user.upn)):
        upn = user.upn
    mail, addresses = mail_attributes.mail_attributes(user.mail, given, upn, user.routing)
    name = mail_attributes.nickname(user.mail_nickname, user.published_nickname, given, user.upn)
    return user.location, mail, addresses, name


def keep_published(user: User, attributes: PublishedAttributes | None = None) -> None:
    """Keeps the published attributes before they change, to tell later whether they did.

    ``attributes``: as they were, if they have changed already.
    """
    pending = user.pending_work
    if user.revision > 0 and (pending is None or pending.published_attributes is None):
        found = attributes or published_attributes(user)
        user.ensure_pending_work().published_attributes = found


def keep_nickname(user: User, attributes: PublishedAttributes | None) -> None:
    """Keeps the nickname that was published, where it no longer follows from the given facts.

    ``attributes``: as they were before the facts changed; None if the user is not published.
    """
    pending = user.pending_work
    published: tuple[Any, ...] | None = attributes
    if pending is not None and pending.published_attributes is not None:
        published = pending.published_attributes
    if published is None or user.mail_nickname or len(published) < ATTRIBUTES:
        return  # nothing to keep, or kept by a release before this one
    user.published_nickname = None
    if nickname(user) != published[3]:
        user.published_nickname = published[3]


def derived_keys(user: User, mail_wanted: bool) -> tuple[str, ...]:
    """Returns the keys of the addresses that the user is to claim beside the given ones.

    ``mail_wanted``: the user has a mail plan, or something asks for one.
    """
    keys: list[str] = []
    if mail_wanted and user.upn:
        keys.append(mail_key(user.upn))
    routing = _routing_candidate(user) if mail_wanted else user.routing
    if routing is not None and mail_key(routing) not in keys:
        keys.append(mail_key(routing))
    if keys and (user.addresses or user.mail):
        given = given_keys(user)
        return tuple([key for key in keys if key not in given])
    return tuple(keys)


def routing_address_due(user: User) -> str | None:
    """Returns the routing address that a mail plan makes now: it is not made yet, and claimed."""
    if user.routing is not None or user.tenant.settings.initial_domain is None:
        return None
    routing = _routing_candidate(user)
    if routing is None or _owned_by_another(user, mail_key(routing)):
        return None
    return routing


def _routing_candidate(user: User) -> str | None:
    """Returns the routing address; for a nickname that another user has, the one with digits.

    The choice is kept by the claims: once the address with digits is claimed, it stays.
    """
    domain = user.tenant.settings.initial_domain
    if user.routing is not None or not domain:
        return user.routing
    name = nickname(user)
    if name is None:
        return None
    plain, numbered = routing_address(name, domain), routing_address(name, domain, user.id)
    if mail_key(numbered) in user.derived or _owned_by_another(user, mail_key(plain)):
        return numbered
    return plain


def _owned_by_another(user: User, key: str) -> bool:
    return user.pending_work is not None and key in user.pending_work.duplicates


def mail_facts(user: User) -> OptionalFacts:
    """Returns what a row keeps of the mail attributes, as members of its optional facts."""
    ungiven = user.pending_work.ungiven if user.pending_work is not None else ()
    if not (user.derived or user.mail_nickname or user.published_nickname or ungiven):
        return None
    only_upn = bool(user.upn) and user.derived == (mail_key(user.upn or ""),)
    if only_upn and not (user.mail_nickname or user.published_nickname or user.routing or ungiven):
        return ONLY_PRINCIPAL_NAME
    facts = {
        "mailNickname": user.mail_nickname,
        "publishedNickname": user.published_nickname,
        "routingAddress": user.routing,
        "derivedClaims": True if only_upn else list(user.derived),
        "ungivenClaims": list(ungiven),
    }
    return {name: value for name, value in facts.items() if value}


def restore_mail_facts(user: User, facts: dict[str, Any]) -> None:
    """Takes the mail attributes out of restored optional facts; ``upn`` is restored already."""
    user.mail_nickname = facts.pop("mailNickname", None)
    user.published_nickname = facts.pop("publishedNickname", None)
    user.routing = facts.pop("routingAddress", None)
    derived = facts.pop("derivedClaims", ())
    user.derived = (mail_key(user.upn or ""),) if derived is True else tuple(derived)
    if ungiven := facts.pop("ungivenClaims", None):
        user.ensure_pending_work().ungiven = tuple(ungiven)


def forget_mail(user: User) -> None:
    """Forgets what was computed: the addresses are free again (R22)."""
    user.published_nickname = user.routing = None
    user.derived = ()
