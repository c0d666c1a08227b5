"""Random membership rules and attributes (R27) for the generated tenants.

They come from a generator of their own, so that tenants without rules stay what their seed made.
"""

from __future__ import annotations

from random import Random
from typing import Any, Final

from engine.domain import events as ev

WITH_RULES_PERCENT: Final = 40
RULE_PERCENT: Final = 12
"""Of the events of a tenant with rules, those before which a rule changes."""
RULES: Final = (
    'user.department -eq "Sales"',
    'user.department -ne "sales"',
    'user.department -in ["Sales", "HR"] -and -not (user.accountEnabled -eq false)',
    'user.department -startsWith "s" -or user.city -contains "o"',
    'user.city -match "^(o|p)"',
    "user.department -eq null",
    'user.usageLocation -eq "US"',
    "user.mailNickname -ne null",
    'user.proxyAddresses -any (_ -startsWith "smtp:shared")',
    'user.otherMails -all (_ -contains "x")',
    "user.objectId -ne null",
    'user.objectId -eq "u1" -or user.objectId -eq "u3"',
)
INVALID: Final = ("user.department -eq", 'user.unknown -eq "x"', "-and")
VALUES: Final[dict[str, tuple[Any, ...]]] = {
    "department": ("Sales", "SALES", "HR", None),
    "city": ("Oslo", "Rome", "Paris", None),
    "accountenabled": ("true", "false", None),
    "othermails": (("a@x",), ("a@x", "b@y"), None),
}


class RuleWorkload:
    """The rules and attributes of one seed; ``on`` is False in most."""

    def __init__(self, random: Random) -> None:
        self.random = Random(repr(random.getstate()))
        self.on = self.random.randrange(100) < WITH_RULES_PERCENT
        self.number = 0

    def attributes(self) -> ev.AttributePatch | ev.Absent:
        """Returns a patch of attributes."""
        r = self.random
        if not self.on or r.random() < 0.3:
            return ev.ABSENT
        names = r.sample(sorted(VALUES), r.randint(1, 3))
        return tuple((name, r.choice(VALUES[name])) for name in names)

    def snapshot(self) -> ev.AttributePatch:
        """Returns the attributes of a snapshot (R25)."""
        found = self.attributes()
        return found if isinstance(found, tuple) else ()

    def change(self, tenants: list[str], groups: list[str]) -> ev.GroupUpserted | None:
        """Returns a change of a group's rule, mostly None."""
        r = self.random
        if not self.on or r.randrange(100) >= RULE_PERCENT:
            return None
        self.number += 1
        rule: str | ev.Absent | None = r.choice(RULES)
        state: str | ev.Absent | None = r.choice((ev.ABSENT, ev.ABSENT, "On", "Paused"))
        choice = r.random()
        if choice < 0.15:
            rule = None
        elif choice < 0.35:
            rule = ev.ABSENT
            state = r.choice(("On", "Paused", None))
        elif choice < 0.4:
            rule = r.choice(INVALID)
        name = f"rule{self.number}"
        return ev.GroupUpserted(name, r.choice(tenants), r.choice(groups), ev.ABSENT, rule, state)
