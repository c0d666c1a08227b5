"""Applies decisions: seats, counters and indexes follow the outcome; what changed is published."""

from __future__ import annotations

from typing import Any

from engine import publish
from engine.configuration import Book, Configuration
from engine.decide import Decision
from engine.effects import Effects
from engine.fanout import FanOut
from engine.figures import Tally
from engine.model import Offer, PlanSet
from engine.rules import NOTHING, Outcome
from engine.seating import NOTHING_RESERVED, Reserved, Seating
from engine.user import User, load_user

USERS, PLANS = "users", "plans"


class Numbers:
    """What one partition counts of one group, for its status."""

    __slots__ = ("errors", "licensed", "members", "with_errors")

    def __init__(self) -> None:
        self.members = 0
        self.licensed = 0
        self.with_errors = 0
        self.errors: dict[str, int] = {}

    def add(self, figures: tuple[bool, tuple[str, ...]], sign: int) -> None:
        licensed, errors = figures
        self.licensed += sign * licensed
        if errors:
            self.with_errors += sign
            for error in errors:
                self.errors[error] = self.errors.get(error, 0) + sign


class Applier:
    """The one writer of a user's outcome. ``unreported``: groups with new numbers, and when."""

    def __init__(self, configuration: Configuration, effects: Effects) -> None:
        self.configuration = configuration
        self.effects = effects
        self.unreported: dict[tuple[str, str], int] = {}
        self.vacated: list[tuple[str, str]] = []
        self.deferring: dict[User, None] = {}
        self.published = 0
        self.in_error = Tally()  # users by kind of error
        self.with_errors = 0
        self.plans: dict[str, PlanSet] = {}
        self._rows: list[tuple[str, Any]] = []
        self._plan_rows: dict[str, list[Any]] = {}

    # -- decisions
    def apply(
        self, user: User, decision: Decision, at: int, cause: str, got: Reserved, seating: Seating
    ) -> None:
        """Makes the decision the user's outcome. ``got``: the seats reserved for it."""
        old, old_paths = user.outcome, user.paths
        new = decision.outcome
        paths = decision.paths[: new.slots - 1]
        seating.at, seating.cause = at, cause
        if new.mail != old.mail:
            user.keep_shown()
        if new.mail:
            user.give_address()
        if new is old and paths == old_paths and not got:
            seating.join_lines(user)  # an attempt left them
            if user.more is not None and user.more.shown is not None:
                self._publish(user, old, old_paths, at, cause)
            return
        seating.leave_lines(user)
        since = publish.sinces(user, new, paths, at)
        user.outcome, user.paths, user.sinces = new, paths, since
        self._errors(old, new)
        self._seats(user, old, got, seating)
        seating.join_lines(user)
        self._index(user, old_paths)
        self._numbers(user.book, old, old_paths, -1, at)
        self._numbers(user.book, new, paths, 1, at)
        self._publish(user, old, old_paths, at, cause)

    def _seats(self, user: User, old: Outcome, got: Reserved, seating: Seating) -> None:
        book, new = user.book, user.outcome
        if old.held != new.held or got:
            for sku in new.held - old.held:
                lease = seating.touch(book, sku)
                lease.used += 1
            for sku in old.held - new.held:
                seating.touch(book, sku).used -= 1
            for sku in got:
                seating.touch(book, sku).reserved -= 1
        for sku in old.waiting:
            seating.touch(book, sku).waiting -= 1
        for sku in new.waiting:
            seating.touch(book, sku).waiting += 1

    def _errors(self, old: Outcome, new: Outcome) -> None:
        if old.errors != new.errors:
            self.in_error.move(old.errors, new.errors)
            self.with_errors += bool(new.errors) - bool(old.errors)

    def _publish(
        self, user: User, old: Outcome, old_paths: tuple[str, ...], at: int, cause: str
    ) -> None:
        """One revision, if what is published differs from before (R10, R24)."""
        more = user.more
        before = more.shown if more is not None else None
        if more is not None:
            more.shown = None
        same_attributes = before is None or before == user.attributes()
        new = user.outcome
        was: list[publish.Shown] = []
        now: list[publish.Shown] = []
        if old.states or new.problems:
            was, now = publish.shown(old, old_paths), publish.shown(new, user.paths)
            same = was == now
        else:
            same = not new.states
        if same and (same_attributes or user.revision <= 0):
            return
        user.revision = abs(user.revision) + 1
        self.published += 1
        key = f"{user.book.id}/{user.id}"
        self.effects.emit("user-licenses", key, publish.user_state(user, at, cause))
        opened = []
        if old.problems or new.problems:
            opened = publish.errors(self.effects, user, was, now, cause)
        record = publish.change_audit(user, old, opened, at, cause)
        if record is not None:
            self.effects.emit("audit", key, record)

    def delete(self, user: User, at: int, cause: str, seating: Seating) -> None:
        """R22: drops entries, memberships and claims; frees the seats; a tombstone is published."""
        old, old_paths = user.outcome, user.paths
        book = user.book
        if user.known:
            self.count_members(user, user.groups, -1, at)
        groups, user.groups, user.since = user.groups, (), ()
        user.outcome, user.paths, user.sinces = NOTHING, (), 0
        self._errors(old, NOTHING)
        self._seats(user, old, NOTHING_RESERVED, seating)
        self._index(user, (*old_paths, *groups))
        self._numbers(book, old, old_paths, -1, at)
        was = publish.shown(old, old_paths)
        publish.errors(self.effects, user, was, [], cause)
        if user.revision > 0 and user.known:
            self.effects.emit("user-licenses", f"{book.id}/{user.id}", None)
            user.revision = -user.revision
            record = publish.change_audit(user, old, [], at, cause)
            if record is not None:
                self.effects.emit("audit", f"{book.id}/{user.id}", record)
        user.known = False
        user.location = user.upn = user.mail = user.given = None
        user.addresses = ()
        user.more = None
        self.deferring.pop(user, None)

    # -- groups
    def joined(self, user: User, group: str, at: int) -> None:
        book = user.book
        members = book.members.get(group)
        if members is None:
            members = book.members[group] = {}
        members[user.id] = None
        if user.known:
            self._number(book, group, at).members += 1
        else:
            self.unreported[book.id, group] = at

    def left(self, user: User, group: str, at: int) -> None:
        self._unindex(user, group)
        if user.known:
            self.count_members(user, (group,), -1, at)

    def named(self, book: Book, group: str, at: int) -> None:
        """A group that only a removal names is published, too (contract, section 3)."""
        if group not in book.members and group not in book.groups:
            self.unreported[book.id, group] = at
            self.vacated.append((book.id, group))

    def count_members(self, user: User, groups: tuple[str, ...], sign: int, at: int) -> None:
        for group in groups:
            self._number(user.book, group, at).members += sign

    def _index(self, user: User, old_paths: tuple[str, ...]) -> None:
        """A group finds those who left it and keep its licences (R11)."""
        if old_paths is user.paths or (not old_paths and user.paths is user.groups):
            return
        for group in user.paths:
            user.book.members.setdefault(group, {})[user.id] = None
        for group in old_paths:
            self._unindex(user, group)

    def _unindex(self, user: User, group: str) -> None:
        if group in user.groups or group in user.paths:
            return
        members = user.book.members.get(group)
        if members is not None:
            members.pop(user.id, None)
            if not members:
                del user.book.members[group]
                self.vacated.append((user.book.id, group))

    def _number(self, book: Book, group: str, at: int) -> Numbers:
        numbers: Numbers | None = book.numbers.get(group)
        if numbers is None:
            numbers = book.numbers[group] = Numbers()
        self.unreported[book.id, group] = at
        return numbers

    def _numbers(
        self, book: Book, outcome: Outcome, paths: tuple[str, ...], sign: int, at: int
    ) -> None:
        for group, figures in zip(paths, outcome.by_slot, strict=True):
            if figures != (False, ()):
                self._number(book, group, at).add(figures, sign)

    def report(self, fanout: FanOut) -> None:
        """Absolute numbers of the groups that changed, with the version that is done here."""
        for (tenant, id), at in self.unreported.items():
            self._report(tenant, id, at, fanout)
        self.unreported.clear()

    def report_vacated(self, fanout: FanOut) -> None:
        """In the transaction that empties a group here: after a restart no row would tell of it."""
        for tenant, id in self.vacated:
            if id not in self.configuration.book(tenant).groups:
                at = self.unreported.pop((tenant, id), None)
                if at is not None:
                    self._report(tenant, id, at, fanout)
        self.vacated.clear()

    def _report(self, tenant: str, id: str, at: int, fanout: FanOut) -> None:
        book = self.configuration.book(tenant)
        numbers = book.numbers.get(id) or Numbers()
        group = book.groups.get(id)
        key = f"{tenant}/{id}"
        message = {
            "tenant": tenant,
            "group": id,
            "partition": self.configuration.number,
            "version": fanout.version(tenant, id, group.version if group else 0),
            "members": numbers.members,
            "licensed": numbers.licensed,
            "withErrors": numbers.with_errors,
            "errors": {e: n for e, n in sorted(numbers.errors.items()) if n},
            "at": at,
        }
        self.effects.emit(
            "internal.group-reports", key, message, self.configuration.partition_of(key)
        )

    # -- rows
    def keep(self, user: User) -> None:
        for e in user.outcome.entries:
            if e.plans.key not in self.plans:
                self.plans[e.plans.key] = e.plans
                self.effects.rows[PLANS, e.plans.key] = [
                    e.plans.sku, sorted(e.plans.enabled), e.plans.disabled,
                ]  # fmt: skip
        self.effects.rows[USERS, f"{user.book.id}/{user.id}"] = user.row()

    def load(self, table: str, key: str, row: Any) -> None:
        if table == PLANS:
            self._plan_rows[key] = row
        else:
            self._rows.append((key, row))

    def start(self) -> None:
        """Users, indexes and counters from the rows; every group is reported again."""
        shared: dict[Any, Any] = {}
        outcomes: dict[Any, Outcome] = {}

        def share(value: Any) -> Any:
            return shared.setdefault(value, value)

        for key, row in self._rows:
            tenant, id = key.split("/", 1)
            book = self.configuration.book(share(tenant))
            user, entries, problems = load_user(book, id, row, self._plan_set, share)
            book.users[id] = user
            asked = tuple(self._offer(user, path) for path in user.paths)
            content = (entries, problems, asked)
            outcome = outcomes.get(content)
            if outcome is None:
                made = Outcome(entries, problems, asked) if entries or problems else NOTHING
                outcome = outcomes[content] = made
            user.outcome = outcome
            self._count(user)
        self._rows.clear()
        for book in self.configuration.books.values():
            for group in book.groups:
                self.unreported.setdefault((book.id, group), 0)

    @staticmethod
    def _offer(user: User, path: str) -> Offer | None:
        group = user.book.groups.get(path) if path in user.groups else None
        return group.offer if group else None

    def _plan_set(self, key: str) -> PlanSet:
        found = self.plans.get(key)
        if found is None:
            sku, enabled, disabled = self._plan_rows[key]
            product = self.configuration.products[sku]
            found = product.enabling(frozenset(enabled))
            if found.key != key:  # the catalogue has changed since: R12 is still to be applied
                found = PlanSet(product, frozenset(enabled), disabled)
                found.product = None
            self.plans[key] = found
        return found

    def _count(self, user: User) -> None:
        book = user.book
        for group in {*user.groups, *user.paths}:
            book.members.setdefault(group, {})[user.id] = None
            self.unreported[book.id, group] = 0
        if user.known:
            self.count_members(user, user.groups, 1, 0)
        self._numbers(book, user.outcome, user.paths, 1, 0)
        self._errors(NOTHING, user.outcome)
        if user.more is not None and user.more.deferred:
            self.deferring[user] = None
