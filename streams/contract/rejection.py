"""Refusing what cannot be read: the reason, in one line that a person understands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from engine.domain.events import ABSENT

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Rejected:
    """Why a record cannot be read: a line for the header ``dlq.reason``, and of which kind."""

    reason: str
    kind: str = "bad_member"


class ReadError(Exception):
    """The members of a ``Rejected``, on its way from wherever it was found."""


def escaped(text: str, limit: int) -> str:
    """One line however hostile the text is."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:limit]
    )


def shown(value: object) -> str:
    if value is ABSENT:
        return "missing"
    if isinstance(value, bytes):
        value = value.decode(errors="backslashreplace")
    if isinstance(value, str):
        cut = f"…' ({len(value)} characters)" if len(value) > 60 else "'"
        return f"'{escaped(value, 60)}{cut}" if value else "empty"
    if isinstance(value, (list, dict)):
        return f"a list of length {len(value)}" if isinstance(value, list) else "an object"
    return "null" if value is None else str(value).lower()


def refusal(name: str, value: object, allowed: str, kind: str = "bad_member") -> ReadError:
    return ReadError(f"{name} is {shown(value)}; it must be {allowed}", kind)


def typed(kind: type[_T], value: Any, name: str) -> _T:
    if type(value) is kind:
        return value
    raise refusal(name, value, {list: "a list", dict: "an object", bool: "true or false"}[kind])
