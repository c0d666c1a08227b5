"""The partition's side of R18: claims for the proxy addresses of its users, and their verdicts."""

from __future__ import annotations

from engine.domain.effects import Effects
from engine.domain.proxy_address import normalize_proxy_address
from engine.state.configuration import Configuration
from engine.state.message_codecs import (
    ADDRESS_CLAIMS,
    AddressClaimMessage,
    AddressVerdictMessage,
    encode_address_claim,
)
from engine.state.tenant_state import User


class AddressClaims:
    """A new address is claimed, and the user is not evaluated before the verdict is here."""

    def __init__(self, configuration: Configuration, effects: Effects) -> None:
        self.configuration = configuration
        self.effects = effects

    def change(
        self,
        user: User,
        old: tuple[str, ...],
        timestamp_ms: int,
        offset: int,
        caused_by: str,
        gone: bool = False,
    ) -> None:
        """Claims what is new in the user's addresses and releases what is no longer there."""
        before = set(map(normalize_proxy_address, old))
        after = set() if gone else set(map(normalize_proxy_address, user.addresses))
        for address in sorted(before - after):
            self._send(user, address, 0, timestamp_ms, offset, caused_by)
            if user.pending_work is not None:
                user.pending_work.pending_claims.pop(address, None)
                user.pending_work.duplicates.pop(address, None)
        for address in sorted(after - before):
            pending = user.ensure_pending_work()
            pending.last_claim += 1
            pending.pending_claims[address] = pending.last_claim
            self._send(user, address, pending.last_claim, timestamp_ms, offset, caused_by)

    def _send(
        self, user: User, address: str, claim: int, timestamp_ms: int, offset: int, caused_by: str
    ) -> None:
        key = f"{user.tenant.id}/{address}"
        message = AddressClaimMessage(
            tenant=user.tenant.id,
            address=address,
            user=user.id,
            partition=self.configuration.number,
            claim=claim,
            since_ms=timestamp_ms,
            offset=offset,
            timestamp_ms=timestamp_ms,
            caused_by=caused_by,
        )
        self.effects.emit(
            ADDRESS_CLAIMS, key, encode_address_claim(message), self.configuration.partition_of(key)
        )

    @staticmethod
    def verdict(user: User, verdict: AddressVerdictMessage) -> bool:
        """Takes a verdict; True if the user is to be evaluated now."""
        address, answers = verdict.address, verdict.answers
        if not user.known or address not in map(normalize_proxy_address, user.addresses):
            return False
        pending = user.ensure_pending_work()
        if address in pending.pending_claims and answers != pending.pending_claims[address]:
            return False  # older than the claim under way
        pending.pending_claims.pop(address, None)
        before = dict(pending.duplicates)
        if verdict.owner == user.id:
            pending.duplicates.pop(address, None)
        else:
            pending.duplicates[address] = verdict.owner
        if pending.pending_claims:
            return False
        return pending.evaluation is not None or before != pending.duplicates
