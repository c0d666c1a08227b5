"""The one name that pages have for a product, in tables and in the workers' sentences alike.

The workers' sentences name products by their part numbers, as their other readers expect; pages
show the display name.
"""

from __future__ import annotations

import re
from functools import cached_property

from streams.console.read_model.queries import Connection

_SUBJECT = (
    r"(?<![\w.])(\S+)(?= (?:has plans|needs a usage|lacks what|cannot be (?:removed|changed)"
    r"|has a mail plan|was not assigned|of the same group))"
)
_OBJECT = r"(?<=\bof )([\w.:@-]+)(?= is free|, |\. |\.$| and \d)"
_PLACES = re.compile(f"{_SUBJECT}|{_OBJECT}")
_LISTED = re.compile(r"(?<=could not be: )(.+?)(?= and \d+ more|\.$|\.;)")
"""Where sentences of ``engine.domain.messages`` name products. Plans keep their names."""


class ProductNames:
    """The display names of products, read as far as a page needs them."""

    def __init__(self, db: Connection) -> None:
        self._db = db
        self._known: dict[str, str] = {}

    def __call__(self, sku: str) -> str:
        """Returns the display name of a product; its id if it is not defined."""
        if sku not in self._known:
            row = self._db.execute("SELECT part, name FROM catalog WHERE sku = ?", (sku,))
            found = row.fetchone()
            self._known[sku] = (found["name"] or found["part"]) if found else sku
        return self._known[sku]

    @cached_property
    def _by_part(self) -> dict[str, str]:
        rows = self._db.execute("SELECT part, name FROM catalog WHERE name IS NOT NULL")
        return {row["part"]: row["name"] for row in rows}

    def sentence(self, text: str | None) -> str:
        """Returns a sentence of the workers with the display names of the products in it."""
        if not text:
            return ""

        def name(found: re.Match[str]) -> str:
            return self._by_part.get(found[0], found[0])

        def listed(found: re.Match[str]) -> str:
            return ", ".join(self._by_part.get(part, part) for part in found[0].split(", "))

        return _LISTED.sub(listed, _PLACES.sub(name, text))
