"""How a running system is doing, from its topics and its consumer group: `seatflow status`."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from aiokafka import TopicPartition, errors
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from engine.domain.vocabulary import GroupProcessingState
from streams.contract.topics import CONSUMED
from streams.kafka.topic_reader import (
    TopicReader,
    admin_client,
    connected,
    consumer,
    topic_partitions,
)
from streams.runtime.errors import TEMPORARY, WorkerError
from streams.runtime.settings import Settings

QUIET = 0.5  # seconds without lag: a hop to another partition shows sooner
LOOK_EVERY = 0.05
SHOWN = 10
AGES_WITHIN = 2.0  # where a log ends with a marker, no record comes
BAR = 24
NOT_YET = (
    errors.GroupCoordinatorNotAvailableError,
    errors.NotCoordinatorForGroupError,
    errors.GroupLoadInProgressError,
)

OnLook = Callable[[int], Awaitable[None]]


class LagReader:
    """What the group has not applied yet, in records, of every topic that workers read.

    Measured against the high watermark: an open transaction counts, since its records are coming.
    A partition that the group never committed lags by all that it holds.
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
        """Lag by topic (short name), the topics without any too."""
        # First what is done, then what there is: what comes between is seen as lag.
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
        """The age of the oldest record that lagged at the last ``read``, by topic that lags."""
        waiting = dict(self._behind)
        ages = {place.topic[self._prefix :]: 0.0 for place in waiting}
        self._consumer.pause(*self.places)
        for place, offset in waiting.items():
            self._consumer.seek(place, offset)
            self._consumer.resume(place)
        deadline = time.monotonic() + AGES_WITHIN
        while waiting and time.monotonic() < deadline:
            batches = await self._consumer.getmany(timeout_ms=100, max_records=len(waiting))
            for place, records in batches.items():
                if records and waiting.pop(place, None) is not None:
                    self._consumer.pause(place)
                    topic = place.topic[self._prefix :]
                    ages[topic] = max(ages[topic], time.time() - records[0].timestamp / 1000)
        return ages

    async def _committed(self) -> dict[TopicPartition, int]:
        try:
            found = await self.admin.list_consumer_group_offsets(self._settings.app_id)
        except NOT_YET:  # no group has ever been on this broker, or it has just started
            return {}
        return {place: noted.offset for place, noted in found.items()}


