"""What one partition knows of one group: who its users are, and the numbers for its status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from engine.state.user import User

SLACK: Final = 16


class Roll:
    """A group's users here are its members, and those who left and keep one of its licences (R11).

    ``users`` is in the order of their coming. It may name some who are no more in it, or one twice;
    ``present`` counts those who are. ``members``: the known users among the members. ``at``: time
    of the latest change; ``unreported``: the group machine has not been told of it.
    """

    __slots__ = (
        "at", "errors", "group", "licensed", "members", "present", "tenant", "unreported", "users",
        "with_errors",
    )  # fmt: skip

    def __init__(self, tenant: str, group: str) -> None:
        self.tenant = tenant
        self.group = group
        self.users: list[User] = []
        self.present = 0
        self.members = 0
        self.licensed = 0
        self.with_errors = 0
        self.errors: dict[str, int] = {}
        self.at = 0
        self.unreported = False

    def enter(self, user: User) -> None:
        """Of a user who was not in it."""
        self.users.append(user)
        self.present += 1

    def leave(self) -> None:
        """Of a user who is neither a member now nor keeps a licence."""
        self.present -= 1
        if len(self.users) > 2 * self.present + SLACK:
            self.users = list({user: None for user in self.users if user.belongs(self.group)})

    def count(self, figures: tuple[bool, tuple[str, ...]], sign: int) -> None:
        """Adds or takes away what an outcome says of the group (:attr:`Outcome.by_slot`)."""
        licensed, errors = figures
        self.licensed += sign * licensed
        if errors:
            self.with_errors += sign
            for error in errors:
                self.errors[error] = self.errors.get(error, 0) + sign
