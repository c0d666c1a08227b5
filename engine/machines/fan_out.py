"""Fan-out: what a change of configuration means for many users, in slices.

A job is a row with a cursor, so that a crash resumes; other events are handled between slices.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Any, Final

from engine.domain.effects import Effects
from engine.machines.rule_walks import begin_next_rule
from engine.state.configuration import Configuration
from engine.state.row_codecs import (
    BASE_LOCATION,
    JOBS,
    WALK,
    JobRow,
    OptionalFacts,
    decode_job,
    encode_job,
)
from engine.state.tenant_state import TenantState, User

GROUP: Final = "group"
PRODUCT: Final = "product"
TENANT: Final = "tenant"
SUBSCRIPTION: Final = "subscription"
"""Of one tenant's product (R15); ``PRODUCT`` is that of all tenants."""
SORT_CHUNK_USERS: Final = 8192


class Job:
    """A scan of the users that a change affects, in order of their ids.

    ``version``: of the group's configuration, reported when all users are done;
    ``previous_version``: the one reported until then. ``remaining``: the users still to be scanned,
    None before the scan; ``in_flight``: scanned users who wait for seats or verdicts: the job ends
    when they have them. ``rerun``: [version, timestamp_ms, caused_by] of a change that came during
    the scan, which is then repeated. ``walks``: the rule of the group changed, so that all users of
    the tenant are visited (R27). ``facts``: the optional facts of its row.
    """

    __slots__ = (
        "caused_by", "cursor", "facts", "id", "in_flight", "kind", "previous_version",
        "remaining", "rerun", "scan_complete", "tenant", "timestamp_ms", "version", "walks",
    )  # fmt: skip

    def __init__(
        self,
        kind: str,
        tenant: str,
        id: str,
        version: int,
        previous_version: int,
        timestamp_ms: int,
        caused_by: str,
    ) -> None:
        self.kind = kind
        self.tenant = tenant
        self.id = id
        self.version = version
        self.previous_version = previous_version
        self.timestamp_ms = timestamp_ms
        self.caused_by = caused_by
        self.facts: OptionalFacts = None
        self.cursor = ""
        self.rerun: list[Any] | None = None
        self.remaining: Iterator[User | None] | None = None
        self.in_flight: dict[User, None] = {}
        self.scan_complete = False
        self.walks = False

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
                previous_version=self.previous_version,
                timestamp_ms=self.timestamp_ms,
                caused_by=self.caused_by,
                cursor=self.cursor,
                rerun=self.rerun,
                optional_facts=self.facts,
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
            previous_version=found.previous_version,
            timestamp_ms=found.timestamp_ms,
            caused_by=found.caused_by,
        )
        job.cursor = found.cursor
        job.rerun = found.rerun
        job.facts = found.optional_facts
        job.walks = bool((found.optional_facts or {}).get(WALK))
        return job  # FanOut.start finds the users in flight again