async def wait_until_settled(
    reader: LagReader, timeout: float | None = None, on_look: OnLook | None = None
) -> float:
    """Returns when nothing lags and has not for a while: since when (``time.monotonic()``).

    WorkerError after ``timeout`` seconds. ``on_look`` gets the records left, at each look.
    """
    began = time.monotonic()
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
        if timeout is not None and now - began > timeout:
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
    dead_letters: int = 0
    last_dead_letter: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Returns the members for `seatflow status --json`."""
        oldest = max(self.lag_seconds.values(), default=0.0)
        return asdict(self) | {"lag_total": sum(self.lag.values()), "lag_seconds_max": oldest}


class StatusReader:
    """Follows the compacted outputs; the users' own records, of which there may be millions, are
    not needed."""

    def __init__(self, settings: Settings) -> None:
        topics = ("errors", "group-status", "product-seats", "dead-letters")
        self._settings = settings
        self._reader = LagReader(settings)
        self._seen = TopicReader(settings, topics, ["dead-letters"])
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
        """How it is now."""
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
    """Returns the present status."""
    async with StatusReader(settings) as reader:
        return await reader.read()


async def watch(settings: Settings, console: Console, every: float = 2.0) -> None:
    """The screen, refreshed until Ctrl-C; KeyboardInterrupt then.

    Ctrl-C is looked at between two readings: aiokafka may swallow a cancellation. A second one does
    not wait for a reading that hangs.
    """
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def asked_to_stop() -> None:
        stop.set()
        loop.remove_signal_handler(signal.SIGINT)

    loop.add_signal_handler(signal.SIGINT, asked_to_stop)
    async with StatusReader(settings) as reader:
        with Live(console=console, screen=console.is_terminal, auto_refresh=False) as screen:
            while not stop.is_set():
                screen.update(shown(await reader.read()), refresh=True)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), every)
    raise KeyboardInterrupt


async def read_members(admin: Any, app_id: str) -> list[Member]:
    """Returns the members of the consumer group, in the order of their partitions."""
    try:
        (response,) = await admin.describe_consumer_groups([app_id])
    except NOT_YET:
        return []
    workers = []
    for member, _, host, _, assignment in response.groups[0][5]:
        dealt = ConsumerProtocolMemberAssignment.decode(assignment).assignment if assignment else []
        numbers = {number for _, numbers in dealt for number in numbers}
        workers.append(Member(member, host.lstrip("/"), sorted(numbers)))
    return sorted(workers, key=lambda worker: (worker.partitions, worker.id))


def _add_outputs(status: Status, seen: TopicReader) -> None:
    groups = [group for _, group in sorted(seen.latest["group-status"].items())]
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
    status.seats = [
        seats
        for _, seats in sorted(
            seen.latest["product-seats"].items(), key=lambda item: -item[1]["consumedUnits"]
        )
    ]
    users: dict[str, set[str]] = {}
    for error in seen.latest["errors"].values():
        users.setdefault(error["error"], set()).add(f"{error['tenant']}/{error['user']}")
    status.users_in_error = len(set().union(*users.values()))
    status.users_by_error = {kind: len(users[kind]) for kind in sorted(users)}
    letters = seen.log["dead-letters"]
    status.dead_letters = len(letters)
    if letters:
        last = max(letters, key=lambda letter: letter.timestamp).headers
        status.last_dead_letter = f"{last.get('dlq.topic')}: {last.get('dlq.reason')}"


# --- on one screen -------------------------------------------------------------------------------


def show(status: Status, console: Console) -> None:
    """Prints the status."""
    console.print(shown(status), highlight=False)


def shown(status: Status) -> Group:
    """Returns the status as one screen."""
    heading = f"[bold]Seatflow[/] at {status.brokers}, group {status.app_id}"
    if status.topic_prefix != "licensing.":
        heading += f", topics {status.topic_prefix}*"
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column()
    facts.add_row("Workers", _workers_shown(status))
    facts.add_row("Lag", _lag_shown(status))
    facts.add_row("Groups", _groups_shown(status))
    by_error = ", ".join(f"{kind} {users:,}" for kind, users in status.users_by_error.items())
    facts.add_row("Users in error", f"{status.users_in_error:,}" + (by_error and f": {by_error}"))
    letters = f"{status.dead_letters:,}"
    if status.last_dead_letter:
        letters += f", the last one from {escape(status.last_dead_letter)}"
    facts.add_row("Dead letters", letters)
    parts: list[Any] = [Text.from_markup(heading), facts]
    if status.seats:
        parts.append(_seats_table(status.seats))
    if status.groups_in_error:
        parts.append(_group_table(status.groups_in_error))
    return Group(*parts)


def _workers_shown(status: Status) -> Any:
    if not status.workers:
        return "[red]none[/]: start one with `seatflow worker`"
    lines = [
        f"{worker.host} {worker.id[-12:]}: partitions "
        + (" ".join(map(str, worker.partitions)) or "none")
        for worker in status.workers
    ]
    if status.unowned:
        lines.append(f"[red]nobody[/]: partitions {' '.join(map(str, status.unowned))}")
    return Group(*lines)


def _lag_shown(status: Status) -> str:
    behind = {topic: count for topic, count in status.lag.items() if count}
    if not behind:
        return "[green]0[/] records: everything is done"
    ages = status.lag_seconds
    topics = ", ".join(
        f"{topic} {count:,}" + (f" ({ages[topic]:,.0f} s)" if ages.get(topic) else "")
        for topic, count in behind.items()
    )
    return f"[yellow]{sum(behind.values()):,}[/] records: {topics}"


def _groups_shown(status: Status) -> str:
    text = f"{status.groups:,}, with errors {len(status.groups_in_error):,}"
    if status.groups_in_progress:
        names = ", ".join(status.groups_in_progress[:3])
        more = ", …" if status.groups_in_progress[3:] else ""
        text += f"; being processed {len(status.groups_in_progress):,}: {names}{more}"
    return text


def bar(used: int, units: int, width: int = BAR) -> Text:
    """Seats used of those bought; red where nothing is left, bright where it is more than all."""
    full = min(width, round(width * used / units)) if units else (width if used else 0)
    style = "green" if used < units else "red" if used == units or not used else "bright_red"
    return Text("█" * full, style).append("░" * (width - full), "dim")


def _seats_table(seats: list[dict[str, Any]]) -> Table:
    tenants = {one["tenant"] for one in seats}
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("Product", no_wrap=True)
    table.add_column("Seats")
    for title in ("used", "units", "waiting"):
        table.add_column(title, justify="right")
    for one in seats[:SHOWN]:
        used, units = one["consumedUnits"], one["consumedUnits"] + one["availableUnits"]
        name = one["skuPartNumber"] or one["skuId"]
        table.add_row(
            escape(f"{one['tenant']}/{name}" if len(tenants) > 1 else name),
            bar(used, units),
            f"{used:,}",
            f"{units:,}",
            f"{one['waitingUsers']:,}" if one["waitingUsers"] else "",
        )
    if seats[SHOWN:]:
        table.caption = f"and {len(seats) - SHOWN:,} more"
    return table


def _group_table(groups: list[dict[str, Any]]) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("Groups with errors", no_wrap=True)
    for title in ("members", "licensed", "in error"):
        table.add_column(title, justify="right")
    table.add_column("users by error")
    for group in groups[:SHOWN]:
        table.add_row(
            escape(f"{group['tenant']}/{group['group']}"),
            f"{group['members']:,}",
            f"{group['membersLicensed']:,}",
            f"{group['membersWithErrors']:,}",
            ", ".join(f"{kind} {users:,}" for kind, users in group["errors"].items()),
        )
    if groups[SHOWN:]:
        table.caption = f"and {len(groups) - SHOWN:,} more"
    return table
