"""The command ``seatflow feed graph``: a first load in a safe order, changes, and a comparison."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.cli.options import (
    AppId,
    Brokers,
    DryRun,
    Facts,
    OutFile,
    Prefix,
    Run,
    Strict,
    Tenant,
    Text,
)
from streams.runtime.visible_text import visible_line

if TYPE_CHECKING:
    from streams.ingest import FeedItem, FeedProblem, FeedResult
    from streams.ingest.graph import Events, GraphFeed
    from streams.ingest.graph_comparison import State
    from streams.runtime.settings import Settings

UNEXPLAINED = 2


def feed_graph(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE…", help="Files, or folders of them; - for standard input."),
    ],
    tenant: Tenant,
    group: Annotated[
        Text,
        typer.Option(
            "--group",
            metavar="ID",
            help="Group whose members the files list, where they do not tell.",
        ),
    ] = None,
    products: Annotated[
        bool,
        typer.Option(
            "--products/--no-products",
            help="Take the definitions of products from subscriptions, or not.",
        ),
    ] = True,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare",
            help="Compare the outcome with what Graph says of each user; exit code 2 if a"
            " difference is unexplained. With --dry-run: on the engine in memory.",
        ),
    ] = False,
    facts: Facts = "2025",
    run: Run = "",
    brokers: Brokers = None,
    app_id: AppId = None,
    topic_prefix: Prefix = None,
    out: OutFile = None,
    dry_run: DryRun = False,
    strict: Strict = False,
) -> None:
    """Microsoft Graph: pages of users, groups, members, subscribedSkus and organization.

    Users with licenseAssignmentStates beside groups with members are a first load: their events
    follow when the workers have applied everything else.
    """
    from streams.cli import feed as common
    from streams.cli.options import edition_of, settings_of
    from streams.ingest import FeedError
    from streams.ingest.graph import events_from_graph

    settings = settings_of(brokers=brokers, app_id=app_id, topic_prefix=topic_prefix)
    if compare and out is not None:
        raise FeedError("--compare needs an outcome: leave out --out, or use --dry-run")
    items = events_from_graph(
        files,
        tenant,
        group=group,
        products=products,
        run=run,
        compare=compare,
        facts=edition_of(facts),
    )
    if out is not None or (dry_run and not compare):
        common.feed(items, settings, dry_run, strict, out)
        return
    if dry_run:
        result, states = _simulate(items, tenant, strict)
        common.report(result, "simulated")
    else:
        result = _publish(items, settings, strict)
        common.report(result, None)
        states = _published(settings, tenant) if compare and not result.stopped_at else {}
    common.report_notes(items)
    code = common.SOME_ROWS_BAD if result.bad_rows else 0
    if compare and not result.stopped_at:
        code = _compare(items, states) or code
    if code:
        raise typer.Exit(code)


def _publish(items: GraphFeed, settings: Settings, strict: bool) -> FeedResult:
    """Publishes the parts of a feed, each when the workers have applied the one before it."""
    from streams.cli.feed import report_interruption
    from streams.ingest import FeedResult, publish
    from streams.runtime.settings import client_options

    total = FeedResult()
    parts = items.parts()
    for number, part in enumerate(parts, start=1):
        if number > 1:
            print(
                "Waiting until the workers (`seatflow worker`) have applied that", file=sys.stderr
            )
            _wait(settings)
        found = FeedResult()
        work = publish(
            _Part(part, items, total.events > 0),
            settings.brokers,
            settings.topic_prefix,
            kafka=client_options(settings),
            strict=strict,
            on_problem=_print_problem,
            result=found,
        )
        try:
            asyncio.run(work)
        except KeyboardInterrupt:
            _add(total, found)
            report_interruption(total, False, None)
            raise
        _add(total, found)
        if total.stopped_at:
            break
    return total


class _Part:
    """A part of a feed with the progress of the whole.

    ``problems_come_first``: what begins with problems is read to its end nevertheless, since an
    earlier part had events.
    """

    def __init__(self, part: Events, whole: GraphFeed, problems_come_first: bool) -> None:
        self._part, self._whole = part, whole
        self.problems_come_first = problems_come_first
        self.total_bytes = whole.total_bytes

    @property
    def done_bytes(self) -> int:
        return self._whole.done_bytes

    def __iter__(self) -> Iterator[FeedItem | FeedProblem]:
        return self._part

    def __next__(self) -> FeedItem | FeedProblem:
        return next(self._part)


def _add(total: FeedResult, part: FeedResult) -> None:
    total.events += part.events
    total.bad_rows += part.bad_rows
    total.seconds += part.seconds
    total.topics += part.topics
    total.problems += part.problems
    total.stopped_at = part.stopped_at
    total.gave_up = part.gave_up
    total.acknowledged += part.acknowledged


def _print_problem(problem: FeedProblem) -> None:
    print(f"seatflow: {visible_line(problem)}", file=sys.stderr)


def _wait(settings: Settings) -> None:
    from streams.cli.inspect import wait_for_workers

    asyncio.run(wait_for_workers(settings, None))


def _simulate(
    items: GraphFeed, tenant: str, strict: bool
) -> tuple[FeedResult, dict[str, list[State]]]:
    """Applies a feed to the engine in memory; returns the states of its users."""
    from streams.contract.event_reader import event_of
    from streams.ingest import FeedItem, FeedResult
    from streams.whatif import Simulation

    result, simulation = FeedResult(), Simulation()

    def events() -> Iterator[Any]:
        for item in items:
            if isinstance(item, FeedItem):
                result.events += 1
                result.topics[item.topic] += 1
                yield event_of(item.value)
                continue
            result.bad_rows += 1
            _print_problem(item)
            if strict:
                result.stopped_at = item
                return

    simulation.run(events())
    return result, simulation_states(simulation, tenant)


def simulation_states(simulation: Any, tenant: str) -> dict[str, list[State]]:
    """Returns the states that a simulation would publish, by user."""
    from engine.documents.user_documents import published_states
    from streams.ingest.graph_comparison import State

    found = simulation.machine.configuration.tenants.get(tenant)
    return {
        user.id: [
            State(each.sku, each.group or None, frozenset(each.disabled), each.state,
                  each.reason.error)
            for each in published_states(user.outcome, user.paths)
        ]
        for user in (found.users.values() if found else ())
        if user.outcome.states
    }  # fmt: skip


def _published(settings: Settings, tenant: str) -> dict[str, list[State]]:
    """Waits for the workers, and returns the states that they have published, by user."""
    _wait(settings)
    return asyncio.run(_read_states(settings, tenant))


async def _read_states(settings: Settings, tenant: str) -> dict[str, list[State]]:
    from streams.ingest.graph_comparison import states_of
    from streams.kafka.topic_reader import TopicReader, TopicRecord

    found: dict[str, list[State]] = {}

    def take(record: TopicRecord) -> None:
        of, _, user = str(record.key).partition("/")
        if of != tenant:
            return
        if isinstance(record.value, dict):
            found[user] = list(states_of(record.value["licenseAssignmentStates"]))
        else:
            found.pop(user, None)

    async with TopicReader(settings, ["user-licenses"], on_record=take) as reader:
        await reader.catch_up()
    return found


def _compare(items: GraphFeed, states: dict[str, list[State]]) -> int:
    from streams.ingest.graph_comparison import compare, summary

    differences = compare(items.expected, states, items.survey)
    for line in summary(differences, len(items.expected)):
        print(visible_line(line))
    return UNEXPLAINED if any(not each.explained for each in differences) else 0
