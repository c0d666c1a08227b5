"""Commands: their audit records, and that the two records are sent together or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
import orjson
import pytest

from streams.console.api import parameters
from streams.console.api.parameters import ListParameters
from streams.console.commands import definitions as d
from streams.console.commands.definitions import (
    Command,
    EncodedRecord,
    InvalidCommandError,
    encode_audit,
    encode_event,
    utc_now,
)
from streams.console.commands.producer import NotAcceptedError, Place, UnconfirmedError
from streams.console.read_model import queries
from streams.console.read_model.pagination import Listing
from streams.console.read_model.pending_results import PendingResults
from streams.contract.schemas import schemas
from tests.streams.console.conftest import Console
from tests.streams.console.local import local_service
from tests.support.system import Events

LICENSE = {"skuId": "e3", "disabledPlans": ["p1"]}
COMMANDS = [
    d.assign_user("ann", [LICENSE], ["visio"]),
    d.assign_group("g", [LICENSE], ["visio"]),
    d.reprocess_user("ann"),
    d.reprocess_group("g"),
    d.put_user("ann", {"displayName": "Ann", "usageLocation": "US", "proxyAddresses": None}),
    d.delete_user("ann"),
    d.put_group("g", {"displayName": "Sales"}),
    d.delete_group("g"),
    d.put_member("g", "ann"),
    d.delete_member("g", "ann"),
    d.put_subscription("e3", {"enabled": 25, "warning": 0, "suspended": 0, "lockedOut": 0}),
]


def test_every_command_is_here() -> None:
    """A command that is added is tested, too."""
    made = {
        name
        for name, found in vars(d).items()
        if not name.startswith("_")
        and callable(found)
        and getattr(found, "__annotations__", {}).get("return") == "Command"
    }
    assert len(made) == len(COMMANDS)
    assert len({c.activity for c in COMMANDS}) == len(COMMANDS)
    assert {c.activity for c in COMMANDS} <= set(queries.ACTIVITIES)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.activity)
def test_every_audit_record_is_valid_by_the_schema(command: Command) -> None:
    """And so is every event."""
    published = schemas()
    audit = encode_audit(command, "contoso", "console-1", utc_now(), "ann on this machine")
    jsonschema.validate(orjson.loads(audit.value), published["audit.v1.schema.json"])
    event = encode_event(command, "contoso", "console-1", utc_now())
    assert event.topic == command.event_type.topic
    assert event.key == audit.key == f"contoso/{command.subject}"


def test_an_invalid_command_is_refused_by_the_decoder() -> None:
    """Before anything is sent, with the member that is wrong."""
    with pytest.raises(InvalidCommandError, match="usageLocation"):
        encode_event(d.put_user("ann", {"usageLocation": "Utopia"}), "t", "id", utc_now())


def test_the_event_and_its_audit_record_are_sent_together(console: Console) -> None:
    """In one call of the producer, which is one transaction."""
    calls: list[list[str]] = []
    producer: Any = console.service.dispatcher.producer
    send = producer.send

    async def recording(records: Sequence[EncodedRecord]) -> list[Place]:
        calls.append([record.topic for record in records])
        found: list[Place] = await send(records)
        return found

    producer.send = recording
    answer = console.client.put("/v1/tenants/contoso/users/ann", json={"displayName": "Ann"})
    assert answer.status_code == 200
    assert calls == [["user-changes", "audit"]]


@pytest.mark.parametrize(
    ("error", "says"), [(NotAcceptedError, "did not accept"), (UnconfirmedError, "audit shows")]
)
def test_a_broker_that_fails_is_503(console: Console, error: type[Exception], says: str) -> None:
    """And no audit record says success."""

    async def failing(_records: Sequence[EncodedRecord]) -> list[Place]:
        raise error("no answer")

    producer: Any = console.service.dispatcher.producer
    producer.send = failing
    answer = console.client.put("/v1/tenants/contoso/users/ann", json={"displayName": "Ann"})
    assert answer.status_code == 503
    assert says in answer.json()["error"]["message"]
    db = console.service.store.read_connection()
    assert db.execute("SELECT count(*) FROM audit").fetchone()[0] == 0


def test_without_an_outcome_the_operation_is_pending(tmp_path: Path) -> None:
    """The timeout is explicit; what was sent is known afterwards."""
    _, service, world = local_service(tmp_path)
    world.publish([Events(run="c").user("ann")])
    producer: Any = service.dispatcher.producer
    producer.results = PendingResults()

    async def run() -> None:
        command = d.reprocess_user("ann")
        operation = await service.dispatcher.run(
            service.authenticator.local, "contoso", command, timeout=0.05
        )
        assert operation.status == "pending"
        known = await service.dispatcher.operation("contoso", operation.id)
        assert known is not None
        assert known.status == "applied"

    asyncio.run(run())
    service.store.close()


LISTS: list[tuple[type[ListParameters], Listing]] = [
    (parameters.Skus, queries.SKUS),
    (parameters.Users, queries.USERS),
    (parameters.Groups, queries.GROUPS),
    (parameters.Members, queries.MEMBERS),
    (parameters.MembersInError, queries.MEMBERS_IN_ERROR),
    (parameters.Errors, queries.ERRORS),
    (parameters.Audit, queries.AUDIT),
    (parameters.DeadLetters, queries.DEAD_LETTERS),
]


@pytest.mark.parametrize(("model", "listing"), LISTS, ids=lambda x: getattr(x, "__name__", ""))
def test_query_parameters_are_the_listings_filters(
    model: type[ListParameters], listing: Listing
) -> None:
    """Neither has one that the other does not know."""
    general = ListParameters.model_fields.keys()
    names = {
        field.alias or name for name, field in model.model_fields.items() if name not in general
    }
    assert names == set(listing.filters)
