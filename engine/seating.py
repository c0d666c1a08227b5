"""Seats for users: leases, attempts in flight, the waiting line (R8, R23)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.configuration import Book, Configuration
from engine.decide import Decider, Decision
from engine.effects import Effects
from engine.explain import COUNT
from engine.lease import Lease, Place
from engine.user import Attempt, User

TABLE = "leases"
Conclude = Callable[[User, Decision, int, str, set[str]], None]


class Seating:
    """Brings the seats for what :class:`Decider` decided, then lets ``conclude`` apply it."""

    def __init__(
        self,
        configuration: Configuration,
        effects: Effects,
        decider: Decider,
        conclude: Conclude,
        changed: dict[User, None],
    ) -> None:
        self.configuration = configuration
        self.effects = effects
        self.decider = decider
        self.conclude = conclude
        self.changed = changed  # users whose rows are to be written
        self.flying: dict[User, None] = {}
        self.touched: dict[tuple[str, str], None] = {}
        self.untold: dict[tuple[str, str], None] = {}
        self.at = 0
        self.cause = ""

    # -- attempts
    def begin(
        self, user: User, decision: Decision, at: int, cause: str, denied: frozenset[str]
    ) -> None:
        """Takes the seats at once if all are at hand, else puts the user in flight."""
        leases = [user.book.lease(sku) for sku in decision.wanted]
        if all(not lease.scarce and lease.idle > 0 for lease in leases):
            for lease in leases:
                lease.take()
            self.conclude(user, decision, at, cause, set(decision.wanted))
            return
        since = min((s for _, s in self.places(user)), default=at)
        self.leave_lines(user)
        attempt = user.extra().attempt = Attempt(since, at, cause)
        attempt.denied = denied
        self.flying[user] = None
        self.go_on(user)

    def go_on(self, user: User) -> None:
        """The next seat in skuId order, until all are had or denied."""
        attempt = user.attempt
        assert attempt is not None
        attempt.asking = ""
        self.changed[user] = None
        while True:
            decision = self.decider.decide(user, attempt.denied)
            known = attempt.got | attempt.denied
            sku = next((sku for sku in decision.wanted if sku not in known), None)
            if sku is None:
                break
            lease = self.touch(user.book, sku)
            if not lease.take():
                attempt.asking = sku
                attempt.asked = lease.ask(attempt.since, user.id)
                return
            attempt.got.add(sku)
        self._end(user)
        self.conclude(user, decision, attempt.at, attempt.cause, attempt.got)

    def _end(self, user: User) -> None:
        assert user.more is not None
        user.more.attempt = None
        self.flying.pop(user, None)

    def abandon(self, user: User) -> Attempt:
        """R23: gives back what was reserved; the user is no longer in flight."""
        attempt = user.attempt
        assert attempt is not None
        if attempt.asking:
            self.touch(user.book, attempt.asking).withdraw(attempt.since, user.id)
        for sku in attempt.got:
            self.touch(user.book, sku).reserved -= 1
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
            self.touch(user.book, sku).queue(since, user.id)

    def leave_lines(self, user: User) -> None:
        for sku, since in self.places(user):
            self.touch(user.book, sku).leave(since, user.id)

    # -- leases
    def touch(self, book: Book, sku: str) -> Lease:
        self.touched[book.id, sku] = None
        return book.lease(sku)

    def grant(self, message: dict[str, Any]) -> None:
        """A grant, denial or recall from the product machine."""
        book = self.configuration.book(message["tenant"])
        lease = self.touch(book, message["skuId"])
        recall, granted = lease.recall, lease.granted
        if not lease.hear(message):
            return
        self.at, self.cause = message["at"], message["causedBy"]
        # What a grant before this one set free is not for the next user here.
        lease.give_back(keep=lease.granted - granted)
        self._allocate(book, lease)
        for since, id, asked in list(lease.asking):
            if asked <= message["denied"]:
                self._deny(book, lease, since, id)
            elif asked <= message["answered"]:
                lease.withdraw(since, id)  # its unit went to somebody who has waited longer
                book.users[id].attempt.asked = lease.ask(since, id)
                self.changed[book.users[id]] = None
        if lease.recall > recall:
            self._recall(lease)
        if lease.scarce and lease.room and lease.want(book.settings.automatic):
            lease.must_answer = True  # it has units left, and wants to know who waits longest

    def _allocate(self, book: Book, lease: Lease) -> None:
        """Units for the longest waiting users of this partition (R8)."""
        while lease.idle > 0:
            heads = lease.heads(book.settings.automatic, 1)
            if not heads:
                break
            self._admit(book, lease, heads[0])

    def _admit(self, book: Book, lease: Lease, place: Place) -> None:
        since, id = place
        user: User = book.users[id]
        lease.reserved += 1
        attempt = user.attempt
        if attempt is None:
            self.leave_lines(user)
            attempt = user.extra().attempt = Attempt(since, self.at, self.cause)
            self.flying[user] = None
        else:
            lease.withdraw(since, id)
        attempt.got.add(lease.sku)
        self.go_on(user)

    def _deny(self, book: Book, lease: Lease, since: int, id: str) -> None:
        user: User = book.users[id]
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
            if attempt is None or user.book.leases.get(lease.sku) is not lease:
                continue
            if lease.sku in attempt.got and attempt.asking < lease.sku:
                self.changed[user] = None
                attempt.got.discard(lease.sku)
                lease.reserved -= 1

    # -- after each batch
    def settle(self) -> None:
        """Gives idle units to whom they are due, in this partition or by the product machine."""
        for tenant, sku in list(self.touched):
            book = self.configuration.book(tenant)
            lease = book.lease(sku)
            if lease.scarce:
                lease.give_back()
            elif lease.asking and lease.idle > 0:
                self._allocate(book, lease)

    def report(self) -> None:
        """Sends the requests that cannot wait; the other figures go with :meth:`flush`."""
        for tenant, sku in self.touched:
            book = self.configuration.book(tenant)
            lease = book.lease(sku)
            figures = lease.figures(book.settings.automatic)
            if lease.must_answer or lease.low or figures[:1] != (lease.told or (0,))[:1]:
                self._request(book, lease)
            elif figures != lease.told:
                self.untold[tenant, sku] = None
            self.effects.rows[TABLE, f"{tenant}/{sku}"] = lease.row()
        self.touched.clear()

    def flush(self) -> None:
        for tenant, sku in self.untold:
            book = self.configuration.book(tenant)
            lease = book.lease(sku)
            if lease.figures(book.settings.automatic) != lease.told:
                self._request(book, lease)
                self.effects.rows[TABLE, f"{tenant}/{sku}"] = lease.row()
        self.untold.clear()

    def _request(self, book: Book, lease: Lease) -> None:
        key = f"{book.id}/{lease.sku}"
        message = {
            "tenant": book.id,
            "skuId": lease.sku,
            "partition": self.configuration.number,
            **lease.request(book.settings.automatic),
            "at": self.at,
            "causedBy": self.cause,
        }
        self.effects.emit(
            "internal.seat-requests", key, message, self.configuration.partition_of(key)
        )

    # -- restore
    def load(self, key: str, row: list[Any]) -> None:
        tenant, sku = key.split("/", 1)
        self.configuration.book(tenant).lease(sku).load(row)

    def start(self) -> None:
        """Everything that is not a row follows from the users' rows."""
        for book in self.configuration.books.values():
            for user in book.users.values():
                self._count(user)
            for sku in book.leases:
                self.touched[book.id, sku] = None

    def _count(self, user: User) -> None:
        for sku in user.outcome.held:
            user.book.lease(sku).used += 1
        for sku in user.outcome.waiting:
            user.book.lease(sku).waiting += 1
        attempt = user.attempt
        if attempt is None:
            if not user.waits:
                for sku, since in self.places(user):
                    user.book.lease(sku).queue(since, user.id)
            return
        self.flying[user] = None
        for sku in attempt.got:
            user.book.lease(sku).reserved += 1
        if attempt.asking:
            lease = user.book.lease(attempt.asking)
            lease.asking.append((attempt.since, user.id, attempt.asked))
            lease.asking.sort()
