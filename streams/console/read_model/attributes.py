"""Attributes of users, as events name them: the list for finance has two of them.

Names are compared in small letters. The engine has no part in this.
"""

from __future__ import annotations

from typing import Any

import orjson

from engine.domain.events import ABSENT
from streams.console.read_model.output_projections import ProjectionWriter, text_of

Key = tuple[str, str]
COST_CENTRE = ("costcenter", "costcentre")
DEPARTMENT = ("department",)
_FIND = "SELECT body FROM attributes WHERE tenant = ? AND user = ?"


class Attributes:
    """The attributes of the users of a batch that has any."""

    def __init__(self) -> None:
        self._known: dict[Key, dict[str, Any]] = {}

    def patch(self, to: ProjectionWriter, key: Key, given: Any) -> None:
        """Changes those that are given; null clears one, or all."""
        if given is None:
            self._known[key] = {}
        if not isinstance(given, dict):
            return
        if key not in self._known:
            row = to.db.execute(_FIND, key).fetchone()
            self._known[key] = orjson.loads(row[0]) if row else {}
        known = self._known[key]
        for name, value in given.items():
            known[name.lower()] = value
            if value is None:
                del known[name.lower()]

    def replace(self, to: ProjectionWriter, key: Key, given: Any) -> None:
        """Sets all of them."""
        self._known[key] = {}
        self.patch(to, key, given)

    def forget(self, key: Key) -> None:
        """Drops those of a deleted user."""
        self._known[key] = {}

    def write(self, to: ProjectionWriter) -> None:
        """Writes the rows."""
        for key, known in self._known.items():
            if known:
                sql = "INSERT OR REPLACE INTO attributes VALUES(?, ?, ?)"
                to.db.execute(sql, (*key, text_of(known)))
            else:
                to.db.execute("DELETE FROM attributes WHERE tenant = ? AND user = ?", key)


def given_attributes(body: dict[str, Any]) -> Any:
    """Returns the attributes in a user's event, or ABSENT."""
    return body.get("attributes", ABSENT)


def attribute(body: str | None, names: tuple[str, ...]) -> str | None:
    """Returns the first of these attributes that a user has, as text."""
    known = orjson.loads(body) if body else {}
    for name in names:
        value = known.get(name)
        if isinstance(value, list):
            return "; ".join(map(str, value))
        if value is not None:
            return value if isinstance(value, str) else orjson.dumps(value).decode()
    return None
