"""Authentication and authorization: bearer tokens from a file, browser sessions, CSRF tokens.

The file is TOML, one table for each token, and holds digests only::

    [[token]]
    name = "ann"                  # the name in the audit log
    role = "operator"             # or "reader"
    tenants = ["contoso"]         # or ["*"]
    sha256 = "…"                  # of the token; `seatflow console --new-token ann` makes one

It is read again when it changes: a token that is removed ends immediately, as do its sessions.
"""

from __future__ import annotations

import getpass
import hmac
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streams.runtime import log_events
from streams.runtime.errors import WorkerError, log
from streams.runtime.tokens import load_token_file, token_digest

SESSION_SECONDS = 12 * 3600
MOST_SESSIONS = 10_000
ROLES = ("reader", "operator")
EVERY = "*"
SESSION_COOKIE = "seatflow"


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller. ``tenants`` has the tenants it may read; None means all."""

    name: str
    role: str
    tenants: frozenset[str] | None

    def can_read(self, tenant: str) -> bool:
        """Returns True if the principal may read the tenant."""
        return self.tenants is None or tenant in self.tenants

    def can_operate(self, tenant: str) -> bool:
        """Returns True if the principal may send commands for the tenant."""
        return self.role == "operator" and self.can_read(tenant)


@dataclass(slots=True)
class Session:
    """A browser's session. ``digest``: of its token; None on a console without tokens."""

    digest: bytes | None
    until: float
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(32))


class Authenticator:
    """Authenticates requests by bearer token or session.

    Without a token file, everybody is this machine's operator; the console then listens on a
    loopback address only.
    """

    def __init__(self, tokens_file: Path | None) -> None:
        self.file = tokens_file
        self._read: tuple[int, int] = (0, 0)
        self._tokens: dict[bytes, Principal] = {}
        self._sessions: dict[str, Session] = {}
        self._looked = 0.0
        self._broken = False
        self._local = Principal(f"{_user()} on this machine", "operator", None)
        if tokens_file is not None:
            self._tokens = read_tokens(tokens_file)
            self._read = _stamp(tokens_file)

    @property
    def open(self) -> bool:
        """True if no token is needed."""
        return self.file is None

    def bearer(self, token: str) -> Principal | None:
        """Returns the principal of a token, or None.

        Compares with every known digest in constant time, so that timing reveals nothing.
        """
        return self._by_digest(token_digest(token))

    def _by_digest(self, digest: bytes) -> Principal | None:
        self._renew()
        found = None
        for known, principal in self._tokens.items():
            if hmac.compare_digest(known, digest):
                found = principal
        return found

    def _renew(self) -> None:
        """Takes what the file says now; while it cannot be read, nobody is let in.

        Sessions outlive that: an editor or a volume replaces a file in more than one step.
        """
        now = time.monotonic()
        if self.file is None or now - self._looked < 1.0:
            return
        self._looked = now
        stamp = _stamp(self.file)
        if stamp != self._read:
            self._read = stamp
            try:
                self._tokens, self._broken = read_tokens(self.file), False
            except WorkerError as error:
                self._tokens, self._broken = {}, True
                log.warning(log_events.CONSOLE_PROBLEM, problem=str(error))

    # -- browsers
    def session(self, cookie: str | None) -> tuple[Session, Principal] | None:
        """Returns the session of a cookie and its principal; None if it has ended."""
        found = self._sessions.get(cookie or "")
        if found is None:
            return None
        principal = self._local if found.digest is None else self._by_digest(found.digest)
        if principal is None or found.until < time.time():
            if not self._broken:
                self._sessions.pop(cookie or "", None)
            return None
        return found, principal

    def log_in(self, token: str | None = None) -> str | None:
        """Opens a session and returns its cookie; None if the token is unknown."""
        if token is not None and self.bearer(token) is None:
            return None
        digest = None if token is None else token_digest(token)
        if len(self._sessions) >= MOST_SESSIONS:
            self._drop_oldest()
        cookie = secrets.token_urlsafe(32)
        self._sessions[cookie] = Session(digest, time.time() + SESSION_SECONDS)
        return cookie

    def _drop_oldest(self) -> None:
        for cookie in sorted(self._sessions, key=lambda c: self._sessions[c].until)[:100]:
            del self._sessions[cookie]

    def log_out(self, cookie: str | None) -> None:
        """Ends the session of a cookie."""
        self._sessions.pop(cookie or "", None)

    @property
    def local(self) -> Principal:
        """The operator at this machine."""
        return self._local


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "somebody"


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0)
    return found.st_mtime_ns, found.st_size


def read_tokens(path: Path) -> dict[bytes, Principal]:
    """Returns the principal of each token, by the token's digest. Raises: WorkerError."""
    remedy = "make one with `seatflow console --new-token NAME`"
    entries = load_token_file(path, "token", _problem, remedy=remedy)
    return {entry.digest: _principal(entry.table) for entry in entries}


def _principal(table: dict[str, Any]) -> Principal:
    tenants = None if EVERY in table["tenants"] else frozenset(table["tenants"])
    return Principal(table["name"], table["role"], tenants)


def _problem(table: dict[str, Any]) -> str | None:
    name, tenants = table.get("name"), table.get("tenants")
    if not isinstance(name, str) or not 0 < len(name) <= 100 or not name.isprintable():
        return "name must be 1 to 100 printable characters"
    if table.get("role") not in ROLES:
        return f"role must be {' or '.join(ROLES)}"
    if not isinstance(tenants, list) or not tenants or not all(isinstance(t, str) for t in tenants):
        return 'tenants must be a list of tenant ids, or ["*"]'
    return None


def new_token(name: str) -> tuple[str, str]:
    """Returns a new token for its holder, and its table for the file."""
    token = secrets.token_urlsafe(32)
    digest = token_digest(token).hex()
    quoted = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    table = f'[[token]]\nname = {quoted}\nrole = "reader"\ntenants = ["*"]\nsha256 = "{digest}"\n'
    return token, table
