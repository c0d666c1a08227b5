"""Users from their rows, as one partition takes them over; what follows from them is made anew."""

from __future__ import annotations

from typing import Any, Final

from engine.domain.model import Entry, Offer, PlanSet
from engine.machines.outcome_applier import PLANS, Applier
from engine.rules.outcome import NOTHING, Outcome, Problem, Reason
from engine.state.configuration import Configuration
from engine.state.user import More, User, tuples

NOTHING_MORE: Final[tuple[Any, ...]] = ()


class Restore:
    """Rows may come in any order; users' are kept until :meth:`prepare`, and taken at once then.

    Equal strings and outcomes become one object, as among users who were evaluated.
    """

    def __init__(self, configuration: Configuration, applier: Applier) -> None:
        self.configuration = configuration
        self.applier = applier
        self._plan_rows: dict[str, list[Any]] = {}
        self._rows: list[tuple[str, Any]] = []
        self._prepared = False
        self._shared: dict[str | None, Any] = {}
        self._entries: dict[str, tuple[Entry, ...]] = {"": ()}
        self._outcomes: dict[tuple[Any, ...], Outcome] = {}

    def load(self, table: str, key: str, row: Any) -> None:
        if table == PLANS:
            self._plan_rows[key] = row
        elif self._prepared:
            self._user(key, row)
        else:
            self._rows.append((key, row))

    def prepare(self) -> None:
        """The configuration is complete, and every plan set is here."""
        self._prepared = True

    def start(self) -> None:
        """Every group is to be reported again."""
        self.prepare()
        for key, row in self._rows:
            self._user(key, row)
        self._rows, self._shared, self._outcomes = [], {}, {}
        for book in self.configuration.books.values():
            for group in book.groups:
                self.applier.changed(book, group, 0)

    def _user(self, key: str, row: list[Any]) -> None:
        tenant, id = key.split("/", 1)
        book = self.configuration.book(tenant)
        user = User(book, id)
        (
            user.known, location, user.upn, user.mail, addresses, given, groups, since, paths,
            entries, problems, sinces, user.revision, seen, more,
        ) = row  # fmt: skip
        user.location = self._shared.setdefault(location, location)
        user.addresses = tuple(addresses) if addresses else ()
        user.given = user.upn if given is True else given
        user.groups = self._ids(groups)
        user.since = bytes.fromhex(since)
        user.paths = user.groups if paths is True else self._ids(paths)
        user.sinces = tuple(sinces) if isinstance(sinces, list) else sinces
        user.seen = bytes.fromhex(seen)
        user.more = More.load(more) if more is not None else None
        user.outcome = self._outcome(user, entries, problems)
        book.users[id] = user
        self._count(user)

    def _ids(self, ids: list[str]) -> tuple[str, ...]:
        shared = self._shared
        return tuple([shared.setdefault(id, id) for id in ids])

    def _outcome(self, user: User, entries: str, problems: list[Any]) -> Outcome:
        if not entries and not problems:
            return NOTHING
        asked = self._asked(user)
        content = (entries, tuples(problems) if problems else NOTHING_MORE, asked)
        outcome = self._outcomes.get(content)
        if outcome is None:
            if entries not in self._entries:
                self._entries[entries] = tuple(map(self._entry, entries.split(",")))
            trouble = tuple([_problem(problem) for problem in problems])
            outcome = Outcome(self._entries[entries], trouble, asked)
            self._outcomes[content] = outcome
        return outcome

    def _entry(self, text: str) -> Entry:
        slot, turn, key, *off = text.split("/")
        return Entry(
            int(slot), int(turn), self._plan_set(key), tuple(off[0].split()) if off else None
        )

    @staticmethod
    def _asked(user: User) -> tuple[Offer | None, ...]:
        groups, asked = user.book.groups, []
        for path in user.paths:
            group = groups.get(path)
            there = group is not None and (user.paths is user.groups or path in user.groups)
            asked.append(group.offer if group is not None and there else None)
        return tuple(asked)

    def _plan_set(self, key: str) -> PlanSet:
        plans = self.applier.plans
        found = plans.get(key)
        if found is None:
            sku, enabled, disabled = self._plan_rows[key]
            product = self.configuration.products[sku]
            found = product.enabling(frozenset(enabled))
            if found.key != key:  # the catalogue has changed since: R12 is still to be applied
                found = PlanSet(product, frozenset(enabled), disabled)
                found.product = None
            plans[key] = found
        return found

    def _count(self, user: User) -> None:
        """Indexes and counters that follow from the users."""
        applier, book, groups = self.applier, user.book, user.groups
        figures = user.outcome.by_slot
        for slot, group in enumerate(groups):
            roll = applier.changed(book, group, 0)
            roll.users.append(user)
            roll.present += 1
            if user.known:
                roll.members += 1
            if user.paths is groups:
                roll.count(figures[slot], 1)
        if user.paths is not groups:
            for slot, group in enumerate(user.paths):
                roll = applier.changed(book, group, 0)
                roll.count(figures[slot], 1)
                if group not in groups and group not in user.paths[:slot]:
                    roll.enter(user)
        if user.outcome.errors:
            applier.count_errors(NOTHING, user.outcome)
        if user.more is not None and user.more.deferred:
            applier.deferring[user] = None


def _problem(row: list[Any]) -> Problem:
    sku, slot, state, off, (error, details, message) = row
    return Problem(sku, slot, state, tuple(off), Reason(error, tuples(details), message))


def plan_keys(entries: str) -> list[str]:
    """The keys of the plan sets that the entries in a user's row name."""
    return [text.split("/")[2] for text in entries.split(",")] if entries else []
