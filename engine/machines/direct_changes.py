"""Direct changes: licences that an event assigns to a user, and reprocess commands (R16, R20-R23).

A change names products. While one of them is not defined the change is deferred (R21); otherwise it
is *begun*: it stays with the user until its seats are reserved or denied, and is answered when the
outcome is applied. Only one is under way at a time; the user machine queues what comes after (R23).
"""

from __future__ import annotations

from typing import Any

from engine.documents.audit import audit
from engine.documents.results import result
from engine.domain import events as ev
from engine.domain.effects import Effects
from engine.rules.direct_change import Rejection
from engine.state.configuration import Configuration
from engine.state.tenant_state import User
from engine.state.user_row_codecs import tuples


class DirectChanges:
    """Begins, defers, answers and rejects the direct changes of users.

    ``users_with_deferred``: users of whom a change waits for the definition of a product.
    """

    def __init__(self, configuration: Configuration, effects: Effects) -> None:
        self.configuration = configuration
        self.effects = effects
        self.users_with_deferred: dict[User, None] = {}

    def begin(self, user: User, event: ev.UserLicensesChanged, at: int) -> bool:
        """Begins a change; returns False if it was rejected or deferred instead."""
        named = [*dict(event.add), *event.remove]
        if not user.known:
            self._answer(user, event.id, "rejected", user_not_found(user))
        elif not named:
            message = "The change names nothing to add and nothing to remove."
            self._answer(user, event.id, "rejected", Rejection("NoChange", None, (), message))
        elif not self.configuration.defined(named):
            user.ensure_pending_work().deferred_changes.append(
                [event.id, event.add, event.remove, at]
            )
            self.users_with_deferred[user] = None
            self._answer(user, event.id, "deferred")
        else:
            user.ensure_pending_work().change = [event.id, event.add, event.remove, at]
            return True
        return False

    def begin_reprocess(self, user: User, event: ev.UserReprocess, at: int) -> bool:
        """Begins a reprocess, which changes nothing itself; returns False if it was rejected."""
        if not user.known:
            self._answer(user, event.id, "rejected", user_not_found(user))
            return False
        user.ensure_pending_work().change = [event.id, None, None, at]
        return True

    def take_ready(self, user: User) -> list[tuple[ev.UserLicensesChanged, int]]:
        """Removes and returns the deferred changes whose products are all defined now (R21).

        Each comes with its timestamp in milliseconds, to be applied as if it arrived now.
        """
        assert user.pending_work is not None
        deferred = user.pending_work.deferred_changes
        ready = [d for d in deferred if self.configuration.defined([*dict(d[1]), *d[2]])]
        if len(ready) == len(deferred):
            self.users_with_deferred.pop(user, None)
        user.pending_work.deferred_changes = [d for d in deferred if d not in ready]
        return [
            (ev.UserLicensesChanged(id, user.tenant.id, user.id, tuples(add), tuples(remove)), at)
            for id, add, remove, at in ready
        ]

    def complete(self, user: User, rejection: Rejection | None, timestamp_ms: int) -> None:
        """Answers the change under way, if there is one, after its outcome has been applied.

        ``timestamp_ms``: of the evaluation that was applied.
        """
        if user.pending_work is None or user.pending_work.change is None:
            return
        id, add, *_ = user.pending_work.change
        user.pending_work.change = None
        self._answer(user, id, "rejected" if rejection else "applied", rejection)
        if rejection and add is not None:
            self._audit_rejection(user, id, timestamp_ms, rejection)

    def reject_open(self, user: User) -> None:
        """Rejects the changes of a user who is deleted: those deferred, and the one under way."""
        self.users_with_deferred.pop(user, None)
        pending = user.pending_work
        if pending is None:
            return
        for id, *_ in [*pending.deferred_changes, *([pending.change] if pending.change else [])]:
            self._answer(user, id, "rejected", user_not_found(user))

    def _answer(self, user: User, id: str, status: str, rejection: Rejection | None = None) -> None:
        target: dict[str, Any] = {"tenant": user.tenant.id, "user": user.id}
        value = result(id, target, status, rejection)
        self.effects.emit("results", f"{user.tenant.id}/{user.id}", value)

    def _audit_rejection(self, user: User, id: str, at: int, rejection: Rejection) -> None:
        value = audit(
            user.tenant.id, ("User", user.id), "Change user license", at, id, [],
            f"{rejection.error}: {rejection.message}", failed=True,
        )  # fmt: skip
        self.effects.emit("audit", f"{user.tenant.id}/{user.id}", value)


def user_not_found(user: User) -> Rejection:
    """Returns the rejection of a command for a user that is not known."""
    return Rejection("UserNotFound", None, (), f"There is no user {user.id}.")
