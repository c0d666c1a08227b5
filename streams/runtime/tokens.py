"""Token files: TOML with one table for each bearer token, of which only the digest is kept.

The console (``[[token]]``) and the HTTP receiver (``[[source]]``) read theirs through
``load_token_file``; what else a table holds, and how it is checked, is theirs.
"""

from __future__ import annotations

import hashlib
import re
import stat
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from streams.runtime import log_events
from streams.runtime.errors import CONFIGURATION, WorkerError, log

MIN_TOKEN_CHARACTERS = 16
_is_digest = re.compile(r"[0-9a-f]{64}").fullmatch


class TokenEntry(NamedTuple):
    """One table of a token file. ``digest``: the SHA-256 of the token."""

    table: dict[str, Any]
    digest: bytes


def token_digest(token: str) -> bytes:
    """Returns the SHA-256 of a token as received in a request, whatever its characters."""
    return hashlib.sha256(token.encode(errors="surrogateescape")).digest()


def load_token_file(
    path: Path,
    section: str,
    problem_of: Callable[[dict[str, Any]], str | None],
    *,
    remedy: str,
    plain_tokens: bool = False,
) -> list[TokenEntry]:
    """Reads the tables ``[[section]]`` of a token file.

    Each table has the token's digest, in hexadecimal, as ``sha256`` or ``token_sha256``.
    ``problem_of``: returns what is wrong with the other members of a table, or None.
    ``remedy``: what to do if the file has no table; completes the message.
    ``plain_tokens``: a table may have the ``token`` itself instead of its digest.
    Raises: WorkerError, exit code CONFIGURATION.
    """
    try:
        if path.stat().st_mode & stat.S_IWOTH:
            raise _error(f"the token file {path} can be written by everybody: chmod o-w it")
        tables = tomllib.loads(path.read_text(encoding="utf-8")).get(section, [])
    except OSError as error:
        raise _error(f"the token file {path} cannot be read: {error.strerror}") from None
    except ValueError as error:  # not UTF-8, or not TOML
        raise _error(f"the token file {path} cannot be read, it is not TOML: {error}") from None
    if not isinstance(tables, list) or not tables:
        raise _error(f"the token file {path} has no [[{section}]]: {remedy}")
    entries = []
    for number, table in enumerate(tables, start=1):
        place = f"{path}, {section} {number}"
        if not isinstance(table, dict):
            raise _error(f"{place} is not a table")
        if problem := problem_of(table):
            raise _error(f"{place}: {problem}")
        if (digest := _digest_in(table, plain_tokens)) is None:
            problem = "sha256 must be the token's SHA-256 digest, 64 characters of 0-9 a-f"
            if plain_tokens:
                problem = (
                    f"token must have at least {MIN_TOKEN_CHARACTERS} characters; or {problem}"
                )
            raise _error(f"{place}: {problem}")
        entries.append(TokenEntry(table, digest))
    plain = plain_tokens and any("token" in entry.table for entry in entries)
    if plain and path.stat().st_mode & stat.S_IROTH:
        log.warning(log_events.TOKENS_READABLE, file=str(path))
    return entries


def _digest_in(table: dict[str, Any], plain_tokens: bool) -> bytes | None:
    token = table.get("token") if plain_tokens else None
    if isinstance(token, str) and len(token) >= MIN_TOKEN_CHARACTERS:
        return token_digest(token)
    digest = str(table.get("sha256", table.get("token_sha256", "")))
    return bytes.fromhex(digest) if _is_digest(digest) else None


def _error(message: str) -> WorkerError:
    return WorkerError(message, CONFIGURATION)
