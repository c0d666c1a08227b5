"""The partition's side of R18: claims for the proxy addresses of its users, and their verdicts."""

from __future__ import annotations

from engine.domain.effects import Effects
from engine.machines.address_messages import UnsentClaims
from engine.machines.unit_of_work import Cause
from engine.state.address_message_codecs import AddressVerdict
from engine.state.configuration import Configuration
from engine.state.tenant_state import User
from engine.state.user_mail import derived_keys, given_keys, keep_published


class AddressClaims:
    """A new address is claimed, and the user is not evaluated before the verdict is here.

    Given addresses are claimed by the event that brings them, derived ones by the evaluation that
    needs them (R19). An address is released with the publication of the user without it, so that
    the next owner is not published with it before.
    """

    def __init__(self, configuration: Configuration, effects: Effects) -> None:
        self.configuration = configuration
        self.unsent = UnsentClaims(effects, configuration.number, configuration.batch_readers)

    # -- given addresses
    def change_given(self, user: User, before: set[str], offset: int, cause: Cause) -> None:
        """Claims what is new in the user's given addresses; ``before``: their keys until now."""
        after = given_keys(user)
        for address in sorted(before - after):
            pending = user.ensure_pending_work()
            pending.pending_claims.pop(address, None)
            pending.duplicates.pop(address, None)
            pending.ungiven += (address,)
        for address in sorted(after - before):
            pending = user.ensure_pending_work()
            pending.ungiven = tuple([known for known in pending.ungiven if known != address])
            if address in user.derived:
                user.derived = tuple([known for known in user.derived if known != address])
            self._claim(user, address, cause, offset, derived=False)

    def release_all(self, user: User, cause: Cause) -> None:
        """Releases every address of a user who is deleted (R22)."""
        released = {*given_keys(user), *user.derived}
        if user.pending_work is not None:
            released.update(user.pending_work.ungiven)
            user.pending_work.ungiven = ()
        for address in sorted(released):
            self._release(user, address, cause)
        user.derived = ()

    # -- derived addresses
    def claim_derived(self, user: User, mail_wanted: bool, cause: Cause) -> bool | None:
        """Claims the derived addresses that are not claimed yet.

        Those that are needed no more and that somebody else owns are released: nobody has seen
        them. Returns True if the user has to wait for verdicts, None if only that was done.
        """
        needed = derived_keys(user, mail_wanted)
        if needed == user.derived:
            return False
        changed = None if self._drop_duplicates(user, needed, cause) else False
        missing = [address for address in needed if address not in user.derived]
        for address in missing:
            pending = user.ensure_pending_work()
            pending.ungiven = tuple([known for known in pending.ungiven if known != address])
            user.derived += (address,)
            self._claim(user, address, cause, 0, derived=True)
        return True if missing else changed

    def _drop_duplicates(self, user: User, needed: tuple[str, ...], cause: Cause) -> bool:
        pending = user.pending_work
        if pending is None or not pending.duplicates:
            return False
        idle = [a for a in user.derived if a not in needed and a in pending.duplicates]
        for address in idle:
            del pending.duplicates[address]
            self._release(user, address, cause)
        user.derived = tuple([address for address in user.derived if address not in idle])
        return bool(idle)

    def release_unused(self, user: User, mail_wanted: bool, cause: Cause) -> None:
        """Releases what the user, as published now, neither has nor waits for."""
        pending = user.pending_work
        if pending is not None and pending.ungiven:
            for address in pending.ungiven:
                self._release(user, address, cause)
            pending.ungiven = ()
        if not user.derived:
            return
        needed = derived_keys(user, mail_wanted)
        if needed == user.derived:
            return
        for address in user.derived:
            if address not in needed:
                if pending is not None:
                    pending.duplicates.pop(address, None)
                    pending.pending_claims.pop(address, None)
                self._release(user, address, cause)
        user.derived = tuple([address for address in user.derived if address in needed])

    # -- messages
    def _claim(self, user: User, address: str, cause: Cause, offset: int, derived: bool) -> None:
        pending = user.ensure_pending_work()
        if not pending.last_claim:
            # Not 1 each time: at a limit (R23) an event is applied although a verdict is due, and
            # that verdict must not answer a later claim. It is another number after each event.
            pending.last_claim = int.from_bytes(user.seen_fingerprints[-4:], "big")
        pending.last_claim += 1
        pending.pending_claims[address] = pending.last_claim
        self._send(user, address, pending.last_claim, cause, offset, derived)

    def _release(self, user: User, address: str, cause: Cause) -> None:
        self._send(user, address, 0, cause, 0, derived=False)

    def _send(
        self, user: User, address: str, claim: int, cause: Cause, offset: int, derived: bool
    ) -> None:
        tenant = user.tenant.id
        self.unsent.add(
            tenant,
            self.configuration.address_partition(tenant, address),
            (address, user.id, claim, cause.timestamp_ms, offset, cause.event_id, derived),
        )

    @staticmethod
    def verdict(user: User, verdict: AddressVerdict) -> bool:
        """Takes a verdict; True if the user is to be evaluated now."""
        address = verdict.address
        pending = user.pending_work
        due = pending.pending_claims.get(address) if pending is not None else None
        if due is None:
            if not user.known or not (address in user.derived or address in given_keys(user)):
                return False
        elif verdict.answers != due:
            return False  # older than the claim under way
        pending = user.ensure_pending_work()
        pending.pending_claims.pop(address, None)
        owner = None if verdict.owner == user.id else verdict.owner
        changed = pending.duplicates.get(address) != owner
        if changed:
            keep_published(user)
            if owner is None:
                del pending.duplicates[address]
            else:
                pending.duplicates[address] = owner
        if pending.pending_claims:
            return False
        return changed or pending.evaluation is not None
