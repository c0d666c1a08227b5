"""Checks of internal messages before a machine applies them: their members, types and ranges.

A message is applied in the middle of a batch, where nothing can be undone. So a message that no
release of Seatflow has written is refused before. A forged message of the right form is not
recognized: who may write the internal topics is a matter of the brokers' rights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from engine.domain.model import FIRST_TIMESTAMP_MS, LAST_TIMESTAMP_MS
from engine.state import address_message_codecs as batches
from engine.state import formats, row_codecs
from engine.state import message_codecs as codecs

MAX_NUMBER: Final = 1 << 63

Check = Callable[[Any], bool]


def _text(value: Any) -> bool:
    return type(value) is str


def _number(value: Any) -> bool:
    return type(value) is int and -MAX_NUMBER <= value < MAX_NUMBER


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value < MAX_NUMBER


def _flag(value: Any) -> bool:
    return type(value) is bool


def _time(value: Any) -> bool:
    return type(value) is int and FIRST_TIMESTAMP_MS <= value <= LAST_TIMESTAMP_MS


def _waiting_users(value: Any) -> bool:
    return type(value) is list and all(
        type(each) is list and len(each) == 2 and _number(each[0]) and _text(each[1])
        for each in value
    )


def _counts(value: Any) -> bool:
    return type(value) is dict and all(_text(name) and _count(n) for name, n in value.items())


def _kind(value: Any) -> bool:
    return value in ("product", "tenant", "group")


def _row(value: Any) -> bool:
    return type(value) is list


def _facts(value: Any) -> bool:
    return type(value) is dict


_CHECKS: Final[Mapping[str, Check]] = {
    "kind": _kind, "tenant": _text, "group": _text, "row": _row, "facts": _facts, "at": _time,
    "causedBy": _text, "skuId": _text, "partition": _count, "seq": _count, "granted": _number,
    "returned": _number, "used": _number, "waiting": _number, "want": _number, "asked": _number,
    "heads": _waiting_users, "recall": _number, "low": _flag, "off": _flag, "adopted": _number,
    "answered": _number, "denied": _number, "news": _number, "scarce": _flag, "room": _number,
    "purchased": _number, "consumed": _number, "version": _number, "members": _number,
    "licensed": _number, "withErrors": _number, "errors": _counts, "address": _text,
    "user": _text, "claim": _number, "since": _number, "offset": _number, "owner": _text,
    "answers": _number, "derived": _flag, "batches": _flag, "format": _count,
}  # fmt: skip
_OPTIONAL: Final[Mapping[str, frozenset[str]]] = {
    codecs.CONFIGURATION: frozenset(("tenant", "group", "facts", "format")),
    codecs.SEAT_REQUESTS: frozenset(("low", "off", "adopted", "format")),
    codecs.ADDRESS_CLAIMS: frozenset(("derived", "batches", "format")),
    codecs.ADDRESS_VERDICTS: frozenset(("batches", "format")),
    codecs.SEAT_GRANTS: frozenset(("off", "format")),
}
_FORMAT: Final = frozenset(("format",))


def _members(topic: str) -> tuple[tuple[str, Check, bool], ...]:
    """Returns name, check and whether it may be absent, of each member that is read."""
    optional = _OPTIONAL.get(topic, _FORMAT)
    names = (*codecs.MEMBERS[topic], "format", *(["facts"] if "facts" in optional else []))
    return tuple((name, _CHECKS[name], name in optional) for name in names)


MEMBERS: Final = {topic: _members(topic) for topic in codecs.MEMBERS}
# By topic, of the messages with many entries: where these are, and the checks of one's members.
_ENTRIES: Final[Mapping[str, tuple[str, tuple[Check, ...]]]] = {
    codecs.ADDRESS_CLAIMS: (
        batches.CLAIMS, (_text, _text, _number, _time, _number, _text, _flag),
    ),
    codecs.ADDRESS_VERDICTS: (
        batches.VERDICTS, (_text, _text, _text, _number, _time, _text),
    ),
}  # fmt: skip


def problem_of(topic: str, message: Any, partitions: int) -> str:
    """Returns why the message cannot be applied, as one line, or an empty text.

    Args:
        topic: the short name of an internal topic.
        message: the decoded JSON of the record's value.
        partitions: the number of partitions; a message that names a partition names one of these.

    Raises:
        NewerFormatError: a later release has written the message.
    """
    members = MEMBERS.get(topic)
    if members is None:
        return ""
    if type(message) is not dict:
        return "the message is not a JSON object"
    found = message.get("format", formats.FIRST_FORMAT)
    if _count(found):
        formats.check_message_format(found, topic)  # its other members may be unknown here
        if found == batches.BATCH_FORMAT and topic in _ENTRIES:
            return _problem_of_batch(topic, message, partitions)
    for name, check, may_be_absent in members:
        value = message.get(name, _ABSENT)
        if value is _ABSENT:
            if not may_be_absent:
                return f"{name} is missing"
        elif not check(value):
            return f"{name} has a value that no worker writes"
    if message.get("partition", 0) >= partitions:
        return f"partition {message['partition']} does not exist"
    if topic == codecs.CONFIGURATION:
        return _problem_of_row(message)
    if topic == codecs.SEAT_REQUESTS:
        return _problem_of_units(message)
    return ""


_ABSENT: Final = object()


def _problem_of_batch(topic: str, message: dict[str, Any], partitions: int) -> str:
    if not _text(message.get("tenant")):
        return "tenant is missing or no text"
    if not _time(message.get("at")):
        return "at is missing or no time"
    partition: Any = message.get("partition") if topic == codecs.ADDRESS_CLAIMS else 0
    if not _count(partition) or partition >= partitions:
        return f"partition {partition!r:.20} does not exist"
    name, checks = _ENTRIES[topic]
    entries = message.get(name)
    if type(entries) is not list or not entries:
        return f"{name} is missing or no list"
    for number, entry in enumerate(entries):
        sound = type(entry) is list and len(entry) == len(checks)
        if not (sound and all(check(each) for check, each in zip(checks, entry, strict=True))):
            return f"entry {number} of {name} has a value that no worker writes"
    return ""


def _problem_of_units(message: dict[str, Any]) -> str:
    """A partition that uses more than it has: others would get units that are in use (R8).

    ``granted`` cannot be compared with what the product's owner has granted: a worker that has lost
    the partition, and does not know yet, reads messages that are later than its state.
    """
    units = message["granted"] + message.get("adopted", 0) - message["returned"]
    return "" if message["used"] <= units else "used has more units than the partition has"


def _problem_of_row(message: dict[str, Any]) -> str:
    kind, row = message["kind"], message["row"]
    if kind != "product" and not message.get("tenant"):
        return "tenant is missing"
    if kind == "group" and not message.get("group"):
        return "group is missing"
    whole = codecs.decode_configuration(message).row
    try:
        if kind == "product":
            sound = _sound_product(whole)
        elif kind == "tenant":
            sound = _sound_tenant(row_codecs.decode_tenant(whole))
        else:
            group = row_codecs.decode_group(whole)
            licenses = group.licenses.items()
            sound = (
                _number(group.version)
                and all(map(_texts, [plans for _, plans in licenses]))
                and _sound_rule((group.optional_facts or {}).get(row_codecs.MEMBERSHIP_RULE))
            )
    except Exception:
        return f"row is not that of a {kind}"
    return "" if sound else f"row is not that of a {kind} ({len(row)} fields)"


def _sound_rule(rule: Any) -> bool:
    if rule is None:
        return True
    text, paused, since_ms, offset = rule
    return _text(text) and _flag(paused) and _number(since_ms) and _number(offset)


def _texts(value: Any) -> bool:
    return type(value) is list and all(map(_text, value))


def _sound_product(row: list[Any]) -> bool:
    product = row_codecs.ProductRow._make(row)
    plans = [row_codecs.ServicePlanRow._make(plan) for plan in product.service_plans]
    return all(map(_text, product[:3])) and all(
        all(map(_text, plan[:3]))
        and _texts(plan.exclusive_sets)
        and all(map(_texts, plan.requires))
        and _texts(plan.prohibited_locations)
        and _flag(plan.mail_enabled)
        for plan in plans
    )


def _sound_tenant(tenant: Any) -> bool:
    location = tenant.location
    return (location is None or _text(location)) and _flag(tenant.automatic)
