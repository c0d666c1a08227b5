"""The sources that may send: a token for each source and tenant, from a TOML file.

[[source]]
name = "entra"            # becomes part of the ids of its events
tenant = "contoso"
token = "…"               # or token_sha256, so that the file holds no secret
accepts = ["scim"]        # of scim, upload, notifications, events; all if left out
client_state = "…"        # of Graph's notifications, which carry no token
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streams.runtime.errors import CONFIGURATION, WorkerError
from streams.runtime.tokens import MIN_TOKEN_CHARACTERS, TokenEntry, load_token_file, token_digest

MIN_STATE_CHARACTERS = MIN_TOKEN_CHARACTERS
KINDS = ("scim", "upload", "notifications", "events")
_is_name = re.compile(r"[A-Za-z0-9_.@-]{1,64}").fullmatch


@dataclass(frozen=True, slots=True)
class Source:
    """A sender: its name, the one tenant it sends for, and the kinds of input it may send."""

    name: str
    tenant: str
    digest: bytes  # SHA-256 of the token
    accepts: tuple[str, ...] = KINDS
    client_state: str | None = None


class Sources:
    """All sources of the file."""

    def __init__(self, sources: list[Source]) -> None:
        self.all = tuple(sources)

    def of_token(self, authorization: str | None) -> Source | None:
        """Returns the source of an ``Authorization`` header; compares in constant time."""
        scheme, _, token = (authorization or "").partition(" ")
        digest = token_digest(token.strip())
        found = None
        for source in self.all:
            if hmac.compare_digest(source.digest, digest):
                found = source
        return found if scheme.lower() == "bearer" else None

    def of_client_state(self, state: object) -> Source | None:
        """Returns the source of a Graph notification by its ``clientState``, or None."""
        given = state.encode() if isinstance(state, str) else b""
        found = None
        for source in self.all:
            if source.client_state and hmac.compare_digest(source.client_state.encode(), given):
                found = source
        return found


def load_sources(path: Path) -> Sources:
    """Reads the file of sources. Raises: WorkerError, with what is wrong and where."""
    remedy = "each source needs a name, a tenant and a token"
    entries = load_token_file(path, "source", _problem, remedy=remedy, plain_tokens=True)
    sources = [_source(entry) for entry in entries]
    if len({source.digest for source in sources}) < len(sources):
        raise WorkerError(f"{path}: two sources have the same token", CONFIGURATION)
    return Sources(sources)


def _problem(table: dict[str, Any]) -> str | None:
    for name in ("name", "tenant"):
        if not _is_name(str(table.get(name, ""))):
            return f"{name} must be 1 to 64 characters of A-Z a-z 0-9 . _ @ -"
    state = table.get("client_state")
    if state is not None and (not isinstance(state, str) or len(state) < MIN_STATE_CHARACTERS):
        return (
            f"client_state must have at least {MIN_STATE_CHARACTERS} characters: it is the secret"
            " of notifications, which may delete users"
        )
    if unknown := [kind for kind in table.get("accepts", ()) if kind not in KINDS]:
        return f"accepts has {unknown[0]!r}; known are {', '.join(KINDS)}"
    return None


def _source(entry: TokenEntry) -> Source:
    table = entry.table
    accepts = tuple(table.get("accepts", KINDS))
    state = table.get("client_state")
    return Source(str(table["name"]), str(table["tenant"]), entry.digest, accepts, state)
