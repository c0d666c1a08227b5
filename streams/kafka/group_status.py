"""The state of a running system, read from its topics and its consumer group.

`streams/cli/status_screen.py` shows it to people.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from aiokafka import TopicPartition, errors
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment

from engine.domain.vocabulary import GroupProcessingState
from streams.contract.topics import CONSUMED
from streams.kafka.topic_reader import (
    TopicReader,
    admin_client,
    connected,
    consumer,
    topic_partitions,
)
from streams.runtime.deadline import Deadline
from streams.runtime.errors import TEMPORARY, WorkerError
from streams.runtime.settings import Settings

QUIET = 0.5  # seconds without lag: a message to another partition shows up sooner
LOOK_EVERY = 0.05
LOADED_WITHIN = 10.0  # seconds
LOAD_RETRY_SECONDS = 0.2
AGES_WITHIN = 2.0  # seconds: a log that ends with a transaction marker yields no record
UNKNOWN_GROUP = 69  # GROUP_ID_NOT_FOUND: of later versions of the request
NOT_YET = (
    errors.GroupCoordinatorNotAvailableError,
    errors.NotCoordinatorForGroupError,
    errors.GroupLoadInProgressError,
)

FOLLOWED = ("errors", "group-status", "product-seats")
OnLook = Callable[[int], Awaitable[None]]


class LagReader:
    """The consumer group's lag in records, for every topic that workers read.

    It is measured against the high watermark: the records of an open transaction count, since
    they are about to be committed. A partition without a committed offset lags by all its records.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._prefix = len(settings.topic_prefix)
        self._stack = AsyncExitStack()
        self._behind: dict[TopicPartition, int] = {}  # the next offset to be applied
        self.places: list[TopicPartition] = []

    async def __aenter__(self) -> Self:
        settings = self._settings
        async with AsyncExitStack() as stack:
            self.admin = await stack.enter_async_context(
                connected(admin_client(settings), settings)
            )
            self.places = await topic_partitions(self.admin, settings, CONSUMED)
            self._consumer = await stack.enter_async_context(
                connected(consumer(settings, "read_uncommitted"), settings)
            )
            self._consumer.assign(self.places)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exception: Any) -> None:
        await self._stack.__aexit__(*exception)

    async def read(self) -> dict[str, int]:
        """Returns the lag by topic (short name), including the topics without lag."""
        # First the committed offsets, then the ends: records that arrive in between count as lag.
        committed = await self._committed()
        ends = await self._consumer.end_offsets(self.places)
        unknown = [place for place in self.places if committed.get(place, -1) < 0]
        begins = await self._consumer.beginning_offsets(unknown) if unknown else {}
        lag: Counter[str] = Counter()
        self._behind = {}
        for place in self.places:
            done = begins[place] if place in begins else committed[place]
            lag[place.topic[self._prefix :]] += max(0, ends[place] - done)
            if done < ends[place]:
                self._behind[place] = done
        return dict(lag)

    async def seconds(self) -> dict[str, float]:
        """Returns the age of the oldest lagging record at the last ``read``, by lagging topic."""
        waiting = dict(self._behind)
        ages = {place.topic[self._prefix :]: 0.0 for place in waiting}
        self._consumer.pause(*self.places)
        for place, offset in waiting.items():
            self._consumer.seek(place, offset)
            self._consumer.resume(place)
        deadline = Deadline(AGES_WITHIN)
        while waiting and not deadline.has_passed:
            batches = await self._consumer.getmany(timeout_ms=100, max_records=len(waiting))
            for place, records in batches.items():
                if records and waiting.pop(place, None) is not None:
                    self._consumer.pause(place)
                    topic = place.topic[self._prefix :]
                    ages[topic] = max(ages[topic], time.time() - records[0].timestamp / 1000)
        return ages

    async def _committed(self) -> dict[TopicPartition, int]:
        """Returns the group's committed offsets; empty if it has never committed any.

        aiokafka returns no offsets, too, while the coordinator loads them. So an empty answer
        counts only after the coordinator has described the group.

        Raises: WorkerError, if the offsets are not loaded in time.
        """
        group = self._settings.app_id
        deadline = Deadline(LOADED_WITHIN)
        while True:
            with contextlib.suppress(*NOT_YET):
                if found := await self.admin.list_consumer_group_offsets(group):
                    break
                await _described(self.admin, group)
                found = await self.admin.list_consumer_group_offsets(group)
                break
            if deadline.has_passed:
                raise _not_loaded(group)
            await asyncio.sleep(LOAD_RETRY_SECONDS)
        return {place: noted.offset for place, noted in found.items()}


async def wait_until_settled(
    reader: LagReader, timeout: float | None = None, on_look: OnLook | None = None
) -> float:
    """Waits until the lag has been zero for ``QUIET`` seconds.

    ``on_look`` receives the remaining lag in records at each check.

    Returns the time (``time.monotonic()``) since which the lag has been zero.

    Raises:
        WorkerError: the lag is not zero after ``timeout`` seconds.
    """
    deadline = Deadline(timeout)
    zero_since: float | None = None
    while True:
        lag = await reader.read()
        left, now = sum(lag.values()), time.monotonic()
        if left:
            zero_since = None
        elif zero_since is None:
            zero_since = now
        elif now - zero_since >= QUIET:
            return zero_since
        if on_look:
            await on_look(left)
        if timeout is not None and deadline.has_passed:
            raise _not_settled(lag, timeout)
        await asyncio.sleep(LOOK_EVERY)


def _not_settled(lag: dict[str, int], timeout: float) -> WorkerError:
    behind = ", ".join(f"{topic} {count:,}" for topic, count in lag.items() if count)
    what = f"still to be done: {behind}" if behind else "new work keeps coming"
    return WorkerError(
        f"not settled after {timeout:g} s; {what}. Is a `seatflow worker` running?", TEMPORARY
    )


