"""Sends commands and answers with their outcome.

1. The event and its audit record are committed in one transaction: no command without its audit
   record, and no audit record of a command that Kafka did not accept.
2. The outcome comes from the workers. For a command with a result, the projector completes a future
   when it has stored the result. For the others, it is known once the workers' consumer group has
   committed the event's offset.
3. The read model is awaited: until it has passed the ends that the output topics had when the
   outcome was known, so that the answer contains what the command changed.
"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from typing import Any

from aiokafka import TopicPartition

from streams.console.commands.definitions import Command, encode_audit, encode_event, utc_now
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
        id, time = f"console-{uuid.uuid4().hex}", utc_now()
        event = encode_event(command, tenant, id, time)
        audit = encode_audit(command, tenant, id, time, principal.name)
        with self.projector.results.expected(id) as result:
            try:
                partition, offset = await self.producer.send([event, audit])
            except (NotAcceptedError, UnconfirmedError) as error:
                log.warning(
                    log_events.CONSOLE_COMMAND_FAILED,
                    id=id,
                    activity=command.activity,
                    why=f"{type(error).__name__}: {error}",
                )
                raise
            log.info(log_events.CONSOLE_COMMAND, id=id, activity=command.activity)
            operation = Operation(
                id, tenant, partition=partition, offset=offset, has_result=command.has_result
            )
            self._retain(operation)
            try:
                async with asyncio.timeout(timeout):
                    await self._await_outcome(operation, result)
            except TimeoutError:
                pass  # the status says how far it came
        return operation

    def _retain(self, operation: Operation) -> None:
        while len(self._operations) >= RETAINED_OPERATIONS:
            self._operations.pop(next(iter(self._operations)))
        self._operations[operation.id] = operation

    async def _await_outcome(
        self, operation: Operation, result: asyncio.Future[dict[str, Any]]
    ) -> None:
        assert operation.partition is not None
        try:
            if operation.has_result:
                operation.complete(await result)
            else:
                await self.processing.wait_applied(operation.partition, operation.offset)
                operation.status = "applied"
            await self.projector.wait_passed({operation.partition: operation.offset + 1})
            await self.projector.wait_passed(await self.projector.output_ends())
        except WorkerError:
            pass  # the broker does not answer: as after a timeout

    async def operation(self, tenant: str, id: str) -> Operation | None:
        """Returns a command of this console, or any change that has a result; None if unknown."""
        operation = self._operations.get(id) or Operation(id, tenant)
        if operation.tenant != tenant:
            return None
        results = tenants.results(self.store.read_connection(), tenant, id)
        if results:
            operation.complete(results[-1])
        elif operation.partition is None:
            return None
        elif operation.status == "pending" and not operation.has_result:
            await self._look_up(operation, operation.partition)
        return operation

    async def _look_up(self, operation: Operation, partition: TopicPartition) -> None:
        try:
            if await self.processing.is_applied(partition, operation.offset):
                operation.status = "applied"
        except WorkerError:
            pass  # still pending, as far as is known

    async def close(self) -> None:
        """Ends the producer."""
        await self.producer.close()
