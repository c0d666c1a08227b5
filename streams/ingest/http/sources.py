"""Who may send: a token for each source and tenant, from a TOML file.

[[source]]
name = "entra"            # goes into the ids of its events
tenant = "contoso"
token = "…"               # or token_sha256, so that the file holds no secret
accepts = ["scim"]        # of scim, upload, notifications, events; all if left out
client_state = "…"        # of Graph's notifications, which carry no token
"""

from __future__ import annotations

import hashlib
import hmac
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from streams.ingest.items import FeedError

KINDS = ("scim", "upload", "notifications", "events")
SHORTEST_TOKEN = 16


@dataclass(frozen=True, slots=True)
class Source:
    name: str
    tenant: str
    digest: str  # SHA-256 of the token, hexadecimal
    accepts: tuple[str, ...] = KINDS
    client_state: str | None = None


class Sources:
    """All that may send. FeedError: the file says something else, with what and where."""

    def __init__(self, sources: list[Source]) -> None:
        self.all = tuple(sources)

    def of_token(self, authorization: str | None) -> Source | None:
        """The source of an ``Authorization`` header, compared in constant time."""
        scheme, _, token = (authorization or "").partition(" ")
        digest = hashlib.sha256(token.strip().encode()).hexdigest()
        found = None
        for source in self.all:
            if hmac.compare_digest(source.digest, digest):
                found = source
        return found if scheme.lower() == "bearer" else None

    def of_client_state(self, state: object) -> Source | None:
        given = state.encode() if isinstance(state, str) else b""
        found = None
        for source in self.all:
            if source.client_state and hmac.compare_digest(source.client_state.encode(), given):
                found = source
        return found


def load_sources(path: Path) -> Sources:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FeedError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise FeedError(f"{path} is not TOML: {error}") from None
    entries = table.get("source")
    if not isinstance(entries, list) or not entries:
        raise FeedError(f"{path} has no [[source]]: whoever sends needs a name, a tenant, a token")
    sources = [_source(entry, f"{path}, source {n}") for n, entry in enumerate(entries, start=1)]
    if len({source.digest for source in sources}) < len(sources):
        raise FeedError(f"{path}: two sources have the same token")
    return Sources(sources)


def _source(entry: object, where: str) -> Source:
    if not isinstance(entry, dict):
        raise FeedError(f"{where} is not a table")
    for name in ("name", "tenant"):
        if not re.fullmatch(r"[A-Za-z0-9_.@-]{1,64}", str(entry.get(name, ""))):
            raise FeedError(f"{where}: {name} must be 1 to 64 characters of A-Z a-z 0-9 . _ @ -")
    token, digest = entry.get("token"), entry.get("token_sha256")
    if isinstance(token, str) and len(token) >= SHORTEST_TOKEN:
        digest = hashlib.sha256(token.encode()).hexdigest()
    if not isinstance(digest, str) or not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise FeedError(
            f"{where}: a token of at least {SHORTEST_TOKEN} characters, or its token_sha256"
        )
    accepts = tuple(entry.get("accepts", KINDS))
    if unknown := [kind for kind in accepts if kind not in KINDS]:
        raise FeedError(f"{where}: accepts has {unknown[0]!r}; known are {', '.join(KINDS)}")
    state = entry.get("client_state")
    return Source(str(entry["name"]), str(entry["tenant"]), digest, accepts, state)
