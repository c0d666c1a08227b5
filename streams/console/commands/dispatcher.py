"""What an operator wants done: checked by the workers' own decoder, audited, produced, awaited.

The audit record goes first: nothing is done that nobody can be asked about. What the processor
answers by ``results`` is waited for there; of the other events it is known that they are applied
when the workers' group has committed their offset.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson
from aiokafka import AIOKafkaProducer, TopicPartition, errors

from streams.console.commands.processing_status import ProcessingStatus
from streams.console.read_model import tenants
from streams.console.read_model.projector import ReadModelProjector
from streams.console.read_model.store import Store
from streams.console.security.auth import Principal
from streams.contract.decoder import DECODERS, Rejected
from streams.runtime.errors import WorkerError, log
from streams.runtime.settings import Settings, client_options

WAIT = 10.0
REMEMBERED = 10_000
WITH_RESULT = ("licenses.changed", "user.reprocess", "group.reprocess")


class RefusedError(Exception):
    """A command that the contract does not allow; the message says what is wrong."""


class NotAvailableError(Exception):
    """The broker did not take it, or does not answer: nothing was done."""


@dataclass(frozen=True, slots=True)
class Command:
    """One event to be. ``activity`` and ``target`` are for the audit."""

    topic: str
    key: str
    activity: str
    target: tuple[str, str]
    body: dict[str, Any]
    changes: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class Operation:
    """A command that was sent. ``status``: pending, applied, rejected or deferred."""

    id: str
    tenant: str
    status: str = "pending"
    result: dict[str, Any] | None = None
    place: TopicPartition | None = None
    offset: int = -1
    with_result: bool = True

    def to_json(self) -> dict[str, Any]:
        found = {"id": self.id, "status": self.status}
        if self.result:
            names = ("error", "skuId", "message", "details")
            found |= {name: self.result[name] for name in names if name in self.result}
        return found


class CommandDispatcher:
    """One producer for all; started when the first command comes."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        projector: ReadModelProjector,
        processor: ProcessingStatus,
    ) -> None:
        self.settings, self.store = settings, store
        self.projector, self.processor = projector, processor
        self.sent: dict[str, Operation] = {}
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()

    async def run(
        self, who: Principal, tenant: str, command: Command, wait: float = WAIT
    ) -> Operation:
        """Sends the command and waits for what comes of it.

        Raises RefusedError, NotAvailableError.
        """
        id = f"console-{uuid.uuid4().hex}"
        value = self._checked(tenant, command, id)
        await self._audit(who, tenant, command, id)
        place, offset = await self._send(command.topic, command.key, value)
        operation = Operation(id, tenant, place=place, offset=offset)
        operation.with_result = command.body["type"] in WITH_RESULT
        while len(self.sent) >= REMEMBERED:
            self.sent.pop(next(iter(self.sent)))
        self.sent[id] = operation
        log.info("console_command", id=id, activity=command.activity)
        await self._await(operation, wait)
        return operation

    def _checked(self, tenant: str, command: Command, id: str) -> bytes:
        event = {"type": command.body["type"], "id": id, "time": _now()}
        if command.topic != "catalog":
            event["tenant"] = tenant
        value = orjson.dumps({**event, **command.body})
        decoded = DECODERS[command.topic](command.key.encode(), value, None)
        if isinstance(decoded, Rejected):
            raise RefusedError(decoded.reason)
        return value

    async def _audit(self, who: Principal, tenant: str, command: Command, id: str) -> None:
        kind, target = command.target
        record = {
            "time": _now(),
            "tenant": tenant,
            "activity": command.activity,
            "category": "Console",
            "target": {"type": kind, "id": target},
            "initiatedBy": who.name,
            "result": "success",
            "resultReason": "Sent to the processor.",
            "modifiedProperties": command.changes,
            "causedBy": id,
        }
        await self._send("audit", f"{tenant}/{target}", orjson.dumps(record))

    async def _send(self, topic: str, key: str, value: bytes) -> tuple[TopicPartition, int]:
        try:
            producer = await self._started()
            sent = await producer.send_and_wait(
                self.settings.topic_prefix + topic, value, key.encode()
            )
        except (errors.KafkaError, OSError) as error:
            raise NotAvailableError(f"The broker did not take the command: {error}") from None
        return TopicPartition(sent.topic, sent.partition), sent.offset

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    **client_options(self.settings),
                    enable_idempotence=True,
                    request_timeout_ms=8_000,
                    max_request_size=4 << 20,
                )
                try:
                    await producer.start()
                except BaseException:
                    await producer.stop()
                    raise
                self._producer = producer
            return self._producer

    # -- answers
    async def _await(self, operation: Operation, within: float) -> None:
        deadline = time.monotonic() + within
        if not operation.with_result:
            assert operation.place is not None
            try:
                applied = await self.processor.applied(operation.place, operation.offset, within)
            except WorkerError:
                applied = False
            if applied:
                operation.status = "applied"
        while operation.with_result and operation.status == "pending":
            self._look(operation)
            left = deadline - time.monotonic()
            if operation.status != "pending" or left <= 0:
                break
            await self.projector.wait_updated(min(left, 0.25))
        if operation.status != "pending":
            await self._shown(deadline)

    async def _shown(self, deadline: float) -> None:
        """Until the read model tells what the operation did, too."""
        limit = min(deadline, time.monotonic() + 1.0)
        for _ in range(2):
            await self.projector.wait_updated(min(0.3, max(0.0, limit - time.monotonic())))
        while self.projector.lag().records and time.monotonic() < limit:
            await self.projector.wait_updated(0.1)

    def _look(self, operation: Operation) -> None:
        found = tenants.results(self.store.read_connection(), operation.tenant, operation.id)
        if found:
            operation.result = found[-1]
            operation.status = found[-1]["status"]

    async def operation(self, tenant: str, id: str) -> Operation | None:
        """How a command is going: one of this console's, or any change that has a result."""
        operation = self.sent.get(id) or Operation(id, tenant)
        if operation.tenant != tenant:
            return None
        self._look(operation)
        if operation.result is not None:
            return operation
        if operation.place is None:
            return None
        if operation.status == "pending" and not operation.with_result:
            await self._await(operation, 0.0)
        return operation

    async def close(self) -> None:
        if self._producer is not None:
            await self._producer.stop()


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"


