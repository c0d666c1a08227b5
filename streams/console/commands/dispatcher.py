"""Sends commands and answers with their outcome.

1. The event and its audit record are committed in one transaction: no command without its audit
   record, and no audit record of a command that Kafka did not accept. Commands that belong together
   are one transaction: Kafka has all of them or none.
2. The outcome comes from the workers. For a command with a result, the projector completes a future
   when it has stored the result. For the others, it is known once the workers' consumer group has
   committed the event's offset.
3. The read model is awaited: until it has passed the ends that the output topics had when the
   outcome was known, so that the answer contains what the command changed.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from aiokafka import TopicPartition

from streams.console.commands.dead_letters import ACTIVITY, LetterReader, Resending
from streams.console.commands.definitions import (
    Command,
    EncodedRecord,
    encode_audit,
    encode_event,
    utc_now,
)
from streams.console.commands.processing_status import ProcessingStatus
from streams.console.commands.producer import CommandProducer, NotAcceptedError, UnconfirmedError
from streams.console.read_model import tenants
from streams.console.read_model.projector import ReadModelProjector
from streams.console.read_model.store import Store
from streams.console.security.auth import Principal
from streams.runtime import log_events
from streams.runtime.errors import WorkerError, log
from streams.runtime.settings import Settings

OUTCOME_TIMEOUT_SECONDS = 10.0
"""How long a request waits for the outcome and the read model together."""
RETAINED_OPERATIONS = 10_000
"""Commands without a result are known for as long as they are among the last so many."""
RESULT_MEMBERS = ("error", "skuId", "message", "details")


@dataclass(slots=True)
class Operation:
    """A command that was sent.

    ``status``: pending, applied, rejected or deferred.
    ``result``: the record of the topic ``results``, if there is one.
    ``partition``, ``offset``: of the event; None for a change that another producer sent.
    """

    id: str
    tenant: str
    status: str = "pending"
    result: dict[str, Any] | None = None
    partition: TopicPartition | None = None
    offset: int = -1
    has_result: bool = True

    def complete(self, result: dict[str, Any]) -> None:
        """Takes the status of a result."""
        self.result, self.status = result, result["status"]

    def to_json(self) -> dict[str, Any]:
        """Returns the operation as the API shows it."""
        result = self.result or {}
        shown = {name: result[name] for name in RESULT_MEMBERS if name in result}
        return {"id": self.id, "status": self.status, **shown}


def batch_ids(batch: str, commands: int) -> list[str]:
    """Returns the ids of the events of commands that were sent together."""
    if commands == 1:
        return [batch]
    return [f"{batch}.{number}" for number in range(1, commands + 1)]


def _ends(operations: Sequence[Operation]) -> dict[TopicPartition, int]:
    """Returns the last offset of the operations' events in each partition."""
    ends: dict[TopicPartition, int] = {}
    for each in operations:
        assert each.partition is not None
        ends[each.partition] = max(each.offset, ends.get(each.partition, -1))
    return ends


