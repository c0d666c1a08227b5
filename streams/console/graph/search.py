"""``$search``: ``"displayName:ann" AND ("mail:a" OR "mail:b")``, as SQL with parameters.

Of a property with words, every word of the text begins a word of the value; of the others, the
value begins with the text.
"""

from __future__ import annotations

import re

from streams.console.graph.conditions import Sql
from streams.console.graph.errors import GraphError, bad_request
from streams.console.graph.properties import Kind, Property

MOST_CHARACTERS = 1_000
MOST_CLAUSES = 20
MOST_DEPTH = 10
SEPARATORS = " -._@/("
"""Characters after which a word begins."""
_TOKENS = re.compile(r'\s*(?P<clause>"(?:[^"\\]|\\.)*")|\s*(?P<word>AND|OR)\b|\s*(?P<sign>[()])')


def compile_search(kind: Kind, text: str) -> Sql:
    """Returns the condition of a search. Raises: GraphError."""
    if len(text) > MOST_CHARACTERS or "\0" in text:
        raise bad_request(f"$search may have {MOST_CHARACTERS:,} characters, and none is NUL.")
    return _Search(kind, text).read()


class _Search:
    def __init__(self, kind: Kind, text: str) -> None:
        self.kind, self.text = kind, text.strip()
        self._pieces: list[str] = []
        at = 0
        while at < len(self.text):
            hit = _TOKENS.match(self.text, at)
            if hit is None:
                raise self._unreadable()
            self._pieces.append(hit[0].strip())
            at = hit.end()
        if sum(piece.startswith('"') for piece in self._pieces) > MOST_CLAUSES:
            raise bad_request(f"$search has more than {MOST_CLAUSES} parts.")

    def _unreadable(self) -> GraphError:
        return bad_request(
            f"$search cannot be read: {self.text[:100]!r}; it is written as"
            ' "displayName:ann" OR "mail:ann", each part in double quotes.'
        )

    def _next(self) -> str:
        return self._pieces[0] if self._pieces else ""

    def read(self) -> Sql:
        """Returns the condition of the whole search."""
        found = self._alternatives(0)
        if self._pieces:
            raise self._unreadable()
        return found

    def _alternatives(self, depth: int) -> Sql:
        found = self._conjunction(depth)
        while self._next() == "OR":
            self._pieces.pop(0)
            more = self._conjunction(depth)
            found = Sql(f"({found.text}) OR ({more.text})", found.values + more.values)
        return found

    def _conjunction(self, depth: int) -> Sql:
        found = self._part(depth)
        while self._next() == "AND":
            self._pieces.pop(0)
            more = self._part(depth)
            found = Sql(f"({found.text}) AND ({more.text})", found.values + more.values)
        return found

    def _part(self, depth: int) -> Sql:
        piece = self._next()
        if depth > MOST_DEPTH or not piece or piece in ("AND", "OR", ")"):
            raise self._unreadable()
        self._pieces.pop(0)
        if piece != "(":
            return self._clause(re.sub(r"\\(.)", r"\1", piece[1:-1]))
        found = self._alternatives(depth + 1)
        if self._next() != ")":
            raise self._unreadable()
        self._pieces.pop(0)
        return found

    def _clause(self, clause: str) -> Sql:
        name, colon, text = clause.partition(":")
        searchable = {
            known.lower(): found
            for known, found in self.kind.filtered.items()
            if isinstance(found, Property) and found.searched
        }
        if not searchable:
            raise bad_request(f"$search is not supported for {self.kind.name}.")
        found = searchable.get(name.strip().lower())
        if not colon or found is None:
            allowed = [n for n in self.kind.filtered if n.lower() in searchable]
            raise bad_request(
                f"$search: {clause[:100]!r} must begin with a property and a colon:"
                f" {', '.join(allowed)}."
            )
        return matches(found, text)


def matches(found: Property, text: str) -> Sql:
    """Returns the condition that a property matches a searched text."""
    words = text.split() if found.searched == "words" else [text.strip()]
    if not "".join(words):
        raise bad_request("$search: there is no text after the colon.")
    starts = ("", *(f"%{sign}" for sign in SEPARATORS)) if found.searched == "words" else ("",)
    parts, values = [], []
    for word in words:
        # LIKE disregards the case of ASCII letters.
        like = f"coalesce({found.sql} LIKE ? ESCAPE '\\', 0)"
        parts.append("(" + " OR ".join([like] * len(starts)) + ")")
        values += [_escaped_start(start) + _escaped(word) + "%" for start in starts]
    return Sql(" AND ".join(parts), tuple(values))


def _escaped_start(start: str) -> str:
    return "%" + _escaped(start[1:]) if start else ""


def _escaped(text: str) -> str:
    for special in ("\\", "%", "_"):
        text = text.replace(special, "\\" + special)
    return text
