"""The event types of the input contract (section 2): one table.

The decoder, the feeds, the console's what-if, the JSON Schemas and the reference pages all derive
from ``EVENT_TYPES``. A new event type is one entry here, a fact in ``engine/domain/events.py``, a
reader in ``event_readers.py`` and the schemas of its members in ``schemas.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from engine.domain import events
from streams.contract.rejection import DecodeError
from streams.runtime.nearest import did_you_mean

USER_KEY = ("tenant", "user")
GROUP_KEY = ("tenant", "group")


class EventType(NamedTuple):
    """One type of input event.

    ``name``: the value of the event's ``type`` member. A user's and a group's ``licenses.changed``
    share theirs, and so do their ``licenses.set``; the topic and the key tell them apart.
    ``topic``: without the prefix.
    ``fact``: the engine's class.
    ``key``: the members that form the record's key, joined by "/".
    ``members``: all others, beside ``type``, ``id`` and ``time``.
    ``required``: those of ``members`` without which the event is rejected.
    """

    name: str
    topic: str
    fact: type[Any]
    key: tuple[str, ...]
    summary: str
    members: tuple[str, ...] = ()
    required: tuple[str, ...] = ()

    @property
    def subject(self) -> str:
        """The member that names the object that the event is about."""
        return self.key[-1]

    def key_of(self, body: Mapping[str, Any]) -> str | None:
        """Returns the record key of an event, or None if a member of it is no string."""
        parts = [body.get(member) for member in self.key]
        for part in parts:
            if type(part) is not str:
                return None
        return "/".join(parts)  # type: ignore[arg-type]


def _of_user(name: str, fact: type[Any], summary: str, *members: str, **more: Any) -> EventType:
    return EventType(name, "user-changes", fact, USER_KEY, summary, members, **more)


def _of_group(name: str, fact: type[Any], summary: str, *members: str, **more: Any) -> EventType:
    return EventType(name, "group-changes", fact, GROUP_KEY, summary, members, **more)


EVENT_TYPES: Final = (
    _of_user(
        "user.upserted",
        events.UserUpserted,
        "A user's attributes. Absent members keep their value; null clears it.",
        *("userPrincipalName", "displayName", "usageLocation", "mail", "proxyAddresses"),
        *("mailNickname", "attributes"),
    ),
    _of_user(
        "user.deleted",
        events.UserDeleted,
        "The user is deleted, for good or into the recycle bin; its seats become free.",
        "restorable",
    ),
    _of_user(
        "user.snapshot",
        events.UserSnapshot,
        "Everything that another system knows of a user. It replaces the user's facts, and the"
        " licences held are adopted as they are.",
        *("userPrincipalName", "displayName", "usageLocation", "mail", "proxyAddresses"),
        *("mailNickname", "attributes", "memberships", "licenseAssignmentStates"),
    ),
    _of_user(
        "membership.added",
        events.MembershipAdded,
        "The user is a direct member of the group.",
        "group",
        "memberType",
        required=("group",),
    ),
    _of_user(
        "membership.removed",
        events.MembershipRemoved,
        "The user is no longer a member.",
        "group",
        required=("group",),
    ),
    _of_user(
        "licenses.changed",
        events.UserLicensesChanged,
        "A user's direct licences change, as a whole or not at all.",
        "addLicenses",
        "removeLicenses",
    ),
    _of_user(
        "licenses.set",
        events.UserLicensesSet,
        "A user's direct licences as a whole: what is not listed is removed.",
        "licenses",
        required=("licenses",),
    ),
    _of_user(
        "user.reprocess", events.UserReprocess, "Retries the user's licences that are in error."
    ),
    _of_group(
        "group.upserted",
        events.GroupUpserted,
        "A group's name, and its membership rule.",
        *("displayName", "membershipRule", "membershipRuleProcessingState"),
    ),
    _of_group(
        "group.deleted", events.GroupDeleted, "The group is deleted, and its licences with it."
    ),
    _of_group(
        "licenses.changed",
        events.GroupLicensesChanged,
        "A group's licences change.",
        "addLicenses",
        "removeLicenses",
    ),
    _of_group(
        "licenses.set",
        events.GroupLicensesSet,
        "A group's licences as a whole: what is not listed is removed.",
        "licenses",
        required=("licenses",),
    ),
    _of_group(
        "group.reprocess",
        events.GroupReprocess,
        "Retries the licences that are in error for the group's members.",
    ),
    EventType(
        "product.defined",
        "catalog",
        events.ProductDefined,
        ("skuId",),
        "A product and its service plans; replaces the earlier definition.",
        ("skuPartNumber", "displayName", "servicePlans"),
        ("servicePlans",),
    ),
    EventType(
        "subscription.updated",
        "subscriptions",
        events.SubscriptionUpdated,
        ("tenant", "skuId"),
        "The units bought of a product.",
        ("prepaidUnits",),
        ("prepaidUnits",),
    ),
    EventType(
        "subscription.deleted",
        "subscriptions",
        events.SubscriptionDeleted,
        ("tenant", "skuId"),
        "The subscription of a product is gone: its licences are disabled.",
    ),
    EventType(
        "tenant.updated",
        "tenants",
        events.TenantUpdated,
        ("tenant",),
        "A tenant's settings. Absent members keep their value.",
        ("displayName", "usageLocation", "initialDomain", "policies"),
    ),
)

_BY_NAME: Final[dict[str, list[EventType]]] = {}
for _each in EVENT_TYPES:
    _BY_NAME.setdefault(_each.name, []).append(_each)


def topics_of(name: str) -> list[str]:
    """Returns the topics on which events of this name are read; none for an unknown name."""
    return [each.topic for each in _BY_NAME.get(name, ())]


def resolve(name: object, body: Mapping[str, Any]) -> EventType:
    """Returns the type of an event, given its ``type`` and the members of its body.

    Raises: DecodeError, for an unknown type, and if the body does not tell a user's from a group's
    ``licenses.changed``.
    """
    try:
        candidates = _BY_NAME[name]  # type: ignore[index]
    except (KeyError, TypeError):  # TypeError: a list or an object
        from orjson import dumps

        found = dumps(name).decode()[:60]
        known = ", ".join(sorted(_BY_NAME))
        meant = did_you_mean(name, _BY_NAME) if isinstance(name, str) else ""
        raise DecodeError(
            f"type is {found}{meant or f'; it must be one of {known}'}", "unknown_type"
        ) from None
    if len(candidates) == 1:
        return candidates[0]
    named = [each for each in candidates if each.subject in body]
    if len(named) == 1:
        return named[0]
    subjects = [each.subject for each in candidates]
    if named:
        reason = f"names both a {' and a '.join(subjects)}; it must name one of them"
    else:
        reason = f"names neither a {' nor a '.join(subjects)}"
    raise DecodeError(f"{name} {reason}", "bad_member")