class CommandDispatcher:
    """Sends commands, awaits their outcome, and remembers the last ones."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        projector: ReadModelProjector,
        processing: ProcessingStatus,
    ) -> None:
        self.store, self.projector, self.processing = store, projector, processing
        self.producer = CommandProducer(settings)
        self.letters = LetterReader(settings)
        self._operations: dict[str, Operation] = {}

    async def run(
        self,
        principal: Principal,
        tenant: str,
        command: Command,
        timeout: float = OUTCOME_TIMEOUT_SECONDS,
    ) -> Operation:
        """Sends the command and waits up to ``timeout`` seconds for its outcome.

        Raises: InvalidCommandError, NotAcceptedError, UnconfirmedError.
        """
        return (await self.run_all(principal, tenant, [command], timeout))[0]

    async def run_all(
        self,
        principal: Principal,
        tenant: str,
        commands: Sequence[Command],
        timeout: float = OUTCOME_TIMEOUT_SECONDS,
    ) -> list[Operation]:
        """Sends the commands in one transaction and waits for their outcomes, all together.

        Raises: InvalidCommandError, NotAcceptedError, UnconfirmedError.
        """
        ids, time = batch_ids(f"console-{uuid.uuid4().hex}", len(commands)), utc_now()
        events, audits, operations = [], [], []
        for id, command in zip(ids, commands, strict=True):
            events.append(encode_event(command, tenant, id, time))
            audits.append(encode_audit(command, tenant, id, time, principal.name))
            operations.append(Operation(id, tenant, has_result=command.has_result))
        await self._dispatch(operations, events, audits, commands[0].activity, timeout)
        return operations

    async def resend(
        self,
        principal: Principal,
        letter: Resending,
        timeout: float = OUTCOME_TIMEOUT_SECONDS,
    ) -> Operation:
        """Sends a mended dead letter and waits for its outcome.

        Raises: NotAcceptedError, UnconfirmedError.
        """
        operation = Operation(letter.id, letter.tenant, has_result=letter.has_result)
        audits = letter.audit(principal.name)
        await self._dispatch([operation], [letter.event()], audits, ACTIVITY, timeout)
        return operation

    async def _dispatch(
        self,
        operations: list[Operation],
        events: list[EncodedRecord],
        audits: list[EncodedRecord],
        activity: str,
        timeout: float,
    ) -> None:
        first = operations[0].id
        with ExitStack() as stack:
            expected = self.projector.results.expected
            results = [stack.enter_context(expected(each.id)) for each in operations]
            try:
                places = await self.producer.send([*events, *audits])
            except (NotAcceptedError, UnconfirmedError) as error:
                log.warning(
                    log_events.CONSOLE_COMMAND_FAILED,
                    id=first,
                    activity=activity,
                    why=f"{type(error).__name__}: {error}",
                )
                raise
            log.info(log_events.CONSOLE_COMMAND, id=first, activity=activity)
            for operation, place in zip(operations, places, strict=False):
                operation.partition, operation.offset = place
            self._retain(operations)
            try:
                async with asyncio.timeout(timeout):
                    await self._await_outcomes(operations, results)
            except TimeoutError:
                pass  # the status says how far it came

    def _retain(self, operations: list[Operation]) -> None:
        self._operations.update((each.id, each) for each in operations)
        while len(self._operations) > RETAINED_OPERATIONS:
            self._operations.pop(next(iter(self._operations)))

    async def _await_outcomes(
        self, operations: list[Operation], results: list[asyncio.Future[dict[str, Any]]]
    ) -> None:
        ends = _ends(operations)
        try:
            for operation, result in zip(operations, results, strict=True):
                if operation.has_result:
                    operation.complete(await result)
            without = [each for each in operations if not each.has_result]
            for partition, offset in _ends(without).items():
                await self.processing.wait_applied(partition, offset)
            for operation in without:
                operation.status = "applied"
            await self.projector.wait_passed({p: offset + 1 for p, offset in ends.items()})
            await self.projector.wait_passed(await self.projector.output_ends())
        except WorkerError:
            pass  # the broker does not answer: as after a timeout

    async def operation(self, tenant: str, id: str) -> Operation | None:
        """Returns a command of this console, or any change that has a result; None if unknown."""
        return next(iter(await self.operations(tenant, [id])), None)

    async def operations(self, tenant: str, ids: Sequence[str]) -> list[Operation]:
        """Returns those of the commands, or other changes with a result, that are known."""
        known = [found for id in ids if (found := self._known(tenant, id)) is not None]
        waiting = [each for each in known if each.status == "pending" and not each.has_result]
        try:
            for partition, offset in _ends(waiting).items():
                if await self.processing.is_applied(partition, offset):
                    for each in waiting:
                        if each.partition == partition:
                            each.status = "applied"
        except WorkerError:
            pass  # still pending, as far as is known
        return known

    def _known(self, tenant: str, id: str) -> Operation | None:
        operation = self._operations.get(id) or Operation(id, tenant)
        if operation.tenant != tenant:
            return None
        results = tenants.results(self.store.read_connection(), tenant, id)
        if results:
            operation.complete(results[-1])
        return operation if results or operation.partition is not None else None

    async def close(self) -> None:
        """Ends the producer."""
        await self.producer.close()
