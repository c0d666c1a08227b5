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
        self, user: User, old: tuple[str, ...], at: int, offset: int, cause: str, gone: bool = False
    ) -> None:
        """Claims what is new in the user's addresses and releases what is no longer there."""
        before = set(map(normalize_proxy_address, old))
        after = set() if gone else set(map(normalize_proxy_address, user.addresses))
        for address in sorted(before - after):
            self._send(user, address, 0, at, offset, cause)
            if user.more is not None:
                user.more.pending.pop(address, None)
                user.more.duplicates.pop(address, None)
        for address in sorted(after - before):
            more = user.extra()
            more.claims += 1
            more.pending[address] = more.claims
            self._send(user, address, more.claims, at, offset, cause)

    def _send(self, user: User, address: str, claim: int, at: int, offset: int, cause: str) -> None:
        key = f"{user.tenant.id}/{address}"
        message = AddressClaimMessage(
            tenant=user.tenant.id,
            address=address,
            user=user.id,
            partition=self.configuration.number,
            claim=claim,
            since_ms=at,
            offset=offset,
            timestamp_ms=at,
            caused_by=cause,
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
        more = user.extra()
        if address in more.pending and answers != more.pending[address]:
            return False  # older than the claim under way
        more.pending.pop(address, None)
        before = dict(more.duplicates)
        if verdict.owner == user.id:
            more.duplicates.pop(address, None)
        else:
            more.duplicates[address] = verdict.owner
        if more.pending:
            return False
        return more.due is not None or before != more.duplicates
