"""The address machine: who owns each proxy address of a tenant (R18)."""

from __future__ import annotations

from typing import Any

from engine.documents.results import result
from engine.domain.effects import Effects
from engine.domain.events import Delivered
from engine.domain.limits import DEFAULT_LIMITS, Limits
from engine.domain.messages import limit_exceeded
from engine.machines.address_messages import UnsentVerdicts
from engine.state.address_claims import SharedAddress
from engine.state.address_message_codecs import AddressClaim, decode_claims, reads_batches
from engine.state.row_codecs import (
    ADDRESS_CLAIMS,
    CLAIMS,
    OWNER_CHANGES,
    AddressClaimRow,
    decode_address_claims,
    decode_claim,
    encode_claim,
)


class AddressMachine:
    """Claims in, verdicts out. The first claim of an address owns it.

    Given addresses are ordered by since, so that the outcome does not depend on which partition was
    faster. Where a derived one is involved the first to arrive stays the owner: it may be published
    with the address already, and two users must not be (R18). A message's ``claim`` is the user's
    own number for it, echoed as ``answers``; 0 releases.

    When the owner changes, the former and the new one get a verdict immediately, the others in
    slices by :meth:`notify`, so that n releases do not make n² messages. ``claims``: by
    tenant/address; an address of one user, as nearly all are, has no object around its claim.
    """

    def __init__(
        self,
        effects: Effects,
        limits: Limits = DEFAULT_LIMITS,
        batch_readers: set[int] | None = None,
    ) -> None:
        self.effects = effects
        self.limits = limits
        self.batch_readers = batch_readers if batch_readers is not None else set()
        self.unsent = UnsentVerdicts(effects, self.batch_readers)
        self.claims: dict[str, AddressClaimRow | SharedAddress] = {}
        self._owner_changes: dict[str, tuple[int, str]] = {}  # when and why the owner changed last
        self._in_one_row: set[str] = set()  # by an earlier build

    def load(self, table: str, key: str, row: Any) -> None:
        """Takes one restored row of ``claims``, ``owner-changes`` or, of old, ``addresses``."""
        if table == CLAIMS:
            tenant, user, address = key.split("/", 2)
            self._restore(f"{tenant}/{address}", *decode_claim(user, row))
        elif table == OWNER_CHANGES:
            self._owner_changes[key] = (row[0], row[1])
        else:
            self._in_one_row.add(key)
            for n, claim in enumerate(decode_address_claims(row)):
                self._restore(key, claim, n == 0)

    def _restore(self, key: str, claim: AddressClaimRow, owns: bool) -> None:
        known = self.claims.get(key)
        if known is None:
            self.claims[key] = claim
        else:
            if not isinstance(known, SharedAddress):
                known = self.claims[key] = SharedAddress(known)
            known.restore(claim, owns)

    def start(self) -> None:
        """Notifies all claimants again of changes of owner that did not reach everybody."""
        for key in list(self._owner_changes):
            shared = self.claims.get(key)
            if isinstance(shared, SharedAddress):
                shared.unnotified = len(shared.others)
            else:
                self._all_notified(key)

    def handle(self, batch: list[Delivered]) -> None:
        """Applies a batch of claims and releases."""
        for message, _, _, _ in batch:
            claims = decode_claims(message)
            if reads_batches(message):
                self.batch_readers.add(message["partition"])
            for claim in claims:
                key = f"{claim.tenant}/{claim.address}"
                if key in self._in_one_row:
                    self._split_row(key)
                self._claim(key, claim) if claim.claim else self._release(key, claim)
        self.unsent.send()

    def _split_row(self, key: str) -> None:
        self._in_one_row.discard(key)
        self.effects.rows[ADDRESS_CLAIMS, key] = None
        known = self.claims[key]
        for each in known.users.values() if isinstance(known, SharedAddress) else (known,):
            self._write(key, each)

    def _claim(self, key: str, message: AddressClaim) -> None:
        claim = AddressClaimRow(
            message.since_ms, message.offset, message.user, message.partition, message.derived
        )
        known = self.claims.get(key)
        if known is None:  # as nearly always
            self.claims[key] = claim
            self._write_row(message.tenant, message.address, claim, True)
            self._answer(message, claim.user, claim.partition, claim.user, message.claim)
            return
        if not isinstance(known, SharedAddress) and known.user == claim.user:
            if claim.derived:
                self.claims[key] = known._replace(derived=True)
        else:
            if not isinstance(known, SharedAddress):
                known = self.claims[key] = SharedAddress(known)
            self._share(key, known, claim, message)
        self._write(key, self._claim_of(key, claim.user))
        self._notify(message, claim.user, claim.partition, message.claim)

    def _share(
        self, key: str, shared: SharedAddress, claim: AddressClaimRow, message: AddressClaim
    ) -> None:
        owner = shared.owner
        mine = shared.users.get(claim.user)
        if mine is not None:
            if claim.derived:
                shared.replace(mine._replace(derived=True))
            return
        shared.add(claim)
        if len(shared.users) > self.limits.address_claims:
            self._reject(key, shared.remove_last(), message)
            if not shared.others:
                self.claims[key] = shared.owner
        if shared.owner is not owner:
            self._owner_changed(key, shared, message)
            if owner.user in shared.users:
                self._write(key, owner)
            self._notify(message, owner.user, owner.partition)

    def _release(self, key: str, message: AddressClaim) -> None:
        known = self.claims.get(key)
        if isinstance(known, SharedAddress):
            owner = known.owner
            if known.remove(message.user) is None:
                return
            if known.owner is not owner:
                self._write(key, known.owner)
                self._owner_changed(key, known, message)
                self._notify(message, known.owner.user, known.owner.partition)
            if not known.others:
                self.claims[key] = known.owner
                self._all_notified(key)
        elif known is not None and known.user == message.user:
            del self.claims[key]
        else:
            return
        self._write(key, None, message.user)

    def _reject(self, key: str, claim: AddressClaimRow, message: AddressClaim) -> None:
        """Gives up the claim that is last in line: its user stays a duplicate.

        A derived claim has no result, since its event may be a command, which has one of its own;
        the user's states name the violation (R7.4).
        """
        tenant, user, number = message.tenant, claim.user, self.limits.address_claims
        if not claim.derived:
            why = limit_exceeded("claims of the address " + message.address, number, number + 1)
            value = result(message.caused_by, {"tenant": tenant, "user": user}, "rejected", why)
            self.effects.emit("results", f"{tenant}/{user}", value, claim.partition)
        if user != message.user:
            self._write(key, None, user)

    # -- verdicts
    def _owner_changed(self, key: str, shared: SharedAddress, message: AddressClaim) -> None:
        shared.unnotified = len(shared.others)
        if shared.unnotified:
            self._owner_changes[key] = message.timestamp_ms, message.caused_by
            self.effects.rows[OWNER_CHANGES, key] = [message.timestamp_ms, message.caused_by]

    @property
    def has_unnotified(self) -> bool:
        """True while claimants are to be notified of the owner of their address."""
        return bool(self._owner_changes)

    def notify(self, limit: int) -> None:
        """Notifies up to ``limit`` claimants of the owner of their address, address by address."""
        for key, changed in list(self._owner_changes.items()):
            shared = self.claims.get(key)
            if isinstance(shared, SharedAddress):
                tenant, address = key.split("/", 1)
                message = AddressClaim(tenant, address, "", 0, 0, 0, 0, *changed, False)
                notified = shared.next_unnotified(limit)
                for claim in notified:
                    self._notify(message, claim.user, claim.partition)
                limit -= len(notified)
                if shared.unnotified:
                    break
            self._all_notified(key)
        self.unsent.send()

    def _all_notified(self, key: str) -> None:
        if key in self._owner_changes:
            del self._owner_changes[key]
            self.effects.rows[OWNER_CHANGES, key] = None

    def _notify(self, message: AddressClaim, user: str, partition: int, answers: int = 0) -> None:
        known = self.claims[f"{message.tenant}/{message.address}"]
        owner = known.owner.user if isinstance(known, SharedAddress) else known.user
        self._answer(message, user, partition, owner, answers)

    def _answer(
        self, message: AddressClaim, user: str, partition: int, owner: str, answers: int
    ) -> None:
        entry = (message.address, user, owner, answers, message.timestamp_ms, message.caused_by)
        self.unsent.add(message.tenant, partition, entry)

    # -- rows
    def _claim_of(self, key: str, user: str) -> AddressClaimRow | None:
        known = self.claims[key]
        return known.users.get(user) if isinstance(known, SharedAddress) else known

    def _write(self, key: str, claim: AddressClaimRow | None, user: str = "") -> None:
        tenant, address = key.split("/", 1)
        if claim is None:
            if user:
                self.effects.rows[CLAIMS, f"{tenant}/{user}/{address}"] = None
            return
        known = self.claims[key]
        owns = claim is (known.owner if isinstance(known, SharedAddress) else known)
        self._write_row(tenant, address, claim, owns)

    def _write_row(self, tenant: str, address: str, claim: AddressClaimRow, owns: bool) -> None:
        row = encode_claim(claim, owns)
        self.effects.rows[CLAIMS, f"{tenant}/{claim.user}/{address}"] = row
