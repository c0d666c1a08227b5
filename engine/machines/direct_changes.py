"""Direct changes: licences that an event assigns to a user, and reprocess commands (R16, R20-R23).

A change names products. While one of them is not defined the change is deferred (R21); otherwise it
is *begun*: it stays with the user until its seats are reserved or denied, and is answered when the
outcome is applied. Only one is under way at a time; the user machine queues what comes after (R23).
"""

from __future__ import annotations

from typing import Any, Final

from engine.documents.audit import audit
from engine.documents.results import restoration_result, result
from engine.domain import events as ev
from engine.domain.effects import Effects
from engine.domain.messages import Rejection, limit_exceeded
from engine.rules.direct_change import NO_CHANGE, DirectChange, replace_all
from engine.state.configuration import Configuration
from engine.state.deferred_changes import exceeds_limit
from engine.state.tenant_state import User
from engine.state.user_row_codecs import OptionalUserFacts, tuples

COMMANDS: Final = (ev.UserLicensesChanged, ev.UserLicensesSet, ev.UserReprocess)
"""Events that are answered in ``results``; they wait for what is under way (R23)."""
Licenses = tuple[tuple[str, tuple[str, ...]], ...]


class DirectChanges:
    """Begins, defers, answers and rejects the direct changes of users.

    ``users_with_deferred``: users of whom a change waits for the definition of a product.
    """

    def __init__(self, configuration: Configuration, effects: Effects) -> None:
        self.configuration = configuration
        self.effects = effects
        self.users_with_deferred: dict[User, None] = {}

    def begin(self, user: User, event: ev.UserLicensesChanged, timestamp_ms: int) -> bool:
        """Begins a change; returns False if it was rejected or deferred instead."""
        if self._wait_or_reject(user, event.id, event.add, event.remove, timestamp_ms):
            return False
        return self._begin(user, event.id, DirectChange(event.add, event.remove), timestamp_ms)

    def begin_whole_list(self, user: User, event: ev.UserLicensesSet, timestamp_ms: int) -> bool:
        """Begins the change to a whole list (R28); returns False as :meth:`begin` does."""
        if self._wait_or_reject(user, event.id, event.licenses, None, timestamp_ms):
            return False
        direct = {
            e.plans.sku: e.disabled_plans or () for e in user.outcome.entries if e.path_index == 0
        }
        return self._begin(user, event.id, replace_all(direct, event.licenses), timestamp_ms)

    def _wait_or_reject(
        self, user: User, id: str, add: Licenses, remove: tuple[str, ...] | None, timestamp_ms: int
    ) -> bool:
        """Rejects a change of an unknown user; defers one of undefined products (R21)."""
        if not user.known:
            self._reject(user, id, user_not_found(user), timestamp_ms)
            return True
        if self.configuration.defined([*dict(add), *(remove or ())]):
            return False
        change, waiting = [id, add, remove, timestamp_ms], user.ensure_pending_work()
        rejection = exceeds_limit(self.configuration.limits, waiting.deferred_changes, change)
        if rejection is not None:
            self._reject(user, id, rejection, timestamp_ms)
            return True
        waiting.deferred_changes.append(change)
        self.users_with_deferred[user] = None
        self._answer(user, id, "deferred")
        return True

    def _begin(self, user: User, id: str, change: DirectChange, timestamp_ms: int) -> bool:
        rejection = self._too_many_products(user, change)
        if rejection is not None:
            self._reject(user, id, rejection, timestamp_ms)
            return False
        if change.add or change.remove:
            user.ensure_pending_work().change = [id, *change, timestamp_ms]
            return True
        self._reject(user, id, NO_CHANGE, timestamp_ms)
        return False

    def _too_many_products(self, user: User, change: DirectChange) -> Rejection | None:
        maximum = self.configuration.limits.products
        if not change.add or len(change.add) + len(user.outcome.entries) <= maximum:
            return None
        direct = {e.plans.sku for e in user.outcome.entries if e.path_index == 0}
        number = len(direct.difference(change.remove).union(dict(change.add)))
        if number <= maximum:
            return None
        return limit_exceeded("direct licences of a user", maximum, number)

    def begin_reprocess(self, user: User, event: ev.UserReprocess, timestamp_ms: int) -> bool:
        """Begins a reprocess, which changes nothing itself; returns False if it was rejected."""
        if not user.known:
            self._answer(user, event.id, "rejected", user_not_found(user))
            return False
        user.ensure_pending_work().change = [event.id, None, None, timestamp_ms]
        return True

    def take_ready(
        self, user: User
    ) -> list[tuple[ev.UserLicensesChanged | ev.UserLicensesSet, int]]:
        """Removes and returns the deferred changes whose products are all defined now (R21).

        Each comes with its timestamp in milliseconds, to be applied as if it arrived now.
        """
        assert user.pending_work is not None
        deferred = user.pending_work.deferred_changes
        ready = [d for d in deferred if self.configuration.defined([*dict(d[1]), *(d[2] or ())])]
        if len(ready) == len(deferred):
            self.users_with_deferred.pop(user, None)
        user.pending_work.deferred_changes = [d for d in deferred if d not in ready]
        return [
            (_deferred_event(user, *deferred), timestamp_ms) for *deferred, timestamp_ms in ready
        ]

    def complete(self, user: User, rejection: Rejection | None, timestamp_ms: int) -> None:
        """Answers the change under way, if there is one, after its outcome has been applied.

        ``timestamp_ms``: of the evaluation that was applied.
        """
        if user.pending_work is None or user.pending_work.change is None:
            return
        id, add, *_ = user.pending_work.change
        user.pending_work.change = None
        if rejection and add is not None:
            self._reject(user, id, rejection, timestamp_ms)
        else:
            self._answer(user, id, "rejected" if rejection else "applied", rejection)

    def answer_restoration(self, user: User, not_restored: tuple[Rejection, ...]) -> None:
        """R22: answers the event that took the user out of the recycle bin, and ends that work.

        ``not_restored``: the reasons of the direct licences that cannot be given.
        """
        assert user.optional_facts is not None
        id, _ = user.optional_facts[OptionalUserFacts.RESTORATION]
        user.set_optional_fact(OptionalUserFacts.RESTORATION, None)
        value = restoration_result(id, user.tenant.id, user.id, not_restored)
        self.effects.emit("results", f"{user.tenant.id}/{user.id}", value)

    def give_up_restoration(self, user: User, rejection: Rejection) -> None:
        """Answers a restoration under way, if there is one, without the direct licences."""
        if user.optional_facts is None or OptionalUserFacts.RESTORATION not in user.optional_facts:
            return
        _, licenses = user.optional_facts[OptionalUserFacts.RESTORATION]
        reasons = [rejection._replace(sku=licence[0]) for licence in sorted(licenses)]
        self.answer_restoration(user, tuple(reasons))

    def brings_mail(self, user: User) -> bool:
        """Returns True if a change or a restoration under way would add a mail plan (R18)."""
        products = self.configuration.products
        added: list[Any] = []
        if user.pending_work is not None and user.pending_work.change is not None:
            added += user.pending_work.change[1] or ()
        if user.optional_facts is not None:
            added += user.optional_facts.get(OptionalUserFacts.RESTORATION, ("", ()))[1]
        return any(products[sku].without(off).mail for sku, off in added if sku in products)

    def reject_open(self, user: User, timestamp_ms: int) -> None:
        """Rejects the changes of a user who is deleted: those deferred, and the one under way."""
        self.users_with_deferred.pop(user, None)
        pending = user.pending_work
        if pending is None:
            return
        changes = [*pending.deferred_changes, *([pending.change] if pending.change else [])]
        for id, add, *_ in changes:
            if add is None:  # a reprocess
                self._answer(user, id, "rejected", user_not_found(user))
            else:
                self._reject(user, id, user_not_found(user), timestamp_ms)

    def reject_waiting(
        self, user: User, event: Any, rejection: Rejection, timestamp_ms: int
    ) -> None:
        """Answers a command that may not wait for what is under way."""
        if type(event) is ev.UserReprocess:
            self._answer(user, event.id, "rejected", rejection)
        else:
            self._reject(user, event.id, rejection, timestamp_ms)

    def reject_snapshot(self, user: User, id: str, rejection: Rejection) -> None:
        """Answers a snapshot that states more of a user than a user may have."""
        self._answer(user, id, "rejected", rejection)

    def reject_membership(self, user: User, id: str, number: int) -> None:
        """Answers that the user may be a member of no more groups."""
        maximum = self.configuration.limits.memberships
        self.reject_fact(user, id, limit_exceeded("memberships of a user", maximum, number))

    def reject_fact(self, user: User, id: str, rejection: Rejection) -> None:
        """Answers that a fact of the user is not taken."""
        self._answer(user, id, "rejected", rejection)

    def _answer(self, user: User, id: str, status: str, rejection: Rejection | None = None) -> None:
        target: dict[str, Any] = {"tenant": user.tenant.id, "user": user.id}
        value = result(id, target, status, rejection)
        self.effects.emit("results", f"{user.tenant.id}/{user.id}", value)

    def _reject(self, user: User, id: str, rejection: Rejection, timestamp_ms: int) -> None:
        """Answers a change of licences that is not made; the audit log has it as a failure."""
        self._answer(user, id, "rejected", rejection)
        value = audit(
            user.tenant.id, ("User", user.id), "Change user license", timestamp_ms, id, [],
            f"{rejection.error}: {rejection.message}", failed=True,
        )  # fmt: skip
        self.effects.emit("audit", f"{user.tenant.id}/{user.id}", value)


def _deferred_event(
    user: User, id: str, add: Any, remove: Any
) -> ev.UserLicensesChanged | ev.UserLicensesSet:
    if remove is None:
        return ev.UserLicensesSet(id, user.tenant.id, user.id, tuples(add))
    return ev.UserLicensesChanged(id, user.tenant.id, user.id, tuples(add), tuples(remove))


def user_not_found(user: User) -> Rejection:
    """Returns the rejection of a command for a user that is not known."""
    return Rejection("UserNotFound", None, (), f"There is no user {user.id}.")
