"""Seats for users: leases, attempts in flight, the waiting line (R8, R23)."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Any, Final

from engine.domain.effects import Effects
from engine.domain.vocabulary import COUNT
from engine.machines.user_evaluator import EvaluationResult, UserEvaluator
from engine.state.configuration import Configuration
from engine.state.message_codecs import SEAT_REQUESTS, SeatGrantMessage, encode_seat_request
from engine.state.row_codecs import LEASES
from engine.state.seat_lease import Lease, Place
from engine.state.tenant_state import SeatRequest, TenantState, User

Reserved = AbstractSet[str]
"""Products of which a unit was kept for the user while it was in flight."""
NOTHING_RESERVED: Final[frozenset[str]] = frozenset()
Conclude = Callable[[User, EvaluationResult, int, str, Reserved], None]


class SeatAllocator:
    """Brings the seats for what :class:`UserEvaluator` decided, then lets ``conclude`` apply it."""

    def __init__(
        self,
        configuration: Configuration,
        effects: Effects,
        evaluator: UserEvaluator,
        conclude: Conclude,
        changed: dict[User, None],
    ) -> None:
        self.configuration = configuration
        self.effects = effects
        self.evaluator = evaluator
        self.conclude = conclude
        self.changed = changed  # users whose rows are to be written
        self.flying: dict[User, None] = {}
        self.touched: dict[Lease, None] = {}
        self.untold: dict[Lease, None] = {}
        self.at = 0
        self.cause = ""

    # -- attempts
    @staticmethod
    def plenty(user: User, wanted: tuple[str, ...], rivals: int) -> bool:
        """Whether there are units for the user and as many others: then no order is to be kept."""
        for sku in wanted:
            lease = user.tenant.lease(sku)
            if lease.scarce or lease.idle <= rivals:
                return False
        return True

    def begin(
        self, user: User, decision: EvaluationResult, at: int, cause: str, denied: frozenset[str]
    ) -> None:
        """Takes the seats at once if all are at hand, else puts the user in flight."""
        if self.plenty(user, decision.required_seats, 0):
            self.conclude(user, decision, at, cause, NOTHING_RESERVED)
            return
        since = min((s for _, s in self.places(user)), default=at)
        self.leave_lines(user)
        attempt = user.extra().attempt = SeatRequest(since, at, cause)
        attempt.denied = denied
        self.flying[user] = None
        self.go_on(user, decision)

    def go_on(self, user: User, decided: EvaluationResult | None = None) -> None:
        """The next seat in skuId order, until all are had or denied.

        ``decided``: what follows with what is denied by now, from a caller who knows.
        """
        attempt = user.attempt
        assert attempt is not None
        attempt.asking = ""
        self.changed[user] = None
        decision = decided or self.evaluator.evaluate(user, attempt.denied)
        while sku := _missing(decision, attempt):
            lease = self.touch(user.tenant, sku)
            if lease.take():
                attempt.got.add(sku)
            elif user.tenant.settings.automatic and lease.closed(attempt.since, user.id):
                attempt.denied |= {sku}
                decision = self.evaluator.evaluate(user, attempt.denied)
            else:
                attempt.asking = sku
                attempt.asked = lease.ask(attempt.since, user.id)
                return
        self._end(user)
        self.conclude(user, decision, attempt.at, attempt.cause, attempt.got)

    def _end(self, user: User) -> None:
        assert user.more is not None
        user.more.attempt = None
        self.flying.pop(user, None)

    def abandon(self, user: User) -> SeatRequest:
        """R23: gives back what was reserved; the user is no longer in flight."""
        attempt = user.attempt
        assert attempt is not None
        if attempt.asking:
            self.touch(user.tenant, attempt.asking).withdraw(attempt.since, user.id)
        for sku in attempt.got:
            self.touch(user.tenant, sku).reserved -= 1
        self._end(user)
        self.join_lines(user)
        return attempt

    # -- the waiting line
    def places(self, user: User) -> list[tuple[str, int]]:
        """Products that the user was denied, with since when."""
        if not user.outcome.waiting:
            return []
        found: dict[str, int] = {}
        for i, state in enumerate(user.outcome.states):
            if state.reason.error == COUNT:
                since = user.since_of(i)
                found[state.sku] = min(since, found.get(state.sku, since))
        return list(found.items())

    def join_lines(self, user: User) -> None:
        """To join again changes nothing."""
        for sku, since in self.places(user):
            self.touch(user.tenant, sku).queue(since, user.id)

    def leave_lines(self, user: User) -> None:
        for sku, since in self.places(user):
            self.touch(user.tenant, sku).leave(since, user.id)

    # -- leases
    def touch(self, tenant: TenantState, sku: str) -> Lease:
        lease = tenant.lease(sku)
        self.touched[lease] = None
        return lease

    def grant(self, message: SeatGrantMessage) -> None:
        """A grant, denial or recall from the product machine."""
        tenant = self.configuration.tenant(message.tenant)
        lease = self.touch(tenant, message.sku)
        recall, granted = lease.recall, lease.granted
        if not lease.hear(message):
            return
        self.at, self.cause = message.timestamp_ms, message.caused_by
        # What a grant before this one set free is not for the next user here.
        lease.give_back(keep=lease.granted - granted)
        self._allocate(tenant, lease)
        for since, id, asked in list(lease.asking):
            if asked <= message.denied_seq:
                self._deny(tenant, lease, since, id)
            elif asked <= message.answered_seq:
                lease.withdraw(since, id)  # its unit went to somebody who has waited longer
                user = tenant.users[id]
                assert user.attempt is not None
                user.attempt.asked = lease.ask(since, id)
                self.changed[user] = None
        if lease.recall > recall:
            self._recall(lease)
        if lease.scarce and lease.room and lease.want(tenant.settings.automatic):
            lease.must_answer = True  # it has units left, and wants to know who waits longest

    def _allocate(self, tenant: TenantState, lease: Lease) -> None:
        """Units for the longest waiting users of this partition (R8)."""
        while lease.idle > 0:
            heads = lease.heads(tenant.settings.automatic, 1)
            if not heads:
                break
            self._admit(tenant, lease, heads[0])

    def _admit(self, tenant: TenantState, lease: Lease, place: Place) -> None:
        since, id = place
        user: User = tenant.users[id]
        lease.reserved += 1
        attempt = user.attempt
        if attempt is None:
            self.leave_lines(user)
            attempt = user.extra().attempt = SeatRequest(since, self.at, self.cause)
            self.flying[user] = None
        else:
            lease.withdraw(since, id)
        attempt.got.add(lease.sku)
        self.go_on(user)

    def _deny(self, tenant: TenantState, lease: Lease, since: int, id: str) -> None:
        user: User = tenant.users[id]
        attempt = user.attempt
        if attempt is None or attempt.asking != lease.sku:
            return
        lease.withdraw(since, id)
        attempt.denied |= {lease.sku}
        self.go_on(user)

    def _recall(self, lease: Lease) -> None:
        """What is reserved out of skuId order goes back: it could wait for another in a circle."""
        for user in list(self.flying):
            attempt = user.attempt
            if attempt is None or user.tenant.leases.get(lease.sku) is not lease:
                continue
            if lease.sku in attempt.got and attempt.asking < lease.sku:
                self.changed[user] = None
                attempt.got.discard(lease.sku)
                lease.reserved -= 1

    # -- after each batch
    def settle(self) -> None:
        """Gives idle units to whom they are due, in this partition or by the product machine."""
        for lease in list(self.touched):
            if lease.scarce:
                lease.give_back()
            elif lease.asking and lease.idle > 0:
                self._allocate(self.configuration.tenant(lease.tenant), lease)

    def report(self) -> None:
        """Sends the requests that cannot wait; the other figures go with :meth:`flush`."""
        for lease in self.touched:
            figures = lease.figures(self._automatic(lease))
            low = lease.low(self.configuration.bulk)
            if lease.must_answer or low or figures[:1] != (lease.told or (0,))[:1]:
                self._request(lease)
            elif figures != lease.told:
                self.untold[lease] = None
            self._keep(lease)
        self.touched.clear()

    def _automatic(self, lease: Lease) -> bool:
        return self.configuration.tenant(lease.tenant).settings.automatic

    def _keep(self, lease: Lease) -> None:
        self.effects.rows[LEASES, f"{lease.tenant}/{lease.sku}"] = lease.row()

    def flush(self) -> None:
        for lease in self.untold:
            if lease.figures(self._automatic(lease)) != lease.told:
                self._request(lease)
                self._keep(lease)
        self.untold.clear()

    def _request(self, lease: Lease) -> None:
        key = f"{lease.tenant}/{lease.sku}"
        low = lease.low(self.configuration.bulk)
        request = lease.request(
            self._automatic(lease), low, self.configuration.number, self.at, self.cause
        )
        self.effects.emit(
            SEAT_REQUESTS, key, encode_seat_request(request), self.configuration.partition_of(key)
        )

    # -- restore
    def load(self, key: str, row: list[Any]) -> None:
        tenant, sku = key.split("/", 1)
        self.configuration.tenant(tenant).lease(sku).load(row)

    def start(self) -> None:
        """Everything that is not a row follows from the users' rows."""
        for tenant in self.configuration.tenants.values():
            for user in tenant.users.values():
                self._count(user)
            for lease in tenant.leases.values():
                lease.asked = max((asked for _, _, asked in lease.asking), default=0)
                self.touched[lease] = None

    def _count(self, user: User) -> None:
        for sku in user.outcome.held:
            user.tenant.lease(sku).used += 1
        for sku in user.outcome.waiting:
            user.tenant.lease(sku).waiting += 1
        attempt = user.attempt
        if attempt is None:
            if not user.waits:
                for sku, since in self.places(user):
                    user.tenant.lease(sku).queue(since, user.id)
            return
        self.flying[user] = None
        for sku in attempt.got:
            user.tenant.lease(sku).reserved += 1
        if attempt.asking:
            lease = user.tenant.lease(attempt.asking)
            lease.asking.append((attempt.since, user.id, attempt.asked))
            lease.asking.sort()


def _missing(decision: EvaluationResult, attempt: SeatRequest) -> str | None:
    """The first product, in skuId order, whose seat is neither had nor denied yet."""
    for sku in decision.required_seats:
        if sku not in attempt.got and sku not in attempt.denied:
            return sku
    return None
