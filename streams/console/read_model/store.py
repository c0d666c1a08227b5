"""The database of the read model: one SQLite file, written by the projector, read by requests.

Rebuilt from nothing by deleting the file. Users who have the same licences in the same states share
one *shape*, so a user is one small row, and "who holds this product" is a sum over shapes. How far
each topic was read is in ``offsets``, written in the transaction of the rows.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import orjson

from streams.console.read_model import object_changes, rule_matches
from streams.http_server import cancellation
from streams.runtime.errors import CONFIGURATION, WorkerError

KEEP_DAYS = 90
"""Of the audit, results, dead letters and seat figures: longer than their topics keep them."""
READER_CACHE_KIB = 2048
MAPPED_BYTES = 1 << 30
CANCEL_AFTER_STEPS = 20_000
"""Instructions of SQLite between two looks at the request that a query is for: about 1 ms."""
BUSY_WAIT_SECONDS = 30
TRUNCATE_WAIT_MS = 200
"""The writer's patience with readers of the journal; it is truncated later otherwise."""
VACUUM_DAYS = 7
FORMAT = 10
"""The format of the tables and of the JSON in them; raise it with every change of either.

A file of an older or unknown format is rebuilt from the topics; one of a newer format is refused.
"""

SCHEMA = """
CREATE TABLE meta(name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE offsets(topic TEXT, partition INTEGER, next INTEGER,
  PRIMARY KEY(topic, partition)) WITHOUT ROWID;

-- From user-changes: known, name, upn, location, mail, addresses, nickname. From user-licenses: the
-- others, where `published` is [usageLocation, mail, proxyAddresses, [since…], updatedAt, causedBy,
-- effectiveUsageLocation, mailNickname]. `direct`: the direct licences that a deletion would keep
-- (R22) while they are not among the published ones, as [[skuId, disabled plans]…].
CREATE TABLE users(tenant TEXT, user TEXT, known INTEGER DEFAULT 0, name TEXT, upn TEXT,
  location TEXT, mail TEXT, addresses TEXT, nickname TEXT, find TEXT, shape INTEGER,
  revision INTEGER, published TEXT, direct TEXT);
CREATE UNIQUE INDEX user_ids ON users(tenant, user);
CREATE INDEX user_names ON users(tenant, upn COLLATE NOCASE);
CREATE INDEX user_shapes ON users(shape, user) WHERE shape IS NOT NULL;
CREATE TABLE shapes(shape INTEGER PRIMARY KEY, tenant TEXT, digest BLOB, body TEXT);
CREATE TABLE paths(tenant TEXT, sku TEXT, grp TEXT, state TEXT, error TEXT, shape INTEGER,
  PRIMARY KEY(tenant, sku, grp, shape)) WITHOUT ROWID;
CREATE INDEX paths_by_group ON paths(tenant, grp);

-- From user-changes: direct memberships. `since` is milliseconds, `place` the record's offset (R8).
CREATE TABLE members(tenant TEXT, user TEXT, grp TEXT, since INTEGER, place INTEGER,
  PRIMARY KEY(tenant, user, grp)) WITHOUT ROWID;
CREATE TABLE attributes(tenant TEXT, user TEXT, body TEXT,
  PRIMARY KEY(tenant, user)) WITHOUT ROWID;
-- Users in the recycle bin (R22), until they come back. Their memberships stay in `members`.
-- `direct`: the licences that were direct, from the last state before the tombstone.
CREATE TABLE recycle_bin(tenant TEXT, user TEXT, name TEXT, upn TEXT, location TEXT, mail TEXT,
  addresses TEXT, nickname TEXT, direct TEXT, PRIMARY KEY(tenant, user)) WITHOUT ROWID;
CREATE INDEX group_members ON members(tenant, grp, user);
-- Claims of given addresses, a given mail included, in normal form: the first one owns (R18).
CREATE TABLE addresses(tenant TEXT, address TEXT, user TEXT, since INTEGER, place INTEGER,
  PRIMARY KEY(tenant, address, user)) WITHOUT ROWID;

CREATE TABLE groups(tenant TEXT, grp TEXT, name TEXT, deleted INTEGER, state TEXT, members INTEGER,
  licensed INTEGER, in_error INTEGER, body TEXT, PRIMARY KEY(tenant, grp)) WITHOUT ROWID;
CREATE TABLE errors(tenant TEXT, user TEXT, grp TEXT, sku TEXT, state TEXT, error TEXT, since TEXT,
  body TEXT, PRIMARY KEY(tenant, user, grp, sku)) WITHOUT ROWID;
CREATE INDEX errors_by_error ON errors(tenant, error, user, grp, sku);
CREATE INDEX errors_by_group ON errors(tenant, grp, user, sku);
CREATE INDEX errors_by_sku ON errors(tenant, sku, user, grp);
CREATE TABLE seats(tenant TEXT, sku TEXT, consumed INTEGER, available INTEGER, waiting INTEGER,
  body TEXT, PRIMARY KEY(tenant, sku)) WITHOUT ROWID;
-- The last figures of each minute in which they changed.
CREATE TABLE seat_history(tenant TEXT, sku TEXT, minute INTEGER, consumed INTEGER, units INTEGER,
  PRIMARY KEY(tenant, sku, minute)) WITHOUT ROWID;
CREATE TABLE catalog(sku TEXT PRIMARY KEY, part TEXT, name TEXT, body TEXT) WITHOUT ROWID;
CREATE TABLE subscriptions(tenant TEXT, sku TEXT, body TEXT,
  PRIMARY KEY(tenant, sku)) WITHOUT ROWID;
CREATE TABLE tenants(tenant TEXT PRIMARY KEY, name TEXT, body TEXT) WITHOUT ROWID;

CREATE TABLE results(cause TEXT, tenant TEXT, at INTEGER, status TEXT, body TEXT);
CREATE INDEX results_by_cause ON results(cause);
-- Licence changes without a final result: [add, remove] as the engine takes them, where
-- `remove` is null for a whole list (R28).
CREATE TABLE changes(cause TEXT, tenant TEXT, kind TEXT, target TEXT, at INTEGER, body TEXT);
CREATE INDEX changes_by_cause ON changes(cause);
CREATE TABLE audit(id INTEGER PRIMARY KEY, tenant TEXT, time TEXT, kind TEXT, target TEXT,
  activity TEXT, result TEXT, who TEXT, cause TEXT, body TEXT);
CREATE INDEX audit_by_time ON audit(tenant, time, id);
CREATE INDEX audit_by_target ON audit(tenant, kind, target, time, id);
CREATE INDEX audit_by_request ON audit(tenant, cause) WHERE who <> 'Seatflow';
-- Input events by their ids (causes.py): `place` is topic/partition@offset.
CREATE TABLE causes(tenant TEXT, cause TEXT, at INTEGER, type TEXT, topic TEXT, subject TEXT,
  grp TEXT, place TEXT, source TEXT, PRIMARY KEY(tenant, cause, at)) WITHOUT ROWID;
-- `place` is the record's: topic/partition/offset, `letter` the dead letter's: partition@offset.
CREATE TABLE dead_letters(id INTEGER PRIMARY KEY, at INTEGER, topic TEXT, key TEXT, reason TEXT,
  place TEXT, code TEXT, letter TEXT);
"""


