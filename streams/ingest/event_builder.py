"""Builds events (contract, section 2) of one tenant from the data of any input format."""

from __future__ import annotations

import re
from typing import Any

import orjson

from engine.domain.proxy_address import lower_ascii
from streams.contract.decoder import DECODERS, Rejected
from streams.ingest.items import FeedItem

EventOrReason = FeedItem | str
"""A record, or the reason why none could be built."""

_foreign = re.compile(r"[^A-Za-z0-9_.@-]")
_is_id = re.compile(r"[A-Za-z0-9_.:@-]{1,128}").fullmatch
_is_guid = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}").fullmatch


def is_object_id(value: object) -> bool:
    """Returns whether a value is an object id of a directory, a GUID in any case."""
    return isinstance(value, str) and _is_guid(value) is not None


def normalized_id(value: Any) -> Any:
    """Returns an object id in lower case, as Graph writes it; any other value unchanged.

    Exports, templates and scripts write the same GUID in capitals or small letters. Event ids are
    compared by their characters, so every feed applies this function (:class:`EventBuilder`).
    """
    return value.lower() if is_object_id(value) else value


def user_id(principal_name: str) -> str:
    """Returns a user id made from a principal name, for users without an object id.

    The name with its ASCII letters in lower case; each character that ids may not have
    (``o'neill``, ``#EXT#``) becomes ``:``, its code in hexadecimal, and ``:``. Names contain no
    ``:``, so ids stay distinct.
    """
    name = lower_ascii(principal_name)
    return _foreign.sub(lambda found: f":{ord(found[0]):x}:", name)


def group_id(name: str) -> str:
    """Returns a group's id from its id or name: a name that is no id is encoded like user ids."""
    return name if _is_id(name) else user_id(name)


def reasons_or_events(found: list[EventOrReason]) -> list[EventOrReason]:
    """Returns the events of an object, or only the reasons why some of them cannot be made."""
    return [each for each in found if isinstance(each, str)] or found


class EventBuilder:
    """Builds events of one tenant, with ids of the form ``fingerprint:row[.number]``.

    Object ids are written in lower case, whatever the source has.

    ``fingerprint``: identifies the source file or request. ``time``: RFC 3339, for all events.
    """

    __slots__ = ("_count", "_fingerprint", "_row", "_tenant", "_time")

    def __init__(self, tenant: str, fingerprint: str, time: str) -> None:
        self._tenant = tenant
        self._fingerprint = fingerprint
        self._time = time
        self._row: int | str = 0
        self._count = 0

    def begin(self, row: int | str) -> None:
        """Starts a row: the ids of the following events name it."""
        self._row = row
        self._count = 0

    def user(self, kind: str, user: Any, **members: Any) -> EventOrReason:
        """Builds an event of a user."""
        return self._subject("user-changes", kind, "user", user, members)

    def group(self, kind: str, group: Any, **members: Any) -> EventOrReason:
        """Builds an event of a group."""
        return self._subject("group-changes", kind, "group", group, members)

    def subscription(self, sku: Any, units: Any) -> EventOrReason:
        """Builds a ``subscription.updated``; ``units``: the object ``prepaidUnits``."""
        members = {"prepaidUnits": units}
        return self._subject("subscriptions", "subscription.updated", "skuId", sku, members)

    def subscription_deleted(self, sku: Any) -> EventOrReason:
        """Builds a ``subscription.deleted``."""
        return self._subject("subscriptions", "subscription.deleted", "skuId", sku, {})

    def tenant(self, **members: Any) -> EventOrReason:
        """Builds a ``tenant.updated``."""
        id = self._next_id()
        body = {"type": "tenant.updated", "id": id, "time": self._time, "tenant": self._tenant}
        return checked_item("tenants", self._tenant, body | members)

    def membership(self, added: bool, user: Any, group: Any) -> EventOrReason:
        """Builds a ``membership.added`` or ``membership.removed``."""
        kind = "membership.added" if added else "membership.removed"
        return self._subject("user-changes", kind, "user", user, {"group": normalized_id(group)})

    def _subject(
        self, topic: str, kind: str, name: str, subject: Any, members: dict[str, Any]
    ) -> EventOrReason:
        body = {"type": kind, "id": self._next_id(), "time": self._time, "tenant": self._tenant}
        subject = normalized_id(subject)
        body[name] = subject
        body |= members
        return checked_item(topic, f"{self._tenant}/{subject}", body)

    def _next_id(self) -> str:
        id = f"{self._fingerprint}:{self._row}"
        if self._count:
            id = f"{id}.{self._count}"
        self._count += 1
        return id


def checked_item(topic: str, key: str, body: dict[str, Any]) -> EventOrReason:
    """Returns the record if a worker can decode it, otherwise the reason why not."""
    try:
        value = orjson.dumps(body)
        item = FeedItem(topic, key.encode(), value)
    except (TypeError, UnicodeEncodeError):
        return (
            "the text is not valid UTF-8: save the file as UTF-8 (in Excel: CSV UTF-8); or it"
            " cannot be written as JSON"
        )
    decoded = DECODERS[topic](item.key, value, None)
    return decoded.reason if type(decoded) is Rejected else item
