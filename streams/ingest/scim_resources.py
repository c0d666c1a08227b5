"""SCIM 2.0 resources, and the facts of a user that they contain.

Deviations of Microsoft Entra are accepted: capitalized operations, ``active`` as text, a ``remove``
with values, undeclared attributes. Entra's extension has a user's usage location, mail nickname and
proxy addresses; without it, the location is the country of the user's work address. A country's
name is no location; it is reported (:func:`without_country_name`).
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from pydantic import Field
from scim2_models import URN, EnterpriseUser, Extension, Group, ScimPolicy, User

from streams.ingest.email_domains import allow_local_domains
from streams.ingest.event_builder import is_object_id, normalized_id, user_id

allow_local_domains()

ENTRA = ScimPolicy(
    unknown=ScimPolicy.Unknown.ignore,
    remove_value_as_filter=ScimPolicy.RemoveValue.apply,
    unmatched_path_filter=ScimPolicy.UnmatchedPathFilter.create,
)
USER = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
ENTRA_USER = "urn:ietf:params:scim:schemas:extension:Microsoft:Entra:2.0:User"

_is_code = re.compile(r"[A-Za-z]{2}").fullmatch
_id = re.compile(r"[A-Za-z0-9_.:@-]{1,128}").fullmatch


class EntraUser(Extension):
    """The part of Microsoft Entra's user extension that Seatflow uses."""

    __schema__ = URN(ENTRA_USER)

    # Suggestions only (RFC 7643, canonicalValues): any code of two letters will do.
    usage_location: str | None = Field(None, examples=["AU", "DE", "FR", "GB", "IN", "JP", "US"])
    mail_nickname: str | None = None
    proxy_addresses: list[str] | None = None


AnyUser = User[EnterpriseUser | EntraUser]
RESOURCES: dict[str, Any] = {"Users": AnyUser, "Groups": Group}


def facts_of_user(user: Any) -> dict[str, Any]:
    """Returns a user's facts, as members of ``user.upserted``; None for those without a value."""
    entra = user[EntraUser]
    location = entra and entra.usage_location
    name = user.display_name or (user.name and user.name.formatted)
    return {
        "userPrincipalName": user.user_name,
        "displayName": name or None,
        "usageLocation": location.upper() if location else _country(user.addresses or []),
        "mail": _mail(user.emails or []),
        "mailNickname": (entra and entra.mail_nickname) or None,
        "proxyAddresses": (entra and entra.proxy_addresses) or None,
    }


class CountryName(str):
    """A country that is not written as a code: no usage location."""

    __slots__ = ()


class NamedFacts(NamedTuple):
    """The facts that a PATCH is about. ``stated`` ones may be cleared, ``touched`` ones may not.

    A fact is touched if the PATCH changes a part of the attribute that does not give the fact: a
    city says nothing of the usage location, and a given name nothing of the display name.
    """

    stated: frozenset[str]
    touched: frozenset[str]


def changed_facts(
    before: dict[str, Any] | None, after: dict[str, Any], named: NamedFacts | None = None
) -> dict[str, Any]:
    """Returns the facts that a request changes, as members of ``user.upserted``; None clears one.

    ``before``: None for a user of whom nothing is known. ``named``: None for a whole resource.
    """
    changed = {}
    for name, value in after.items():
        if named is None:
            relevant = before is not None or value is not None
        else:
            relevant = name in named.stated or (name in named.touched and value is not None)
        if relevant and (before is None or before[name] != value):
            changed[name] = value
    return changed


def without_country_name(facts: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
    """Returns changed facts without a location that is a country's name, and what to report.

    A name does not clear the location: it stays as it is.
    """
    country = facts.get("usageLocation")
    if not isinstance(country, CountryName):
        return facts, None
    kept = {name: value for name, value in facts.items() if name != "usageLocation"}
    return kept, (
        f"the country is '{country[:60]}', and a usage location needs the code of two letters"
        " (ISO 3166-1, such as FR): the location stays as it is; send the code as country of the"
        " work address, or as usageLocation of Entra's extension"
    )


def members_of_group(group: Any) -> dict[str, str | None]:
    """Returns the users among the members, with display names; nested groups do not count (R22)."""
    return {
        normalized_id(member.value): member.display
        for member in group.members or []
        if member.value and (member.type or "User").lower() == "user"
    }


def id_of(kind: str, resource: Any) -> str:
    """Returns a resource's id: its own, or the directory's object id, or one made from its name."""
    if resource.id:
        return str(normalized_id(resource.id))
    external = resource.external_id
    if external and (is_object_id(external) or (kind == "Groups" and _id(external))):
        return str(normalized_id(external))
    name = resource.user_name if kind == "Users" else resource.display_name
    return user_id(name or "")


def _mail(emails: list[Any]) -> str | None:
    given = [each for each in emails if each.value]
    first = next((each for each in given if each.primary), None) or next(
        (each for each in given if (each.type or "").lower() == "work"), None
    )
    first = first or (given[0] if given else None)
    return str(first.value) if first else None


def _country(addresses: list[Any]) -> str | None:
    given = [each for each in addresses if each.country]
    work = [each for each in given if each.primary or (each.type or "").lower() == "work"]
    if not given:
        return None
    country = str((work or given)[0].country)
    return country.upper() if _is_code(country) else CountryName(country)
