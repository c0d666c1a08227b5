"""A call of a Graph client, and its answer; the same whether it came alone or in a batch."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

from streams.console.security.auth import Principal
from streams.console.service import Service

SAFE_IN_PATHS = "/$()'@:,="


@dataclass(slots=True)
class Answer:
    """An answer. ``body``: JSON, or text as it is, or None for no body."""

    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Call:
    """A call, of which the tenant and the caller are known.

    ``root``: the URL that paths are below of, for instance ``https://host/v1.0``.
    ``path``: the segments below the root as they were given.
    ``parameters``: the query's, by names with ``$``.
    ``body``: the request's JSON; None if there is none.
    ``admit``: charges a further call with this method to the sender's rate; False: too many.
    """

    service: Service
    principal: Principal
    tenant: str
    root: str
    method: str
    path: Sequence[str]
    parameters: Mapping[str, str]
    body: Any = None
    admit: Callable[[str], bool] = lambda _method: True

    @property
    def db(self) -> sqlite3.Connection:
        """The calling thread's connection to the read model."""
        return self.service.store.read_connection()

    def context(self, what: str) -> str:
        """Returns ``@odata.context`` of an answer."""
        return f"{self.root}/$metadata#{what}"

    def link(self, path: str, **options: str) -> str:
        """Returns the URL of a path with query options, named without ``$``."""
        query = urlencode({f"${name}": value for name, value in options.items()}, safe="$")
        url = f"{self.root}/{quote(path, safe=SAFE_IN_PATHS)}"
        return f"{url}?{query}" if query else url
