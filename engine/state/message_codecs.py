"""The messages that partitions send each other: members of each internal topic.

A message is a JSON object. Its member names, written out in the encoders here, are on the wire
between workers of two releases during a rolling upgrade: they may not change without a new format
(see :mod:`engine.state.formats`). Decoders ignore members that they do not know.
``docs/formats.md`` is generated from the tables of names here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from engine.state import formats
from engine.state.formats import FIRST_FORMAT, MESSAGE_FORMAT
from engine.state.row_codecs import append_optional

Message = dict[str, Any]

CONFIGURATION: Final = "internal.configuration"
SEAT_REQUESTS: Final = "internal.seat-requests"
SEAT_GRANTS: Final = "internal.seat-grants"
GROUP_REPORTS: Final = "internal.group-reports"
ADDRESS_CLAIMS: Final = "internal.address-claims"
ADDRESS_VERDICTS: Final = "internal.address-verdicts"


class ConfigurationMessage(NamedTuple):
    """``internal.configuration``: a product, a tenant or a group as every partition knows it.

    ``kind``: product, tenant or group; ``row``: the row of that table (see
    :mod:`engine.state.row_codecs`). ``tenant`` is empty for products, ``group`` for all but groups.
    The row's optional facts are a member ``facts`` of their own on the wire, since workers of
    release 0.1 read rows without them alone.
    """

    kind: str
    tenant: str
    group: str
    row: list[Any]
    timestamp_ms: int
    caused_by: str


class SeatRequestMessage(NamedTuple):
    """``internal.seat-requests``: absolute figures of one partition, for the product's owner.

    ``off``: the product is off (R15), as far as the partition knows; left out if false.
    """

    tenant: str
    sku: str
    partition: int
    request_seq: int
    granted: int
    returned: int
    used: int
    waiting: int
    demand: int
    requested_seq: int
    longest_waiting: list[tuple[int, str]]
    recall: int
    needs_prefetch: bool
    timestamp_ms: int
    caused_by: str
    off: bool = False
    adopted: int = 0


class SeatGrantMessage(NamedTuple):
    """``internal.seat-grants``: what the product's owner has granted to one partition.

    ``off``: the product is off (R15); left out if false.
    """

    tenant: str
    sku: str
    granted: int
    answered_seq: int
    denied_seq: int
    grant_seq: int
    contended: bool
    recall: int
    free_units: int
    purchased: int
    consumed: int
    timestamp_ms: int
    caused_by: str
    off: bool = False


class GroupReportMessage(NamedTuple):
    """``internal.group-reports``: absolute figures of one partition, for the group's owner."""

    tenant: str
    group: str
    partition: int
    version: int
    members: int
    licensed: int
    with_errors: int
    errors: dict[str, int]
    timestamp_ms: int


class AddressClaimMessage(NamedTuple):
    """``internal.address-claims``: a user's claim of a proxy address (R18).

    ``claim``: the user's own number for it; 0 releases the address. ``derived``: the address was
    computed, not given (R19); ``batches``: the sender reads format 2. Both are left out if false,
    and earlier workers ignore them.
    """

    tenant: str
    address: str
    user: str
    partition: int
    claim: int
    since_ms: int
    offset: int
    timestamp_ms: int
    caused_by: str
    derived: bool = False
    batches: bool = False


class AddressVerdictMessage(NamedTuple):
    """``internal.address-verdicts``: who owns the address. ``answers``: the number of the claim.

    ``batches``: the sender reads format 2; left out if false, and earlier workers ignore it.
    """

    tenant: str
    address: str
    user: str
    owner: str
    answers: int
    timestamp_ms: int
    caused_by: str
    batches: bool = False


# The members on the wire, in the order of the fields above.
MEMBERS: Final[dict[str, tuple[str, ...]]] = {
    CONFIGURATION: ("kind", "tenant", "group", "row", "at", "causedBy"),
    SEAT_REQUESTS: (
        "tenant", "skuId", "partition", "seq", "granted", "returned", "used", "waiting", "want",
        "asked", "heads", "recall", "low", "at", "causedBy", "off", "adopted",
    ),
    SEAT_GRANTS: (
        "tenant", "skuId", "granted", "answered", "denied", "news", "scarce", "recall", "room",
        "purchased", "consumed", "at", "causedBy", "off",
    ),
    GROUP_REPORTS: (
        "tenant", "group", "partition", "version", "members", "licensed", "withErrors", "errors",
        "at",
    ),
    ADDRESS_CLAIMS: (
        "tenant", "address", "user", "partition", "claim", "since", "offset", "at", "causedBy",
        "derived", "batches",
    ),
    ADDRESS_VERDICTS: (
        "tenant", "address", "user", "owner", "answers", "at", "causedBy", "batches",
    ),
}  # fmt: skip


def _encode(topic: str, message: tuple[Any, ...]) -> Message:
    encoded = dict(zip(MEMBERS[topic], message, strict=True))
    encoded["format"] = FIRST_FORMAT  # that of this layout: earlier releases read it, too
    return encoded