# --- the commands --------------------------------------------------------------------------------


def _of_user(tenant: str, user: str, activity: str, type: str, **members: Any) -> Command:
    body = {"type": type, "user": user, **members}
    return Command("user-changes", f"{tenant}/{user}", activity, ("User", user), body)


def _of_group(tenant: str, group: str, activity: str, type: str, **members: Any) -> Command:
    body = {"type": type, "group": group, **members}
    return Command("group-changes", f"{tenant}/{group}", activity, ("Group", group), body)


def _licences(command: Command, add: list[dict[str, Any]], remove: list[str]) -> Command:
    command.changes.append({"name": "addLicenses", "oldValue": None, "newValue": add})
    command.changes.append({"name": "removeLicenses", "oldValue": None, "newValue": remove})
    return command


def assign_user(tenant: str, user: str, add: list[dict[str, Any]], remove: list[str]) -> Command:
    command = _of_user(
        tenant, user, "Request user license change", "licenses.changed",
        addLicenses=add, removeLicenses=remove,
    )  # fmt: skip
    return _licences(command, add, remove)


def assign_group(tenant: str, group: str, add: list[dict[str, Any]], remove: list[str]) -> Command:
    command = _of_group(
        tenant, group, "Request group license change", "licenses.changed",
        addLicenses=add, removeLicenses=remove,
    )  # fmt: skip
    return _licences(command, add, remove)


def reprocess_user(tenant: str, user: str) -> Command:
    return _of_user(tenant, user, "Request user license recalculation", "user.reprocess")


def reprocess_group(tenant: str, group: str) -> Command:
    return _of_group(tenant, group, "Request group license recalculation", "group.reprocess")


def put_user(tenant: str, user: str, members: dict[str, Any]) -> Command:
    command = _of_user(tenant, user, "Request user update", "user.upserted", **members)
    command.changes.extend(
        {"name": name, "oldValue": None, "newValue": value} for name, value in members.items()
    )
    return command


def delete_user(tenant: str, user: str) -> Command:
    return _of_user(tenant, user, "Request user deletion", "user.deleted")


def put_group(tenant: str, group: str, members: dict[str, Any]) -> Command:
    command = _of_group(tenant, group, "Request group update", "group.upserted", **members)
    command.changes.extend(
        {"name": name, "oldValue": None, "newValue": value} for name, value in members.items()
    )
    return command


def delete_group(tenant: str, group: str) -> Command:
    return _of_group(tenant, group, "Request group deletion", "group.deleted")


def put_member(tenant: str, group: str, user: str) -> Command:
    command = _of_user(tenant, user, "Request group membership", "membership.added", group=group)
    command.changes.append({"name": "group", "oldValue": None, "newValue": group})
    return command


def delete_member(tenant: str, group: str, user: str) -> Command:
    command = _of_user(
        tenant, user, "Request end of group membership", "membership.removed", group=group
    )
    command.changes.append({"name": "group", "oldValue": group, "newValue": None})
    return command


def put_subscription(tenant: str, sku: str, units: dict[str, int]) -> Command:
    body = {"type": "subscription.updated", "skuId": sku, "prepaidUnits": units}
    return Command(
        "subscriptions",
        f"{tenant}/{sku}",
        "Request subscription change",
        ("Subscription", sku),
        body,
        [{"name": "prepaidUnits", "oldValue": None, "newValue": units}],
    )
