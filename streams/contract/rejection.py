"""Rejections: why a record cannot be decoded, as one line for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from engine.domain.events import ABSENT
from streams.runtime.errors import SenderError

_T = TypeVar("_T")

MAX_DESCRIBED_CHARACTERS = 60
CODES: Final[Mapping[str, str]] = {
    "bad_member": "a member, or an attribute of the CloudEvent, is missing or malformed",
    "bad_message": "a record of an internal topic that no worker has written",
    "bad_source_record": "a record of another system's topic that its bridge cannot translate",
    "invalid_timestamp": "the record's timestamp is in no year from 1 to 9999",
    "no_value": "the value is null",
    "not_json": "the value is not JSON",
    "processor_failed": "an error of Seatflow: the record failed whenever it was applied",
    "too_large": "the value has more than 1 MiB",
    "unknown_type": "there is no such event type, or it belongs to another topic",
    "wrong_key": "the key is not that of the object in the value",
    "wrong_partition": "a forwarded record that is not on the partition of its key",
}
"""The codes of dead letters (header ``dlq.code``) and their meaning. Programs of users compare
them: new ones may come, none changes its meaning. The reason in full is for people."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """The reason a record cannot be applied: one line for people, and a key of ``CODES``."""

    reason: str
    kind: str = "bad_member"


class DecodeError(SenderError):
    """Raised while decoding; its arguments are the members of a ``Rejected``."""

    def __str__(self) -> str:
        return str(self.args[0])


def escape_line(text: str, limit: int) -> str:
    """Returns at most ``limit`` characters of a text, with unprintable ones escaped: one line."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:limit]
    )


def describe_value(value: object) -> str:
    """Describes a JSON value, bytes or ABSENT in a few words, e.g. ``'abc'`` or ``an object``."""
    if value is ABSENT:
        return "missing"
    if isinstance(value, bytes):
        value = value.decode(errors="backslashreplace")
    if isinstance(value, str):
        limit = MAX_DESCRIBED_CHARACTERS
        end = f"…' ({len(value)} characters)" if len(value) > limit else "'"
        return f"'{escape_line(value, limit)}{end}" if value else "empty"
    if isinstance(value, (list, dict)):
        return f"a list of length {len(value)}" if isinstance(value, list) else "an object"
    return "null" if value is None else str(value).lower()


def malformed(name: str, value: object, allowed: str, kind: str = "bad_member") -> DecodeError:
    """Returns the error for a member that holds a value other than what is allowed."""
    return DecodeError(f"{name} is {describe_value(value)}; it must be {allowed}", kind)


def require_type(kind: type[_T], value: Any, name: str) -> _T:
    """Returns the value if it is a list, object or boolean as required. Raises: DecodeError."""
    if type(value) is kind:
        return value
    raise malformed(name, value, {list: "a list", dict: "an object", bool: "true or false"}[kind])
