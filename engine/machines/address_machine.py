"""The address machine: who owns each proxy address of a tenant (R18)."""

from __future__ import annotations

from typing import Any

from engine.domain.effects import Effects
from engine.domain.events import Delivered
from engine.state.message_codecs import (
    ADDRESS_VERDICTS,
    AddressClaimMessage,
    AddressVerdictMessage,
    decode_address_claim,
    encode_address_verdict,
)
from engine.state.row_codecs import (
    ADDRESS_CLAIMS,
    AddressClaimRow,
    decode_address_claims,
    encode_address_claims,
)


class AddressMachine:
    """Claims in, verdicts out. The first claim of an address owns it.

    Given addresses are ordered by since, so that the outcome does not depend on which partition was
    faster. Where a derived one is involved the first to arrive stays the owner: it may be published
    with the address already, and two users must not be (R18). A message's ``claim`` is the user's
    own number for it, echoed as ``answers``; 0 releases.
    """

    def __init__(self, effects: Effects) -> None:
        self.effects = effects
        self.claims: dict[str, list[AddressClaimRow]] = {}

    def load(self, key: str, row: list[list[Any]]) -> None:
        """Takes one restored row of ``address-claims``."""
        self.claims[key] = decode_address_claims(row)

    def handle(self, batch: list[Delivered]) -> None:
        """Applies a batch of claims and releases."""
        for message, _, _, _ in batch:
            claim = decode_address_claim(message)
            self._claim(claim) if claim.claim else self._release(claim)

    def _claim(self, claim: AddressClaimMessage) -> None:
        key = f"{claim.tenant}/{claim.address}"
        claims = self.claims.setdefault(key, [])
        owner = claims[0].user if claims else None
        known = next((i for i, each in enumerate(claims) if each.user == claim.user), None)
        if known is None:
            new = AddressClaimRow(
                claim.since_ms, claim.offset, claim.user, claim.partition, claim.derived
            )
            _insert(claims, new)
        elif claim.derived:
            claims[known] = claims[known]._replace(derived=True)
        self._keep(key, claim, owner)

    def _release(self, claim: AddressClaimMessage) -> None:
        key = f"{claim.tenant}/{claim.address}"
        claims = self.claims.get(key, [])
        owner = claims[0].user if claims else None
        self.claims[key] = [known for known in claims if known.user != claim.user]
        self._keep(key, claim, owner)

    def _keep(self, key: str, claim: AddressClaimMessage, owner: str | None) -> None:
        """Answers the claimant, and the other claimants only if the owner has changed."""
        claims = self.claims[key]
        if not claims:
            del self.claims[key]
            self.effects.rows[ADDRESS_CLAIMS, key] = None
            return
        self.effects.rows[ADDRESS_CLAIMS, key] = encode_address_claims(claims)
        now = claims[0].user
        for _, _, user, partition, _ in claims:
            answers = claim.claim if user == claim.user else 0
            if answers or now != owner:
                verdict = AddressVerdictMessage(
                    tenant=claim.tenant,
                    address=claim.address,
                    user=user,
                    owner=now,
                    answers=answers,
                    timestamp_ms=claim.timestamp_ms,
                    caused_by=claim.caused_by,
                )
                self.effects.emit(
                    ADDRESS_VERDICTS,
                    f"{claim.tenant}/{user}",
                    encode_address_verdict(verdict),
                    partition,
                )


def _insert(claims: list[AddressClaimRow], new: AddressClaimRow) -> None:
    """Adds a claim at its place; an owner gives way only if both addresses are given."""
    if not claims:
        claims.append(new)
        return
    owner, *others = claims
    if new < owner and not (new.derived or owner.derived):
        owner, new = new, owner
    claims[:] = [owner, *sorted([*others, new])]
