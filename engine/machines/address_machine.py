"""The address machine: who owns each proxy address of a tenant (R18)."""

from __future__ import annotations

from typing import Any

from engine.domain.effects import Effects
from engine.domain.events import Delivered
from engine.state.row_codecs import (
    ADDRESS_CLAIMS,
    AddressClaimRow,
    decode_address_claims,
    encode_address_claims,
)


def normal(address: str) -> str:
    """What is compared: no regard to case; an address without a type is SMTP."""
    lowered = address.lower()
    return lowered if ":" in lowered else f"smtp:{lowered}"


class AddressMachine:
    """Claims in, verdicts out. The first claim of an address owns it.

    Ordered by since, so that the outcome does not depend on which partition was faster. A message's
    ``claim`` is the user's own number for it, echoed as ``answers``; 0 releases.
    """

    def __init__(self, effects: Effects) -> None:
        self.effects = effects
        self.claims: dict[str, list[AddressClaimRow]] = {}

    def load(self, key: str, row: list[list[Any]]) -> None:
        self.claims[key] = decode_address_claims(row)

    def handle(self, batch: list[Delivered]) -> None:
        for message, _, _, _ in batch:
            assert isinstance(message, dict)
            self._claim(message) if message["claim"] else self._release(message)

    def _claim(self, message: dict[str, Any]) -> None:
        key = f"{message['tenant']}/{message['address']}"
        claims = self.claims.setdefault(key, [])
        owner = claims[0].user if claims else None
        if all(claim.user != message["user"] for claim in claims):
            claims.append(
                AddressClaimRow(
                    message["since"], message["offset"], message["user"], message["partition"]
                )
            )
            claims.sort()
        self._keep(key, message, owner)

    def _release(self, message: dict[str, Any]) -> None:
        key = f"{message['tenant']}/{message['address']}"
        claims = self.claims.get(key, [])
        owner = claims[0].user if claims else None
        self.claims[key] = [claim for claim in claims if claim.user != message["user"]]
        self._keep(key, message, owner)

    def _keep(self, key: str, message: dict[str, Any], owner: str | None) -> None:
        """Answers the claimant; tells the others only when the owner is another than before."""
        claims = self.claims[key]
        if not claims:
            del self.claims[key]
            self.effects.rows[ADDRESS_CLAIMS, key] = None
            return
        self.effects.rows[ADDRESS_CLAIMS, key] = encode_address_claims(claims)
        now = claims[0].user
        for _, _, user, partition in claims:
            answers = message["claim"] if user == message["user"] else 0
            if answers or now != owner:
                verdict = {
                    "tenant": message["tenant"],
                    "address": message["address"],
                    "user": user,
                    "owner": now,
                    "answers": answers,
                    "at": message["at"],
                    "causedBy": message["causedBy"],
                }
                self.effects.emit(
                    "internal.address-verdicts", f"{message['tenant']}/{user}", verdict, partition
                )
