"""Seats for users: leases, requests in flight, the wait list (R8, R23).

The allocator decides who gets a unit and in which order. It applies nothing itself: a user whose
seats are complete comes back as an :class:`Allocation`, and the user machine applies it before it
asks for the next one.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import Any, Final

from engine.domain.effects import Effects
from engine.domain.vocabulary import COUNT
from engine.machines.unit_of_work import Cause, UnitOfWork
from engine.machines.user_evaluator import EvaluationResult, UserEvaluator
from engine.machines.user_phase import Trigger, UserPhase
from engine.state.configuration import Configuration
from engine.state.message_codecs import SEAT_REQUESTS, SeatGrantMessage, encode_seat_request
from engine.state.pending_work import SeatRequest
from engine.state.row_codecs import LEASES
from engine.state.seat_lease import Lease, WaitlistEntry
from engine.state.tenant_state import TenantState, User

NO_RESERVATION: Final[frozenset[str]] = frozenset()
AT_START: Final = Cause(0, "")
"""The cause of what is sent after a restore."""


class Allocation:
    """A user whose seats are reserved or denied: the evaluation can be applied now.

    ``reserved``: products of which a unit was kept for the user while it was in flight.
    """

    __slots__ = ("cause", "decision", "reserved", "user")

    def __init__(
        self, user: User, decision: EvaluationResult, cause: Cause, reserved: AbstractSet[str]
    ) -> None:
        self.user = user
        self.decision = decision
        self.cause = cause
        self.reserved = reserved


class SeatAllocator:
    """Reserves seats for users of this partition, and asks the product machines for more.

    ``in_flight``: users whose seat request waits for an answer.
    """

    def __init__(
        self,
        configuration: Configuration,
        effects: Effects,
        evaluator: UserEvaluator,
        work: UnitOfWork,
    ) -> None:
        self.configuration = configuration
        self.effects = effects
        self.evaluator = evaluator
        self.work = work
        self.in_flight: dict[User, None] = {}

    # -- requests
    @staticmethod
    def has_capacity(user: User, skus: tuple[str, ...], competing_users: int) -> bool:
        """Returns True if there are idle units for the user and as many others.

        No order has to be kept among them then.
        """
        for sku in skus:
            lease = user.tenant.lease(sku)
            if lease.contended or lease.idle <= competing_users:
                return False
        return True

    def request(
        self, user: User, decision: EvaluationResult, cause: Cause, denied: frozenset[str]
    ) -> Allocation | None:
        """Requests the seats that the decision needs; None if the user has to wait for an answer.

        ``denied``: products that are not to be tried.
        """
        if self.has_capacity(user, decision.required_seats, 0):
            return Allocation(user, decision, cause, NO_RESERVATION)
        since = min((s for _, s in self.waitlist_entries(user)), default=cause.timestamp_ms)
        self.dequeue(user, cause)
        seat_request = SeatRequest(since, cause.timestamp_ms, cause.event_id)
        user.ensure_pending_work().seat_request = seat_request
        seat_request.denied = denied
        self.in_flight[user] = None
        return self._continue_request(user, cause, decision)

    def _continue_request(
        self, user: User, cause: Cause, decided: EvaluationResult | None = None
    ) -> Allocation | None:
        """Takes the next seat in skuId order, until all are reserved or denied.

        ``decided``: the decision with what is denied by now, if the caller has it already.
        """
        seat_request = user.seat_request
        assert seat_request is not None
        seat_request.requested_sku = ""
        self.work.dirty_users[user] = None
        decision = decided or self.evaluator.evaluate(user, seat_request.denied)
        while sku := _missing(decision, seat_request):
            lease = self.work.change_lease(user.tenant, sku, cause)
            if lease.try_reserve():
                seat_request.reserved.add(sku)
            elif user.tenant.settings.automatic and lease.can_refuse_locally(
                seat_request.since, user.id
            ):
                seat_request.denied |= {sku}
                decision = self.evaluator.evaluate(user, seat_request.denied)
            else:
                seat_request.requested_sku = sku
                seat_request.request_seq = lease.open_request(seat_request.since, user.id)
                return None
        self._end(user)
        return Allocation(
            user,
            decision,
            Cause(seat_request.timestamp_ms, seat_request.caused_by),
            seat_request.reserved,
        )

    def _end(self, user: User) -> None:
        assert user.pending_work is not None
        user.pending_work.seat_request = None
        self.in_flight.pop(user, None)

    def abandon(self, user: User, cause: Cause) -> SeatRequest:
        """Ends the user's request without a result and returns its reservations (R23)."""
        seat_request = user.seat_request
        assert seat_request is not None
        if seat_request.requested_sku:
            lease = self.work.change_lease(user.tenant, seat_request.requested_sku, cause)
            lease.withdraw_request(seat_request.since, user.id)
        for sku in seat_request.reserved:
            self.work.change_lease(user.tenant, sku, cause).reserved -= 1
        self._end(user)
        self.enqueue(user, cause)
        return seat_request

    # -- the wait list
    @staticmethod
    def waitlist_entries(user: User) -> list[tuple[str, int]]:
        """Returns the products that the user was denied, with the time since when."""
        if not user.outcome.waiting:
            return []
        entries: dict[str, int] = {}
        for i, state in enumerate(user.outcome.states):
            if state.reason.error == COUNT:
                since = user.since_of(i)
                entries[state.sku] = min(since, entries.get(state.sku, since))
        return list(entries.items())

    def enqueue(self, user: User, cause: Cause) -> None:
        """Puts the user on the wait lists of the products that it was denied. Idempotent."""
        for sku, since in self.waitlist_entries(user):
            self.work.change_lease(user.tenant, sku, cause).enqueue(since, user.id)

    def dequeue(self, user: User, cause: Cause) -> None:
        """Takes the user off all wait lists."""
        for sku, since in self.waitlist_entries(user):
            self.work.change_lease(user.tenant, sku, cause).dequeue(since, user.id)

    # -- leases
    def apply_grant(self, message: SeatGrantMessage) -> Iterator[Allocation]:
        """Applies a grant, denial or recall; yields the users whose seats are complete by it."""
        tenant = self.configuration.tenant(message.tenant)
        cause = Cause(message.timestamp_ms, message.caused_by)
        lease = self.work.change_lease(tenant, message.sku, cause)
        recall, granted = lease.recall, lease.granted
        if not lease.apply_grant(message):
            return
        # Units that an earlier grant set free are not for the next user of this partition.
        lease.return_idle(keep=lease.granted - granted)
        yield from self._allocate(tenant, lease, cause)
        for since, id, asked in list(lease.open_requests):
            if asked <= message.denied_seq:
                allocation = self._deny(tenant, lease, since, id, cause)
                if allocation is not None:
                    yield allocation
            elif asked <= message.answered_seq:
                lease.withdraw_request(since, id)  # its unit went to a user who has waited longer
                user = tenant.users[id]
                assert user.seat_request is not None
                user.seat_request.request_seq = lease.open_request(since, id)
                self.work.dirty_users[user] = None
        if lease.recall > recall:
            self._recall(lease)
        if lease.contended and lease.free_units and lease.demand(tenant.settings.automatic):
            lease.report_due = True  # the owner has units left: it needs the next users' places

    def _allocate(self, tenant: TenantState, lease: Lease, cause: Cause) -> Iterator[Allocation]:
        """Gives idle units to the longest waiting users of this partition (R8)."""
        while lease.idle > 0:
            entries = lease.longest_waiting(tenant.settings.automatic, 1)
            if not entries:
                break
            allocation = self._admit(tenant, lease, entries[0], cause)
            if allocation is not None:
                yield allocation

    def _admit(
        self, tenant: TenantState, lease: Lease, entry: WaitlistEntry, cause: Cause
    ) -> Allocation | None:
        since, id = entry
        user: User = tenant.users[id]
        lease.reserved += 1
        seat_request = user.seat_request
        if seat_request is None:
            self.dequeue(user, cause)
            seat_request = SeatRequest(since, cause.timestamp_ms, cause.event_id)
            user.ensure_pending_work().seat_request = seat_request
            self.in_flight[user] = None
            if self.work.phase_log is not None:
                phase = UserPhase.REQUESTING_SEATS
                self.work.phase_log.append((user, Trigger.SEAT_OFFERED, phase))
        else:
            lease.withdraw_request(since, id)
        seat_request.reserved.add(lease.sku)
        return self._continue_request(user, cause)

    def _deny(
        self, tenant: TenantState, lease: Lease, since: int, id: str, cause: Cause
    ) -> Allocation | None:
        user: User = tenant.users[id]
        seat_request = user.seat_request
        if seat_request is None or seat_request.requested_sku != lease.sku:
            return None
        lease.withdraw_request(since, id)
        seat_request.denied |= {lease.sku}
        return self._continue_request(user, cause)

    def _recall(self, lease: Lease) -> None:
        """Returns units reserved out of skuId order: two users could wait for each other."""
        for user in list(self.in_flight):
            seat_request = user.seat_request
            if seat_request is None or user.tenant.leases.get(lease.sku) is not lease:
                continue
            if lease.sku in seat_request.reserved and seat_request.requested_sku < lease.sku:
                self.work.dirty_users[user] = None
                seat_request.reserved.discard(lease.sku)
                lease.reserved -= 1

    # -- after each batch
    def distribute_idle(self) -> Iterator[Allocation]:
        """Returns idle units of contended products; yields users who get one of the others."""
        for lease, cause in list(self.work.dirty_leases.items()):
            if lease.contended:
                lease.return_idle()
            elif lease.open_requests and lease.idle > 0:
                yield from self._allocate(self.configuration.tenant(lease.tenant), lease, cause)

    def report(self) -> None:
        """Sends the requests that cannot wait; the other numbers go with :meth:`flush`."""
        for lease, cause in self.work.dirty_leases.items():
            usage = lease.usage_report(self._automatic(lease))
            prefetch = lease.needs_prefetch(self.configuration.prefetch_min_units)
            if lease.report_due or prefetch or usage[:1] != (lease.last_reported or (0,))[:1]:
                self._request(lease, cause)
            elif usage != lease.last_reported:
                self.work.unreported_leases[lease] = cause
            self._write_row(lease)
        self.work.dirty_leases.clear()

    def _automatic(self, lease: Lease) -> bool:
        return self.configuration.tenant(lease.tenant).settings.automatic

    def _write_row(self, lease: Lease) -> None:
        self.effects.rows[LEASES, f"{lease.tenant}/{lease.sku}"] = lease.row()

    def flush(self) -> None:
        """Sends the numbers that have changed since they were last reported."""
        for lease, cause in self.work.unreported_leases.items():
            if lease.usage_report(self._automatic(lease)) != lease.last_reported:
                self._request(lease, cause)
                self._write_row(lease)
        self.work.unreported_leases.clear()

    def _request(self, lease: Lease, cause: Cause) -> None:
        key = f"{lease.tenant}/{lease.sku}"
        request = lease.next_request(
            self._automatic(lease),
            lease.needs_prefetch(self.configuration.prefetch_min_units),
            self.configuration.number,
            cause.timestamp_ms,
            cause.event_id,
        )
        self.effects.emit(
            SEAT_REQUESTS, key, encode_seat_request(request), self.configuration.partition_of(key)
        )

    # -- restore
    def load(self, key: str, row: list[Any]) -> None:
        """Takes one restored row of ``leases``."""
        id, sku = key.split("/", 1)
        tenant = self.configuration.tenant(id)
        lease = tenant.lease(sku)
        lease.load(row)
        tenant.switch(lease, lease.off)

    def report_all(self) -> None:
        """Reports every lease at the start, so that the owners say if a product is off (R15)."""
        for tenant in self.configuration.tenants.values():
            for lease in tenant.leases.values():
                lease.report_due = True

    def start(self) -> None:
        """Computes the counters that are not persisted from the restored users."""
        for tenant in self.configuration.tenants.values():
            for user in tenant.users.values():
                self._count(user)
            for lease in tenant.leases.values():
                lease.requested_seq = max((asked for _, _, asked in lease.open_requests), default=0)
                self.work.dirty_leases[lease] = AT_START

    def _count(self, user: User) -> None:
        for sku in user.outcome.held:
            user.tenant.lease(sku).used += 1
        for sku in user.outcome.waiting:
            user.tenant.lease(sku).waiting += 1
        seat_request = user.seat_request
        if seat_request is None:
            if not user.waits:
                for sku, since in self.waitlist_entries(user):
                    user.tenant.lease(sku).enqueue(since, user.id)
            return
        self.in_flight[user] = None
        for sku in seat_request.reserved:
            user.tenant.lease(sku).reserved += 1
        if seat_request.requested_sku:
            lease = user.tenant.lease(seat_request.requested_sku)
            lease.open_requests.append((seat_request.since, user.id, seat_request.request_seq))
            lease.open_requests.sort()


def _missing(decision: EvaluationResult, seat_request: SeatRequest) -> str | None:
    """The first product, in skuId order, whose seat is neither had nor denied yet."""
    for sku in decision.required_seats:
        if sku not in seat_request.reserved and sku not in seat_request.denied:
            return sku
    return None
