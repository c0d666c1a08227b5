"""The membership rules of a tenant, arranged so that a change of a user finds its groups quickly.

Rules that depend on the same properties form a class. A class remembers which groups each
combination of values matches, so 200 rules on the department cost one look-up for each change.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from engine.membership_rules.compiler import Predicate, Value, compile_rule, properties_of
from engine.membership_rules.errors import MembershipRuleError
from engine.membership_rules.parser import parse_rule

MAX_REMEMBERED: Final = 1 << 16
MAX_REMEMBERED_CHARACTERS: Final = 256
NO_GROUPS: Final[tuple[str, ...]] = ()


class MembershipRule:
    """A group's membership rule. ``since_ms`` and ``offset``: of the event that changed it last.

    ``keys``: the properties that it depends on. ``holds``: None if the members are as they are,
    since the rule is paused, or written by a later release in words that this one cannot read.
    """

    __slots__ = ("holds", "keys", "offset", "paused", "since_ms", "text")

    def __init__(self, text: str, paused: bool, since_ms: int, offset: int) -> None:
        self.text = text
        self.paused = paused
        self.since_ms = since_ms
        self.offset = offset
        self.keys: tuple[str, ...] = ()
        self.holds: Predicate | None = None
        if not paused:
            try:
                tree = parse_rule(text)
            except MembershipRuleError:
                return
            self.keys = tuple(sorted(properties_of(tree)))
            self.holds = compile_rule(tree, self.keys)

    def row(self) -> list[Any]:
        """Returns what rows and messages have of it: the arguments of the constructor."""
        return [self.text, self.paused, self.since_ms, self.offset]


class RuleClass:
    """The rules that depend on the same properties. ``groups``: those that have them."""

    __slots__ = ("_remembered", "groups", "keys")

    def __init__(self, keys: tuple[str, ...]) -> None:
        self.keys = keys
        self.groups: dict[str, Predicate] = {}
        self._remembered: dict[tuple[Value, ...], tuple[str, ...]] = {}

    def put(self, group: str, predicate: Predicate | None) -> None:
        """Sets the rule of a group; None takes it away."""
        if predicate is not None:
            self.groups[group] = predicate
        else:
            self.groups.pop(group, None)
        self._remembered.clear()

    def matching(self, values: tuple[Value, ...]) -> tuple[str, ...]:
        """Returns the groups whose rules the values match, in order of their ids."""
        found = self._remembered.get(values)
        if found is None:
            found = tuple(sorted([g for g, holds in self.groups.items() if holds(values)]))
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            if sum([_characters(value) for value in values]) <= MAX_REMEMBERED_CHARACTERS:
                self._remembered[values] = found or NO_GROUPS
        return found


def _characters(value: Value) -> int:
    if isinstance(value, str):
        return len(value)
    return 0 if value is None else sum([len(item) for item in value])


class RuleSet:
    """The rules of a tenant's groups.

    ``ruled``: the groups that have one, whose membership events do not count. ``walking``: the
    groups whose rule is being applied to all users.
    """

    __slots__ = ("_by_key", "_classes", "ruled", "walking")

    def __init__(self) -> None:
        self.ruled: dict[str, MembershipRule] = {}
        self.walking: set[str] = set()
        self._classes: dict[tuple[str, ...], RuleClass] = {}
        self._by_key: dict[str, list[RuleClass]] = {}

    def put(self, group: str, rule: MembershipRule | None) -> None:
        """Sets the rule of a group; None takes it away."""
        old = self.ruled.pop(group, None)
        if old is not None and old.holds is not None:
            self._take_away(group, old.keys)
        if rule is not None:
            self.ruled[group] = rule
            if rule.holds is not None:
                self._class(rule.keys).put(group, rule.holds)

    def _take_away(self, group: str, keys: tuple[str, ...]) -> None:
        rules = self._classes[keys]
        rules.put(group, None)
        if not rules.groups:
            del self._classes[keys]
            for key in keys:
                self._by_key[key].remove(rules)

    def _class(self, keys: tuple[str, ...]) -> RuleClass:
        found = self._classes.get(keys)
        if found is None:
            found = self._classes[keys] = RuleClass(keys)
            for key in keys:
                self._by_key.setdefault(key, []).append(found)
        return found

    def classes(self) -> list[RuleClass]:
        """Returns all classes, in a fixed order."""
        return [self._classes[keys] for keys in sorted(self._classes)]

    def classes_of(self, keys: Iterable[str]) -> list[RuleClass]:
        """Returns the classes that depend on any of the properties, each once."""
        found: dict[tuple[str, ...], RuleClass] = {}
        for key in keys:
            for rules in self._by_key.get(key, ()):
                found[rules.keys] = rules
        return list(found.values())
