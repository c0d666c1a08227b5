"""Messages with many claims of addresses, or many verdicts: all that a slice has for one partition.

They are of format 2. A message of format 1 has one claim or one verdict, as members of its own
(:mod:`engine.state.message_codecs`). Those are read, and written to partitions that are not known
to read the others: during a rolling upgrade a worker of an earlier release may have them. The
member ``batches`` of a message of format 1 says that its sender reads format 2. A partition that
has read it once always will: a worker of an earlier release refuses its rows.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from engine.state.message_codecs import (
    ADDRESS_CLAIMS,
    ADDRESS_VERDICTS,
    AddressClaimMessage,
    AddressVerdictMessage,
    Message,
    checked,
    decode_address_claim,
    decode_address_verdict,
    encode_address_claim,
    encode_address_verdict,
)

BATCH_FORMAT: Final = 2
CLAIMS: Final = "claims"
VERDICTS: Final = "verdicts"

ClaimEntry = tuple[str, str, int, int, int, str, bool]
VerdictEntry = tuple[str, str, str, int, int, str]


class ClaimEntryFields(NamedTuple):
    """The message has ``tenant`` and ``partition`` of all, ``at`` of the first, and ``claims``.

    The time of a claim is its since.
    """

    address: str
    user: str
    claim: int
    timestamp_ms: int
    offset: int
    caused_by: str
    derived: bool


class VerdictEntryFields(NamedTuple):
    """The message has ``tenant`` of all, ``at`` of the first, and ``verdicts``."""

    address: str
    user: str
    owner: str
    answers: int
    timestamp_ms: int
    caused_by: str


class AddressClaim:
    """A claim of an address, or its release, of a message of either format."""

    __slots__ = (
        "address", "caused_by", "claim", "derived", "offset", "partition", "since_ms", "tenant",
        "timestamp_ms", "user",
    )  # fmt: skip

    def __init__(
        self,
        tenant: str,
        address: str,
        user: str,
        partition: int,
        claim: int,
        since_ms: int,
        offset: int,
        timestamp_ms: int,
        caused_by: str,
        derived: bool,
    ) -> None:
        self.tenant = tenant
        self.address = address
        self.user = user
        self.partition = partition
        self.claim = claim
        self.since_ms = since_ms
        self.offset = offset
        self.timestamp_ms = timestamp_ms
        self.caused_by = caused_by
        self.derived = derived


class AddressVerdict:
    """A verdict of a message of either format."""

    __slots__ = ("address", "answers", "caused_by", "owner", "tenant", "timestamp_ms", "user")

    def __init__(
        self,
        tenant: str,
        address: str,
        user: str,
        owner: str,
        answers: int,
        timestamp_ms: int,
        caused_by: str,
    ) -> None:
        self.tenant = tenant
        self.address = address
        self.user = user
        self.owner = owner
        self.answers = answers
        self.timestamp_ms = timestamp_ms
        self.caused_by = caused_by


# -- claims
def encode_claims(tenant: str, partition: int, entries: list[ClaimEntry]) -> Message:
    """Returns a message with claims and releases of a partition's users."""
    at = entries[0][3]
    return {
        "tenant": tenant,
        "partition": partition,
        "at": at,
        CLAIMS: entries,
        "format": BATCH_FORMAT,
    }


def encode_single_claim(tenant: str, partition: int, entry: ClaimEntry) -> Message:
    """Returns a message of format 1."""
    address, user, claim, at, offset, cause, derived = entry
    return encode_address_claim(
        AddressClaimMessage(
            tenant, address, user, partition, claim, at, offset, at, cause, derived, True
        )
    )


def decode_claims(message: Message) -> list[AddressClaim]:
    """Returns the claims and releases of a message of either format. Raises NewerFormatError."""
    if CLAIMS not in message:
        return [AddressClaim(*decode_address_claim(message)[:-1])]
    checked(message, ADDRESS_CLAIMS)
    tenant: str = message["tenant"]
    partition: int = message["partition"]
    entries: list[Any] = message[CLAIMS]
    found = []
    for address, user, claim, at, offset, cause, derived in entries:
        found.append(
            AddressClaim(tenant, address, user, partition, claim, at, offset, at, cause, derived)
        )
    return found


# -- verdicts
def encode_verdicts(tenant: str, entries: list[VerdictEntry]) -> Message:
    """Returns a message with verdicts for one partition's users."""
    return {"tenant": tenant, "at": entries[0][4], VERDICTS: entries, "format": BATCH_FORMAT}


def encode_single_verdict(tenant: str, entry: VerdictEntry) -> Message:
    """Returns a message of format 1."""
    address, user, owner, answers, at, cause = entry
    return encode_address_verdict(
        AddressVerdictMessage(tenant, address, user, owner, answers, at, cause, True)
    )


def decode_verdicts(message: Message) -> list[AddressVerdict]:
    """Returns the verdicts of a message of either format. Raises NewerFormatError."""
    if VERDICTS not in message:
        return [AddressVerdict(*decode_address_verdict(message)[:-1])]
    checked(message, ADDRESS_VERDICTS)
    tenant: str = message["tenant"]
    entries: list[Any] = message[VERDICTS]
    found = []
    for address, user, owner, answers, at, cause in entries:
        found.append(AddressVerdict(tenant, address, user, owner, answers, at, cause))
    return found


def reads_batches(message: Message) -> bool:
    """Returns True if the sender of the message reads those of format 2."""
    return "batches" in message or message.get("format") == BATCH_FORMAT
