"""Making the events of one tenant from whatever a format says (contract, section 2)."""

from __future__ import annotations

import re
from typing import Any

import orjson

from streams.contract.decoder import DECODERS, Rejected
from streams.ingest.items import FeedItem

Made = FeedItem | str
"""A record, or the reason why there is none."""

_foreign = re.compile(r"[^A-Za-z0-9_.@-]")


def user_id(principal_name: str) -> str:
    """The user id for who has a principal name and no object id: the name in small letters.

    Names may have characters that ids may not (``o'neill``, ``#EXT#``): each becomes ``:`` and its
    code in hexadecimal. A name has no ``:``, so two names never give one id.
    """
    name = principal_name.lower()
    return _foreign.sub(lambda found: f":{ord(found[0]):x}:", name)


class Maker:
    """Events of one tenant; ids are the mark of the file, the row, and a number in it."""

    __slots__ = ("_count", "_mark", "_row", "_tenant", "_time")

    def __init__(self, tenant: str, mark: str, time: str) -> None:
        self._tenant = tenant
        self._mark = mark
        self._time = time
        self._row: int | str = 0
        self._count = 0

    def begin(self, row: int | str) -> None:
        """What is made from now on comes from this row."""
        self._row = row
        self._count = 0

    def user(self, kind: str, user: Any, **members: Any) -> Made:
        return self._subject("user-changes", kind, "user", user, members)

    def group(self, kind: str, group: Any, **members: Any) -> Made:
        return self._subject("group-changes", kind, "group", group, members)

    def subscription(self, sku: Any, units: Any) -> Made:
        members = {"prepaidUnits": units}
        return self._subject("subscriptions", "subscription.updated", "skuId", sku, members)

    def membership(self, added: bool, user: Any, group: Any) -> Made:
        kind = "membership.added" if added else "membership.removed"
        return self._subject("user-changes", kind, "user", user, {"group": group})

    def _subject(
        self, topic: str, kind: str, name: str, subject: Any, members: dict[str, Any]
    ) -> Made:
        id = f"{self._mark}:{self._row}"
        if self._count:
            id = f"{id}.{self._count}"
        self._count += 1
        body = {"type": kind, "id": id, "time": self._time, "tenant": self._tenant}
        body[name] = subject
        body |= members
        return checked(topic, f"{self._tenant}/{subject}", body)


def checked(topic: str, key: str, body: dict[str, Any]) -> Made:
    """The record, if a worker will be able to read it."""
    try:
        value = orjson.dumps(body)
        item = FeedItem(topic, key.encode(), value)
    except (TypeError, UnicodeEncodeError):
        return "the text is not UTF-8, or not what JSON can hold"
    decoded = DECODERS[topic](item.key, value, None)
    return decoded.reason if type(decoded) is Rejected else item