class FanOut:
    """The jobs of one partition; the user machine evaluates the users that :meth:`scan` yields."""

    def __init__(self, configuration: Configuration, effects: Effects) -> None:
        self.configuration = configuration
        self.effects = effects
        self.jobs: dict[str, Job] = {}

    def load(self, key: str, row: list[Any]) -> None:
        """Takes one restored row of ``jobs``."""
        self.jobs[key] = Job.load(row)

    def freeze_configuration(self) -> None:
        """Completes the tenants before users are restored: jobs know their former locations."""
        for tenant in self.configuration.tenants.values():
            tenant.base_location = tenant.settings.location
        for job in self.jobs.values():
            if job.facts is not None and BASE_LOCATION in job.facts:
                self.configuration.tenant(job.tenant).base_location = job.facts[BASE_LOCATION]
            if job.walks:
                self.configuration.tenant(job.tenant).ensure_rules().walking.add(job.id)

    def start(self) -> None:
        """After a restore: users in flight may belong to a scan that has passed them."""
        for job in self.jobs.values():
            for tenant in self._tenants(job):
                job.in_flight |= {user: None for user in tenant.users.values() if user.waits}

    def begin(
        self,
        kind: str,
        tenant: str,
        id: str,
        version: int,
        previous_version: int,
        timestamp_ms: int,
        caused_by: str,
    ) -> None:
        """Starts a job, or requests another run of the one under way with the same key."""
        job = Job(kind, tenant, id, version, previous_version, timestamp_ms, caused_by)
        running = self.jobs.get(job.key)
        if running is not None:
            running.rerun = [version, timestamp_ms, caused_by]
            job = running
        self.jobs[job.key] = job
        self._write_row(job)

    def begin_walk(self, tenant: str, group: str) -> None:
        """Has the job of a group, which :meth:`begin` started, visit all users of the tenant."""
        job = self.job_of(tenant, group)
        job.walks = True
        self._restart(job)

    def job_of(self, tenant: str, group: str) -> Job:
        """Returns the job of a group."""
        return self.jobs[f"{GROUP}/{tenant}/{group}"]

    def _restart(self, job: Job) -> None:
        job.scan_complete = False
        job.remaining = None
        job.cursor = ""
        self._write_row(job)

    def has(self, tenant: str, group: str) -> bool:
        """Returns True while a job of the group is under way."""
        return f"{GROUP}/{tenant}/{group}" in self.jobs

    def version(self, tenant: str, group: str, current: int) -> int:
        """Returns the version of the group that this partition has applied."""
        job = self.jobs.get(f"{GROUP}/{tenant}/{group}")
        return job.previous_version if job else current

    def scan(self, limit: int) -> Iterator[tuple[User, Job]]:
        """Yields up to ``limit`` users who are to be evaluated again, the jobs taking turns.

        The caller evaluates each user before it asks for the next one.
        """
        for job in list(self.jobs.values()):
            if job.scan_complete or limit <= 0:
                continue
            if job.remaining is None:
                job.remaining = self._users(job)
            visited = 0
            paused = False
            for user in job.remaining:
                if user is None:
                    paused = True
                    break
                visited += 1
                yield user, job
                job.in_flight[user] = None
                job.cursor = f"{user.tenant.id}/{user.id}"
                if visited >= limit:
                    break
            else:
                job.remaining = None
                job.scan_complete = True
            if paused:
                limit = 0
            else:
                self._write_row(job)
                limit -= visited

    @property
    def has_scans(self) -> bool:
        """True while a job has users left to scan."""
        return any(not job.scan_complete for job in self.jobs.values())

    def finish_scans(self) -> list[Job]:
        """Forgets, after a slice, users who are not in flight; returns the jobs that have ended."""
        jobs = list(self.jobs.values())
        for job in jobs:
            job.in_flight = {user: None for user in job.in_flight if user.waits}
        return [job for job in jobs if self._end(job)]

    def _users(self, job: Job) -> Iterator[User | None]:
        """The users still to be visited, as they are when their turn comes.

        In order of their ids, as R8 has it where seats run short. Sorting a million ids takes long:
        they are sorted in chunks, with a None after each, so that other events do not wait.
        """
        for tenant in self._tenants(job):
            if job.kind == GROUP and not job.walks:
                found = [user.id for user in tenant.membership(job.id).users]
            else:
                found = list(tenant.users)
            ids: list[str] = []
            for start in range(0, len(found), SORT_CHUNK_USERS):
                ids += sorted(found[start : start + SORT_CHUNK_USERS])
                yield None
            ids.sort()  # fast: the chunks are sorted already
            tenant_id, _, user_id = job.cursor.partition("/")
            if tenant_id > tenant.id:
                continue
            first = bisect_right(ids, user_id) if tenant_id == tenant.id and user_id else 0
            last = ""
            for id in ids[first:]:
                user = tenant.users.get(id)
                if user is not None and id != last and self._affects(job, user):
                    yield user
                last = id

    def _tenants(self, job: Job) -> list[TenantState]:
        if job.kind == PRODUCT:
            return [tenant for _, tenant in sorted(self.configuration.tenants.items())]
        return [self.configuration.tenant(job.tenant)]

    @staticmethod
    def _affects(job: Job, user: User) -> bool:
        if job.kind == GROUP:
            return job.walks or (user.known and user.belongs(job.id))
        if job.kind == TENANT:
            return user.known
        if job.kind == SUBSCRIPTION:
            return job.id in user.outcome.held
        return user.waits or job.id in user.outcome.skus

    def release(self, user: User) -> list[Job]:
        """Notes that the user is no longer in flight; returns the jobs that end with that."""
        ended = []
        for job in list(self.jobs.values()):
            if user in job.in_flight:
                del job.in_flight[user]
                if self._end(job):
                    ended.append(job)
        return ended

    def _end(self, job: Job) -> bool:
        """Ends the job or begins its next scan; returns False while there are users to await."""
        if job.in_flight or not job.scan_complete:
            return False
        again = job.rerun is not None
        if job.walks:
            tenant = self.configuration.tenant(job.tenant)
            job.walks = begin_next_rule(self.configuration, self.effects, tenant, job.id)
            again = again or job.walks
        if again:
            if job.rerun is not None:
                job.previous_version = job.version
                job.version, job.timestamp_ms, job.caused_by = job.rerun
                job.rerun = None
            self._restart(job)
        else:
            del self.jobs[job.key]
            if job.kind == TENANT:
                tenant = self.configuration.tenant(job.tenant)
                tenant.base_location = tenant.settings.location
            self.effects.rows[JOBS, job.key] = None
        return True

    def _write_row(self, job: Job) -> None:
        if job.kind == GROUP:
            job.facts = {WALK: True} if job.walks else None
        if job.kind == TENANT:
            tenant = self.configuration.tenant(job.tenant)
            moved = tenant.base_location != tenant.settings.location
            job.facts = {BASE_LOCATION: tenant.base_location} if moved else None
        self.effects.rows[JOBS, job.key] = job.row()
