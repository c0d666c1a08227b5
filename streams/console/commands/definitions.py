"""The commands of the console: each one event of the contract, and how the audit log names it.

Pure: building, validating and encoding, no I/O. A command is validated by the workers' own decoder,
so the console sends nothing that would become a dead letter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from engine.domain import events
from streams.contract.decoder import DECODERS, Rejected
from streams.contract.event_types import EVENT_TYPES, EventType
from streams.runtime.errors import SenderError

USER_MANAGEMENT = "UserManagement"
GROUP_MANAGEMENT = "GroupManagement"
DIRECTORY_MANAGEMENT = "DirectoryManagement"

TARGET_TYPES: Final = {"user": "User", "group": "Group", "skuId": "Subscription"}
"""Subject of an event -> ``target.type`` of its audit record."""

WITH_RESULT: Final = frozenset(
    {
        events.UserLicensesChanged,
        events.GroupLicensesChanged,
        events.UserLicensesSet,
        events.GroupLicensesSet,
        events.UserReprocess,
        events.GroupReprocess,
    }
)
"""Facts that the workers answer on the topic ``results``."""

EVENT_TYPE_OF: Final = {each.fact: each for each in EVENT_TYPES}


class InvalidCommandError(SenderError):
    """Raised for a command that the contract does not allow. The message names the member."""


@dataclass(frozen=True, slots=True)
class Command:
    """One event to be sent, without tenant, id and time.

    ``subject``: the id of the user, group or product that it is about.
    ``activity``, ``category``, ``changes``: for the audit record; ``changes`` are its
    ``modifiedProperties``.
    """

    event_type: EventType
    subject: str
    activity: str
    category: str
    members: Mapping[str, Any]
    changes: tuple[Mapping[str, Any], ...] = ()

    @property
    def has_result(self) -> bool:
        """True if the workers publish a result for it."""
        return self.event_type.fact in WITH_RESULT


@dataclass(frozen=True, slots=True)
class EncodedRecord:
    """A record to be produced; ``topic`` is without the prefix."""

    topic: str
    key: str
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


def utc_now() -> str:
    """Returns the present time as the contract writes it, in milliseconds."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"


def encode_event(command: Command, tenant: str, id: str, time: str) -> EncodedRecord:
    """Returns the command's event as an input record.

    Raises: InvalidCommandError.
    """
    event_type = command.event_type
    body = {
        "type": event_type.name,
        "id": id,
        "time": time,
        "tenant": tenant,
        event_type.subject: command.subject,
        **command.members,
    }
    value, key = orjson.dumps(body), str(event_type.key_of(body))
    decoded = DECODERS[event_type.topic](key.encode(), value, None)
    if isinstance(decoded, Rejected):
        raise InvalidCommandError(decoded.reason)
    return EncodedRecord(event_type.topic, key, value)


def encode_audit(
    command: Command, tenant: str, id: str, time: str, initiated_by: str
) -> EncodedRecord:
    """Returns the audit record of a command.

    It says ``success`` because it is committed in one transaction with the event: it can be read
    if, and only if, Kafka has accepted the event.
    """
    record = {
        "time": time,
        "tenant": tenant,
        "activity": command.activity,
        "category": command.category,
        "target": {"type": TARGET_TYPES[command.event_type.subject], "id": command.subject},
        "initiatedBy": initiated_by,
        "result": "success",
        "resultReason": "Accepted for processing.",
        "modifiedProperties": list(command.changes),
        "causedBy": id,
    }
    return EncodedRecord("audit", f"{tenant}/{command.subject}", orjson.dumps(record))


# --- the commands --------------------------------------------------------------------------------


def _change(name: str, old: Any, new: Any) -> dict[str, Any]:
    return {"name": name, "oldValue": old, "newValue": new}


def _changes_to(members: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    return tuple(_change(name, None, value) for name, value in members.items())


def _of_user(
    fact: type[Any], user: str, activity: str, members: Mapping[str, Any] | None = None
) -> Command:
    members = members or {}
    event_type = EVENT_TYPE_OF[fact]
    return Command(event_type, user, activity, USER_MANAGEMENT, members, _changes_to(members))


def _of_group(
    fact: type[Any], group: str, activity: str, members: Mapping[str, Any] | None = None
) -> Command:
    members = members or {}
    event_type = EVENT_TYPE_OF[fact]
    return Command(event_type, group, activity, GROUP_MANAGEMENT, members, _changes_to(members))


def _of_member(
    fact: type[Any], group: str, user: str, activity: str, change: dict[str, Any]
) -> Command:
    members = {"group": group}
    return Command(EVENT_TYPE_OF[fact], user, activity, GROUP_MANAGEMENT, members, (change,))


def assign_user(user: str, add: Iterable[Any], remove: Iterable[str]) -> Command:
    """Changes a user's direct licences (R16–R21)."""
    members = {"addLicenses": list(add), "removeLicenses": list(remove)}
    return _of_user(events.UserLicensesChanged, user, "Request user license change", members)


def assign_group(group: str, add: Iterable[Any], remove: Iterable[str]) -> Command:
    """Changes a group's licences."""
    members = {"addLicenses": list(add), "removeLicenses": list(remove)}
    return _of_group(events.GroupLicensesChanged, group, "Request group license change", members)


def reprocess_user(user: str) -> Command:
    """Retries a user's licences that are in error."""
    return _of_user(events.UserReprocess, user, "Request user license recalculation")


def reprocess_group(group: str) -> Command:
    """Re-evaluates all members of a group."""
    return _of_group(events.GroupReprocess, group, "Request group license recalculation")


def put_user(user: str, members: Mapping[str, Any]) -> Command:
    """Creates or patches a user."""
    return _of_user(events.UserUpserted, user, "Request user update", members)


def delete_user(user: str, restorable: bool = False) -> Command:
    """Deletes a user. ``restorable``: into the recycle bin (R22)."""
    members = {"restorable": True} if restorable else {}
    return _of_user(events.UserDeleted, user, "Request user deletion", members)


def put_group(group: str, members: Mapping[str, Any]) -> Command:
    """Creates or patches a group."""
    return _of_group(events.GroupUpserted, group, "Request group update", members)


def delete_group(group: str) -> Command:
    """Deletes a group."""
    return _of_group(events.GroupDeleted, group, "Request group deletion")


def put_member(group: str, user: str) -> Command:
    """Makes a user a direct member of a group."""
    change = _change("group", None, group)
    return _of_member(events.MembershipAdded, group, user, "Request addition to group", change)


def delete_member(group: str, user: str) -> Command:
    """Ends a user's direct membership of a group."""
    activity, change = "Request removal from group", _change("group", group, None)
    return _of_member(events.MembershipRemoved, group, user, activity, change)


def put_subscription(
    sku: str, units: Mapping[str, int], before: Mapping[str, int] | None = None
) -> Command:
    """Sets the units bought of a product. ``before``: what they were, for the audit record."""
    return Command(
        EVENT_TYPE_OF[events.SubscriptionUpdated],
        sku,
        "Request subscription change",
        DIRECTORY_MANAGEMENT,
        {"prepaidUnits": dict(units)},
        (_change("prepaidUnits", dict(before) if before else None, dict(units)),),
    )
