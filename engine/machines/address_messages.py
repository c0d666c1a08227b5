"""Sends the address messages of a slice together: one for each tenant and partition (R18).

A partition that is not known to read messages of many entries gets one message for each entry (see
:mod:`engine.state.address_message_codecs`). ``batch_readers``: the partitions that do. The order of
the entries for a partition is kept.
"""

from __future__ import annotations

from typing import Final

from engine.domain.effects import Effects
from engine.state.address_message_codecs import (
    ClaimEntry,
    VerdictEntry,
    encode_claims,
    encode_single_claim,
    encode_single_verdict,
    encode_verdicts,
)
from engine.state.message_codecs import ADDRESS_CLAIMS, ADDRESS_VERDICTS

MAX_ENTRIES: Final = 200
"""Entries of one message: a record stays below 1 MiB whatever the length of its texts."""

Receiver = tuple[str, int]
"""Tenant and partition."""


class UnsentClaims:
    """Claims of addresses and releases, of the users of partition ``number``."""

    def __init__(self, effects: Effects, number: int, batch_readers: set[int]) -> None:
        self.effects = effects
        self.number = number
        self.batch_readers = batch_readers
        self._unsent: dict[Receiver, list[ClaimEntry]] = {}

    def add(self, tenant: str, partition: int, entry: ClaimEntry) -> None:
        """Adds a claim for the partition that owns the address."""
        self._unsent.setdefault((tenant, partition), []).append(entry)

    def send(self) -> None:
        """Emits what was added; to be called before the effects are committed."""
        if not self._unsent:
            return
        everything, self._unsent = self._unsent, {}
        emit = self.effects.emit
        for (tenant, partition), entries in everything.items():
            if partition in self.batch_readers:
                for at in range(0, len(entries), MAX_ENTRIES):
                    value = encode_claims(tenant, self.number, entries[at : at + MAX_ENTRIES])
                    emit(ADDRESS_CLAIMS, tenant, value, partition)
            else:
                for entry in entries:
                    value = encode_single_claim(tenant, self.number, entry)
                    emit(ADDRESS_CLAIMS, f"{tenant}/{entry[0]}", value, partition)


class UnsentVerdicts:
    """Verdicts of the address machine."""

    def __init__(self, effects: Effects, batch_readers: set[int]) -> None:
        self.effects = effects
        self.batch_readers = batch_readers
        self._unsent: dict[Receiver, list[VerdictEntry]] = {}

    def add(self, tenant: str, partition: int, entry: VerdictEntry) -> None:
        """Adds a verdict for the partition of the user."""
        self._unsent.setdefault((tenant, partition), []).append(entry)

    def send(self) -> None:
        """Emits what was added; to be called before the effects are committed."""
        if not self._unsent:
            return
        everything, self._unsent = self._unsent, {}
        emit = self.effects.emit
        for (tenant, partition), entries in everything.items():
            if partition in self.batch_readers:
                for at in range(0, len(entries), MAX_ENTRIES):
                    value = encode_verdicts(tenant, entries[at : at + MAX_ENTRIES])
                    emit(ADDRESS_VERDICTS, tenant, value, partition)
            else:
                for entry in entries:
                    value = encode_single_verdict(tenant, entry)
                    emit(ADDRESS_VERDICTS, f"{tenant}/{entry[1]}", value, partition)
