"""Fan-out: what a change of configuration means for many users, in slices.

A job is a row with a cursor, so that a crash resumes; other events are handled between slices.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Any, Final

from engine.domain.effects import Effects
from engine.state.configuration import Configuration
from engine.state.row_codecs import JOBS, JobRow, decode_job, encode_job
from engine.state.tenant_state import TenantState, User

GROUP: Final = "group"
PRODUCT: Final = "product"
TENANT: Final = "tenant"
RUN: Final = 8192


class Job:
    """A walk over the users whom a change touches, in order of their ids.

    ``version``: of the group's configuration, reported when all are done; ``before``: the one
    reported until then. ``waiting``: users whom the walk left in flight; the job ends when they
    are answered. ``again``: the change that came while the walk was under way: one more walk.
    """

    __slots__ = (
        "again", "at", "before", "cause", "cursor", "id", "kind", "tenant", "todo", "version",
        "waiting", "walked",
    )  # fmt: skip

    def __init__(
        self, kind: str, tenant: str, id: str, version: int, before: int, at: int, cause: str
    ) -> None:
        self.kind = kind
        self.tenant = tenant
        self.id = id
        self.version = version
        self.before = before
        self.at = at
        self.cause = cause
        self.cursor = ""
        self.again: list[Any] | None = None
        self.todo: Iterator[User | None] | None = None
        self.waiting: dict[User, None] = {}
        self.walked = False

    @property
    def key(self) -> str:
        """The key of its row: kind/tenant/id."""
        return f"{self.kind}/{self.tenant}/{self.id}"

    def row(self) -> list[Any]:
        """Returns the row of ``jobs``."""
        return encode_job(
            JobRow(
                kind=self.kind,
                tenant=self.tenant,
                id=self.id,
                version=self.version,
                previous_version=self.before,
                timestamp_ms=self.at,
                caused_by=self.cause,
                cursor=self.cursor,
                rerun=self.again,
            )
        )

    @classmethod
    def load(cls, row: list[Any]) -> Job:
        """Returns the job that a row of ``jobs`` persists."""
        found = decode_job(row)
        job = cls(
            kind=found.kind,
            tenant=found.tenant,
            id=found.id,
            version=found.version,
            before=found.previous_version,
            at=found.timestamp_ms,
            cause=found.caused_by,
        )
        job.cursor = found.cursor
        job.again = found.rerun
        return job  # whom it had left in flight is found again by FanOut.start


class FanOut:
    """The jobs of one partition; the user machine evaluates the users that :meth:`scan` yields."""

    def __init__(self, configuration: Configuration, effects: Effects) -> None:
        self.configuration = configuration
        self.effects = effects
        self.jobs: dict[str, Job] = {}

    def load(self, key: str, row: list[Any]) -> None:
        """Takes one restored row of ``jobs``."""
        self.jobs[key] = Job.load(row)

    def start(self) -> None:
        """After a restore: users in flight may belong to a scan that has passed them."""
        for job in self.jobs.values():
            for tenant in self._tenants(job):
                waiting = {user: None for user in tenant.users.values() if user.waits}
                job.waiting |= waiting

    def begin(
        self, kind: str, tenant: str, id: str, version: int, before: int, at: int, cause: str
    ) -> None:
        """Starts a job, or requests another run of the one under way with the same key."""
        job = Job(kind, tenant, id, version, before, at, cause)
        running = self.jobs.get(job.key)
        if running is not None:
            running.again = [version, at, cause]
            job = running
        self.jobs[job.key] = job
        self._keep(job)

    def has(self, tenant: str, group: str) -> bool:
        """Returns True while a job of the group is under way."""
        return f"{GROUP}/{tenant}/{group}" in self.jobs

    def version(self, tenant: str, group: str, current: int) -> int:
        """Returns the version of the group that this partition has applied."""
        job = self.jobs.get(f"{GROUP}/{tenant}/{group}")
        return job.before if job else current

    def scan(self, limit: int) -> Iterator[tuple[User, Job]]:
        """Yields up to ``limit`` users who are to be evaluated again, the jobs taking turns.

        The caller evaluates each user before it asks for the next one.
        """
        for job in list(self.jobs.values()):
            if job.walked or limit <= 0:
                continue
            if job.todo is None:
                job.todo = self._users(job)
            visited = 0
            paused = False
            for user in job.todo:
                if user is None:
                    paused = True
                    break
                visited += 1
                yield user, job
                job.waiting[user] = None
                job.cursor = f"{user.tenant.id}/{user.id}"
                if visited >= limit:
                    break
            else:
                job.todo = None
                job.walked = True
            if paused:
                limit = 0
            else:
                self._keep(job)
                limit -= visited

    @property
    def pending(self) -> bool:
        """True while a job has users left to scan."""
        return any(not job.walked for job in self.jobs.values())

    def finish_scans(self) -> list[Job]:
        """Forgets, after a slice, users who are not in flight; returns the jobs that have ended."""
        jobs = list(self.jobs.values())
        for job in jobs:
            job.waiting = {user: None for user in job.waiting if user.waits}
        return [job for job in jobs if self._end(job)]

    def _users(self, job: Job) -> Iterator[User | None]:
        """The users still to be visited, as they are when their turn comes.

        In order of their ids, as R8 has it where seats run short. To sort a million takes long; it
        goes by runs, with None for a pause after each: other events are not to wait for it.
        """
        for tenant in self._tenants(job):
            if job.kind == GROUP:
                found = [user.id for user in tenant.membership(job.id).users]
            else:
                found = list(tenant.users)
            ids: list[str] = []
            for at in range(0, len(found), RUN):
                ids += sorted(found[at : at + RUN])
                yield None
            ids.sort()  # quick, since it finds the runs
            tenant_id, _, user_id = job.cursor.partition("/")
            if tenant_id > tenant.id:
                continue
            first = bisect_right(ids, user_id) if tenant_id == tenant.id and user_id else 0
            last = ""
            for id in ids[first:]:
                user = tenant.users.get(id)
                if user is not None and id != last and self._touches(job, user):
                    yield user
                last = id

    def _tenants(self, job: Job) -> list[TenantState]:
        if job.kind == PRODUCT:
            return [tenant for _, tenant in sorted(self.configuration.tenants.items())]
        return [self.configuration.tenant(job.tenant)]

    @staticmethod
    def _touches(job: Job, user: User) -> bool:
        if job.kind == GROUP:
            return user.known and user.belongs(job.id)
        if job.kind == TENANT:
            return user.known
        return user.waits or job.id in user.outcome.skus

    def release(self, user: User) -> list[Job]:
        """Notes that the user is no longer in flight; returns the jobs that end with that."""
        ended = []
        for job in list(self.jobs.values()):
            if user in job.waiting:
                del job.waiting[user]
                if self._end(job):
                    ended.append(job)
        return ended

    def _end(self, job: Job) -> bool:
        """Ends the job or begins its next scan; returns False while there are users to await."""
        if job.waiting or not job.walked:
            return False
        if job.again:
            job.before = job.version
            job.version, job.at, job.cause = job.again
            job.again = None
            job.walked = False
            job.cursor = ""
            self._keep(job)
        else:
            del self.jobs[job.key]
            self.effects.rows[JOBS, job.key] = None
        return True

    def _keep(self, job: Job) -> None:
        self.effects.rows[JOBS, job.key] = job.row()