def _without_default(encoded: Message, name: str) -> Message:
    """Leaves out an optional member that says nothing; earlier releases do not know it."""
    if not encoded[name]:
        del encoded[name]
    return encoded


# The decoders pass the members by position, in the order of the fields: by name it takes twice as
# long, and group reports and grants are on the hot path.


def checked(message: Message, topic: str) -> Message:
    """Returns the message. Raises NewerFormatError if a later release has written it."""
    found = message.get("format", FIRST_FORMAT)
    if found > MESSAGE_FORMAT:
        formats.check_message_format(found, topic)
    return message


def encode_configuration(message: ConfigurationMessage) -> Message:
    """Returns a message of ``internal.configuration``, without ``tenant``, ``group`` if empty."""
    encoded = _encode(CONFIGURATION, message)
    for name in ("tenant", "group"):
        if not encoded[name]:
            del encoded[name]
    *fields, last = message.row
    if isinstance(last, Mapping):
        encoded |= {"row": fields, "facts": last}
    return encoded


def decode_configuration(message: Message) -> ConfigurationMessage:
    """Returns the members of ``internal.configuration``. Raises NewerFormatError."""
    m = checked(message, CONFIGURATION)
    return ConfigurationMessage(
        m["kind"],
        m.get("tenant", ""),
        m.get("group", ""),
        append_optional(m["row"], m.get("facts")),
        m["at"],
        m["causedBy"],
    )


def encode_seat_request(message: SeatRequestMessage) -> Message:
    """Returns a message of ``internal.seat-requests``."""
    encoded = _without_default(_encode(SEAT_REQUESTS, message), "off")
    return _without_default(encoded, "adopted")


def decode_seat_request(message: Message) -> SeatRequestMessage:
    """Returns the members of ``internal.seat-requests``. Raises NewerFormatError."""
    m = checked(message, SEAT_REQUESTS)
    return SeatRequestMessage(
        m["tenant"],
        m["skuId"],
        m["partition"],
        m["seq"],
        m["granted"],
        m["returned"],
        m["used"],
        m["waiting"],
        m["want"],
        m["asked"],
        [(since, user) for since, user in m["heads"]],
        m["recall"],
        m.get("low", False),
        m["at"],
        m["causedBy"],
        m.get("off", False),
        m.get("adopted", 0),
    )


def encode_seat_grant(message: SeatGrantMessage) -> Message:
    """Returns a message of ``internal.seat-grants``."""
    return _without_default(_encode(SEAT_GRANTS, message), "off")


def decode_seat_grant(message: Message) -> SeatGrantMessage:
    """Returns the members of ``internal.seat-grants``. Raises NewerFormatError."""
    m = checked(message, SEAT_GRANTS)
    return SeatGrantMessage(
        m["tenant"],
        m["skuId"],
        m["granted"],
        m["answered"],
        m["denied"],
        m["news"],
        m["scarce"],
        m["recall"],
        m["room"],
        m["purchased"],
        m["consumed"],
        m["at"],
        m["causedBy"],
        m.get("off", False),
    )


def encode_group_report(message: GroupReportMessage) -> Message:
    """Returns a message of ``internal.group-reports``."""
    return _encode(GROUP_REPORTS, message)


def decode_group_report(message: Message) -> GroupReportMessage:
    """Returns the members of ``internal.group-reports``. Raises NewerFormatError."""
    m = checked(message, GROUP_REPORTS)
    return GroupReportMessage(
        m["tenant"],
        m["group"],
        m["partition"],
        m["version"],
        m["members"],
        m["licensed"],
        m["withErrors"],
        m["errors"],
        m["at"],
    )


def encode_address_claim(message: AddressClaimMessage) -> Message:
    """Returns a message of ``internal.address-claims``."""
    encoded = _without_default(_encode(ADDRESS_CLAIMS, message), "derived")
    return _without_default(encoded, "batches")


def decode_address_claim(message: Message) -> AddressClaimMessage:
    """Returns the members of ``internal.address-claims``. Raises NewerFormatError."""
    m = checked(message, ADDRESS_CLAIMS)
    return AddressClaimMessage(
        m["tenant"],
        m["address"],
        m["user"],
        m["partition"],
        m["claim"],
        m["since"],
        m["offset"],
        m["at"],
        m["causedBy"],
        m.get("derived", False),
        m.get("batches", False),
    )


def encode_address_verdict(message: AddressVerdictMessage) -> Message:
    """Returns a message of ``internal.address-verdicts``."""
    return _without_default(_encode(ADDRESS_VERDICTS, message), "batches")


def decode_address_verdict(message: Message) -> AddressVerdictMessage:
    """Returns the members of ``internal.address-verdicts``. Raises NewerFormatError."""
    m = checked(message, ADDRESS_VERDICTS)
    return AddressVerdictMessage(
        m["tenant"],
        m["address"],
        m["user"],
        m["owner"],
        m["answers"],
        m["at"],
        m["causedBy"],
        m.get("batches", False),
    )
