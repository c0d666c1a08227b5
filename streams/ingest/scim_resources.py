"""SCIM 2.0 resources, and the facts of a user that they contain.

Deviations of Microsoft Entra are accepted: capitalized operations, ``active`` as text, a ``remove``
with values, undeclared attributes. A user's usage location and proxy addresses are in Entra's
extension; without it, the location is the country of the user's address, if it is a two-letter
code and not a name.
"""

from __future__ import annotations

import re
from typing import Any

from pydantic import Field
from scim2_models import URN, EnterpriseUser, Extension, Group, PatchOp, ScimPolicy, User

from streams.ingest.email_domains import allow_local_domains
from streams.ingest.event_builder import user_id

allow_local_domains()

ENTRA = ScimPolicy(
    unknown=ScimPolicy.Unknown.ignore,
    remove_value_as_filter=ScimPolicy.RemoveValue.apply,
    unmatched_path_filter=ScimPolicy.UnmatchedPathFilter.create,
)
USER = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"

_guid = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}").fullmatch
_code = re.compile(r"[A-Za-z]{2}").fullmatch
_id = re.compile(r"[A-Za-z0-9_.:@-]{1,128}").fullmatch


class EntraUser(Extension):
    """The part of Microsoft Entra's user extension that Seatflow uses."""

    __schema__ = URN("urn:ietf:params:scim:schemas:extension:Microsoft:Entra:2.0:User")

    # Suggestions only (RFC 7643, canonicalValues): any code of two letters will do.
    usage_location: str | None = Field(None, examples=["AU", "DE", "FR", "GB", "IN", "JP", "US"])
    proxy_addresses: list[str] | None = None


AnyUser = User[EnterpriseUser | EntraUser]
RESOURCES: dict[str, Any] = {"Users": AnyUser, "Groups": Group}

# Attribute of a SCIM user, in lower case -> member of ``user.upserted``.
_MEMBERS = {
    "username": "userPrincipalName",
    "displayname": "displayName",
    "name": "displayName",
    "emails": "mail",
    "addresses": "usageLocation",
    "usagelocation": "usageLocation",
    "proxyaddresses": "proxyAddresses",
}


def facts_of_user(user: Any) -> dict[str, Any]:
    """Returns a user's facts, as members of ``user.upserted``; None for those without a value."""
    entra = user[EntraUser]
    location = (entra and entra.usage_location) or _country(user.addresses or [])
    name = user.display_name or (user.name and user.name.formatted)
    return {
        "userPrincipalName": user.user_name,
        "displayName": name or None,
        "usageLocation": location.upper() if location else None,
        "mail": _mail(user.emails or []),
        "proxyAddresses": (entra and entra.proxy_addresses) or None,
    }


def known_facts(user: Any) -> dict[str, Any]:
    """Returns the facts of a user that it states, as members of ``user.upserted``."""
    return {name: value for name, value in facts_of_user(user).items() if value is not None}


def patched_facts(patch: PatchOp[Any]) -> dict[str, Any]:
    """Returns the facts that a patch changes, for a user whose other facts are unknown.

    Contains only the facts that the patch names; None clears one.
    """
    user = AnyUser.model_construct()
    with ENTRA:
        patch.patch(user)
    facts = facts_of_user(user)
    named: set[str] = set()
    for operation in patch.operations or []:
        if operation.path is not None and operation.path.parts:
            named.update(operation.path.parts[:1])
        elif isinstance(operation.value, dict):
            for key, value in operation.value.items():
                extension = value if isinstance(value, dict) and ":" in key else ()
                named.update(extension or [key.rpartition(":")[2].partition(".")[0]])
    members = {_MEMBERS[name.lower()] for name in named if name.lower() in _MEMBERS}
    return {name: facts[name] for name in facts if name in members}


def members_of_group(group: Any) -> dict[str, str | None]:
    """Returns the users among the members, with display names; nested groups do not count (R22)."""
    return {
        member.value: member.display
        for member in group.members or []
        if member.value and (member.type or "User").lower() == "user"
    }


def id_of(kind: str, resource: Any) -> str:
    """Returns a resource's id: its own, or the directory's object id, or one made from its name."""
    if resource.id:
        return str(resource.id)
    external = resource.external_id
    if external and (_guid(external) or (kind == "Groups" and _id(external))):
        return str(external)
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
    given = [each for each in addresses if each.country and _code(each.country)]
    work = [each for each in given if each.primary or (each.type or "").lower() == "work"]
    return str((work or given)[0].country) if given else None