@dataclass(frozen=True, slots=True)
class Member:
    """A worker: its id in the group, its host, its partitions."""

    id: str
    host: str
    partitions: list[int]


@dataclass(slots=True)
class Status:
    """The state of a running system, as `seatflow status` shows it."""

    brokers: str
    app_id: str
    topic_prefix: str
    workers: list[Member] = field(default_factory=list)
    unowned: list[int] = field(default_factory=list)
    lag: dict[str, int] = field(default_factory=dict)
    lag_seconds: dict[str, float] = field(default_factory=dict)
    seats: list[dict[str, Any]] = field(default_factory=list)
    users_in_error: int = 0
    users_by_error: dict[str, int] = field(default_factory=dict)
    groups: int = 0
    groups_in_error: list[dict[str, Any]] = field(default_factory=list)
    groups_in_progress: list[str] = field(default_factory=list)
    deferred: list[dict[str, Any]] = field(default_factory=list)  # group, and skuIds it waits for
    tenants: list[str] = field(default_factory=list)
    dead_letters: int = 0
    last_dead_letter: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Returns the members for `seatflow status --json`."""
        oldest = max(self.lag_seconds.values(), default=0.0)
        return asdict(self) | {"lag_total": sum(self.lag.values()), "lag_seconds_max": oldest}


class StatusReader:
    """Follows the compacted outputs that the status needs.

    The topic of the users' documents, which may hold millions of records, is not among them.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._reader = LagReader(settings)
        self._seen = TopicReader(settings, [*FOLLOWED, "dead-letters"], ["dead-letters"])
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._reader)
            await stack.enter_async_context(self._seen)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exception: Any) -> None:
        await self._stack.__aexit__(*exception)

    async def read(self) -> Status:
        """Returns the current status."""
        settings, reader = self._settings, self._reader
        status = Status(settings.brokers, settings.app_id, settings.topic_prefix)
        status.workers = await read_members(reader.admin, settings.app_id)
        owned = {number for worker in status.workers for number in worker.partitions}
        status.unowned = sorted({place.partition for place in reader.places} - owned)
        status.lag = await reader.read()
        status.lag_seconds = await reader.seconds()
        await self._seen.catch_up()
        _add_outputs(status, self._seen)
        return status


async def read_status(settings: Settings) -> Status:
    """Returns the current status."""
    async with StatusReader(settings) as reader:
        return await reader.read()


async def read_members(admin: Any, app_id: str) -> list[Member]:
    """Returns the members of the consumer group, in the order of their partitions.

    Raises: WorkerError, if the group is not loaded in time.
    """
    deadline = Deadline(LOADED_WITHIN)
    while True:
        try:
            described = await _described(admin, app_id)
            break
        except NOT_YET:
            if deadline.has_passed:
                raise _not_loaded(app_id) from None
        await asyncio.sleep(LOAD_RETRY_SECONDS)
    workers = []
    for member, _, host, _, assignment in described:
        dealt = ConsumerProtocolMemberAssignment.decode(assignment).assignment if assignment else []
        numbers = {number for _, numbers in dealt for number in numbers}
        workers.append(Member(member, host.lstrip("/"), sorted(numbers)))
    return sorted(workers, key=lambda worker: (worker.partitions, worker.id))


async def _described(admin: Any, group: str) -> list[Any]:
    """Returns the members of a group as its coordinator describes them; none if it is unknown.

    Raises: KafkaError; one of NOT_YET while the coordinator starts or loads the group.
    """
    (response,) = await admin.describe_consumer_groups([group])
    code, members = response.groups[0][0], response.groups[0][5]
    if code and code != UNKNOWN_GROUP:
        raise errors.for_code(code)(group)
    return list(members)


def _not_loaded(group: str) -> WorkerError:
    return WorkerError(
        f"the broker has not loaded the offsets of the group {group} yet, as after a restart: try"
        " again in some seconds",
        TEMPORARY,
    )


def _add_outputs(status: Status, seen: TopicReader) -> None:
    latest = {topic: _documents(seen.latest[topic]) for topic in FOLLOWED}
    groups = latest["group-status"]
    status.groups = len(groups)
    status.groups_in_error = sorted(
        (group for group in groups if group["membersWithErrors"]),
        key=lambda group: -group["membersWithErrors"],
    )
    status.groups_in_progress = [
        f"{group['tenant']}/{group['group']}"
        for group in groups
        if group["licenseProcessingState"] != GroupProcessingState.COMPLETE
    ]
    status.deferred = [
        {"group": f"{group['tenant']}/{group['group']}", "skuIds": group["deferred"]}
        for group in groups
        if group["deferred"]
    ]
    status.seats = sorted(latest["product-seats"], key=lambda seats: -seats["consumedUnits"])
    status.tenants = sorted({one["tenant"] for found in latest.values() for one in found})
    users: dict[str, set[str]] = {}
    for error in latest["errors"]:
        users.setdefault(error["error"], set()).add(f"{error['tenant']}/{error['user']}")
    status.users_in_error = len(set().union(*users.values()))
    status.users_by_error = {kind: len(users[kind]) for kind in sorted(users)}
    letters = seen.log["dead-letters"]
    status.dead_letters = len(letters)
    if letters:
        last = max(letters, key=lambda letter: letter.timestamp).headers
        status.last_dead_letter = f"{last.get('dlq.topic')}: {last.get('dlq.reason')}"


def _documents(latest: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the values in the order of their keys, without what no worker wrote."""
    return [
        value
        for _, value in sorted(latest.items())
        if isinstance(value, dict) and "tenant" in value
    ]