class Store:
    """The database file: one writing connection, and a reading one for each thread."""

    def __init__(self, path: Path, prefix: str) -> None:
        """Opens the file, or makes it.

        ``prefix``: the topic prefix. If it differs from the stored one, or the file has an older
        format or is no database, the file is rebuilt.
        Raises: WorkerError, if a newer release wrote the file.
        """
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._meta = {"version": str(FORMAT), "prefix": prefix}
        if not self._usable():
            self.delete()
        _make_private(path)
        self.writer = _open(path)
        if not self._tables():
            with transaction(self.writer):
                for statement in (*SCHEMA.split(";"), *object_changes.SCHEMA):
                    self.writer.execute(statement)
                epoch = secrets.token_hex(8)
                self._put(**self._meta, vacuumed=str(int(time.time())), epoch=epoch)
        self._local = threading.local()

    def _usable(self) -> bool:
        if not self.path.is_file():
            return False
        try:
            connection = _open(self.path)
            try:
                found = dict(connection.execute("SELECT name, value FROM meta"))
            finally:
                connection.close()
        except sqlite3.DatabaseError:
            return False
        self._refuse_newer(found.get("version", ""))
        return self._meta.items() <= found.items()

    def _refuse_newer(self, format: str) -> None:
        if format.isascii() and format.isdigit() and int(format) > FORMAT:
            raise WorkerError(
                f"{self.path} has format {format}, but this release reads up to {FORMAT}: start the"
                " newer release, or delete the file, and it is rebuilt from the topics",
                CONFIGURATION,
            )

    def _tables(self) -> list[str]:
        names = self.writer.execute("SELECT name FROM sqlite_master WHERE type='table'")
        return [name for (name,) in names]

    def _put(self, **values: str) -> None:
        self.writer.executemany("INSERT OR REPLACE INTO meta VALUES(?, ?)", values.items())

    def bind_cluster(self, cluster: str) -> bool:
        """Binds the file to a Kafka cluster; returns True if it was another's before."""
        row = self.writer.execute("SELECT value FROM meta WHERE name='cluster'").fetchone()
        if row == (cluster,):
            return False
        self.clear()
        with transaction(self.writer):
            self._put(cluster=cluster)
        return row is not None

    def delete(self) -> None:
        """Deletes the file and its journal."""
        for suffix in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    def read_connection(self) -> sqlite3.Connection:
        """Returns the calling thread's connection, for queries only."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = _open(self.path)
            connection.execute("PRAGMA query_only=1")
            # One for each thread: the file is mapped, so that they share what is cached.
            connection.execute(f"PRAGMA cache_size=-{READER_CACHE_KIB}")
            connection.execute(f"PRAGMA mmap_size={MAPPED_BYTES}")
            connection.set_progress_handler(cancellation.is_cancelled, CANCEL_AFTER_STEPS)
            connection.row_factory = sqlite3.Row
            rule_matches.add_functions(connection)
        return connection

    def offsets(self) -> dict[tuple[str, int], int]:
        """Returns the next offset of each topic (short name) and partition."""
        rows = self.writer.execute("SELECT topic, partition, next FROM offsets")
        return {(topic, partition): place for topic, partition, place in rows}

    def clear(self) -> None:
        """Drops everything that was read, because the topics are others now."""
        with transaction(self.writer):
            for name in self._tables():
                if name != "meta":
                    self.writer.execute(f"DELETE FROM {name}")
            self.writer.execute("DELETE FROM object_changes")  # what the triggers wrote just now
            self.writer.execute("DELETE FROM meta WHERE name IN ('unreadable', 'pruned_change')")
            self._put(epoch=secrets.token_hex(8))

    def note_unreadable(self, problem: str) -> None:
        """Keeps a record's problem until the file is rebuilt, in the caller's transaction."""
        count, first = self.unreadable() or (0, problem)
        self._put(unreadable=orjson.dumps([count + 1, first]).decode())

    def unreadable(self) -> tuple[int, str] | None:
        """Returns the number of records that were passed over and the first one's problem."""
        row = self.writer.execute("SELECT value FROM meta WHERE name='unreadable'").fetchone()
        return tuple(orjson.loads(row[0])) if row else None

    def prune(self, now: float) -> None:
        """Drops old rows and unused shapes, in the caller's transaction."""
        oldest = now - KEEP_DAYS * 86_400
        day = datetime.fromtimestamp(oldest, UTC).strftime("%Y-%m-%d")
        self.writer.execute("DELETE FROM audit WHERE time < ?", (day,))
        for table in ("results", "dead_letters", "changes", "causes"):
            self.writer.execute(f"DELETE FROM {table} WHERE at < ?", (oldest * 1000,))
        self.writer.execute("DELETE FROM seat_history WHERE minute < ?", (oldest / 60,))
        object_changes.prune(self.writer, now)
        unused = "shape NOT IN (SELECT shape FROM users WHERE shape IS NOT NULL)"
        for table in ("shapes", "paths"):
            self.writer.execute(f"DELETE FROM {table} WHERE {unused}")

    def erase_deleted(self, now: float) -> bool:
        """Removes what deleted rows left in the journal and, once a week, in free space.

        Outside of a transaction. Returns False if a reader still needs the journal.
        """
        if now - self._vacuumed_at() > VACUUM_DAYS * 86_400:
            # Deletion overwrites the row, but not what balancing of the tree left of it elsewhere.
            self.writer.execute("VACUUM")
            self._put(vacuumed=str(int(now)))
        self.writer.execute(f"PRAGMA busy_timeout={TRUNCATE_WAIT_MS}")
        try:
            busy, _, _ = self.writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            self.writer.execute(f"PRAGMA busy_timeout={BUSY_WAIT_SECONDS * 1000}")
        return not busy

    def _vacuumed_at(self) -> float:
        row = self.writer.execute("SELECT value FROM meta WHERE name='vacuumed'").fetchone()
        if row is None:  # made by an earlier release
            return 0.0
        return float(row[0])

    def close(self) -> None:
        """Closes the writing connection."""
        self.writer.close()


def _make_private(path: Path) -> None:
    """Makes the file, or an earlier release's, readable by its owner only; SQLite's own follow."""
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if suffix == "":
            os.close(os.open(part, os.O_CREAT | os.O_RDWR, 0o600))
        with contextlib.suppress(FileNotFoundError):
            part.chmod(0o600)


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
        timeout=BUSY_WAIT_SECONDS,
    )
    connection.execute("PRAGMA journal_mode=WAL")
    # A power cut may lose the last transactions, rows and offsets together: they are read again.
    connection.execute("PRAGMA synchronous=NORMAL")
    # What is deleted is overwritten: freed pages have names and addresses (docs/security.md).
    connection.execute("PRAGMA secure_delete=ON")
    connection.execute("PRAGMA cache_size=-65536")
    connection.execute("PRAGMA temp_store=MEMORY")
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Opens a transaction that is committed at the end, and rolled back on an exception."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


@contextmanager
def savepoint(connection: sqlite3.Connection) -> Iterator[None]:
    """Opens a part of a transaction: on an exception, this part alone is rolled back."""
    connection.execute("SAVEPOINT part")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK TO part")
        connection.execute("RELEASE part")
        raise
    connection.execute("RELEASE part")
