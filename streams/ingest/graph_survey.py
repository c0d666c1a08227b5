"""A first look at an export of Graph: what its files hold, before any event is made.

An order that is safe depends on the whole: which files hold what, whether the pages are a first
load, and which groups each user is in.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from engine.membership_rules.properties import OBJECT_ID
from streams.ingest.event_builder import normalized_id
from streams.ingest.graph_attributes import selected
from streams.ingest.graph_objects import (
    assignment_states,
    group_members,
    licenses_of,
    member_id,
    removal,
)
from streams.ingest.graph_pages import (
    GROUPS,
    KINDS,
    MEMBERS,
    SUBSCRIPTIONS,
    USERS,
    Object,
    Page,
    UnreadableError,
    list_of_objects,
)
from streams.ingest.graph_rules import RULE, STATE, CompiledRule, compiled, rule_of


@dataclass(slots=True)
class GroupFacts:
    """The facts of a group in the export; ``licenses`` is None if it says nothing of them.

    ``rule``: None if it has none that can be read.
    """

    licenses: set[str] | None = None
    rule: CompiledRule | None = None
    members_listed: bool = False
    processing: str = ""


@dataclass(slots=True)
class Survey:
    """The contents of the files of an export.

    ``memberships``: groups by user, in the order in which the pages name them. ``users``: those
    that the pages list. ``kinds``: of the objects in each file, by its index.
    ``others``: the files with objects that are not read, or cannot be read. ``plans``: the user
    plans of each product. ``units``: those that can be assigned, by product. ``unread_rules``: the
    reasons by group. ``selected``: the properties that users have, as the keys that rules use.
    """

    kinds: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    others: set[int] = field(default_factory=set)
    memberships: dict[str, dict[str, None]] = field(default_factory=dict)
    groups: dict[str, GroupFacts] = field(default_factory=dict)
    plans: dict[str, frozenset[str]] = field(default_factory=dict)
    units: dict[str, int] = field(default_factory=dict)
    users: set[str] = field(default_factory=set)
    has_states: bool = False
    unread_rules: dict[str, str] = field(default_factory=dict)
    selected: set[str] = field(default_factory=set)
    _seen_names: set[tuple[str, ...]] = field(default_factory=set)
    pages: Counter[str] = field(default_factory=Counter)
    pages_with_more: Counter[str] = field(default_factory=Counter)
    more_members: list[str] = field(default_factory=list)
    delta_users: bool = False

    @property
    def is_first_load(self) -> bool:
        """True if the users come with their licences and memberships, as a whole (R25)."""
        return (
            self.has_states
            and not self.delta_users
            and any(facts.members_listed for facts in self.groups.values())
        )

    def rank(self, file: int) -> int:
        """Returns the place of a file in the order that is safe to load."""
        return min((KINDS.index(kind) for kind in self.kinds[file]), default=len(KINDS))

    def look(
        self, file: int, page: Page, group: str | None, kind_of: Callable[[Object, Page], str]
    ) -> None:
        """Adds a page. What cannot be read is reported when its event is to be made.

        ``group``: whose members the pages list that do not tell. ``kind_of``: an object's kind.
        """
        kinds: set[str] = set()
        for entity in page.objects:
            try:
                kind = kind_of(entity, page) if isinstance(entity, dict) else ""
                if kind in KINDS:
                    kinds.add(kind)
                    self._look_at(kind, entity, page, group)
                else:
                    self.others.add(file)
            except UnreadableError:
                self.others.add(file)
        if not page.objects and page.kind in KINDS:
            kinds.add(page.kind)
        self.kinds[file] |= kinds
        for kind in kinds:
            self.pages[kind] += 1
            self.pages_with_more[kind] += page.has_more

    def _look_at(self, kind: str, entity: Object, page: Page, group: str | None) -> None:
        id = str(normalized_id(entity.get("id")))
        if kind == USERS:
            self.users.add(id)
            self.delta_users = self.delta_users or page.delta or "@removed" in entity
            self.has_states = self.has_states or assignment_states(entity) is not None
            if (names := tuple(entity)) not in self._seen_names:
                self._seen_names.add(names)
                self.selected |= selected(entity)
        elif kind == GROUPS:
            self._group(id, entity)
        elif kind == MEMBERS and (of := page.group or group) is not None:
            self._members(
                str(normalized_id(of)), [(member_id(entity, Counter()), removal(entity) is None)]
            )
        elif kind == SUBSCRIPTIONS:
            sku, units = str(normalized_id(entity.get("skuId"))), entity.get("prepaidUnits")
            if isinstance(units, dict):
                self.units[sku] = sum(int(units.get(kind) or 0) for kind in ("enabled", "warning"))
            self.plans[sku] = frozenset(
                str(normalized_id(plan.get("servicePlanId")))
                for plan in list_of_objects(entity, "servicePlans") or ()
                if plan.get("appliesTo") != "Company"
            )

    def _group(self, id: str, entity: Object) -> None:
        facts = self.groups.setdefault(id, GroupFacts())
        licenses = licenses_of(entity)
        if licenses is not None:
            facts.licenses = {each["skuId"] for each in licenses}
        if (rule := rule_of(entity)) is not None:
            found = compiled(rule) if rule.text else None
            facts.rule = found if isinstance(found, CompiledRule) else None
            self.unread_rules.pop(id, None)
            if isinstance(found, str):
                self.unread_rules[id] = found
        if "members@odata.nextLink" in entity:
            self.more_members.append(id)
        processing = entity.get("licenseProcessingState")
        facts.processing = str(
            processing.get("state", "") if isinstance(processing, dict) else processing or ""
        )
        if "members@delta" in entity or "members" in entity:
            self._members(id, group_members(entity, Counter()))

    def _members(self, group: str, members: Any) -> None:
        self.groups.setdefault(group, GroupFacts()).members_listed = True
        for user, is_member in members:
            if user is None:
                continue
            groups = self.memberships.setdefault(user, {})
            if is_member:
                groups[group] = None
            else:
                groups.pop(group, None)

    def warnings(self) -> list[str]:
        """Returns what the export lacks, and what of it is not used."""
        found = [
            f"{kind}: the last page names another one (@odata.nextLink), which is not among the"
            " files: some of them are missing"
            for kind, count in sorted(self.pages.items())
            if count == self.pages_with_more[kind]
        ]
        if self.more_members:
            named = ", ".join(self.more_members[:3])
            found.append(
                f"{len(self.more_members):,} groups have more members than $expand lists"
                f" (members@odata.nextLink, e.g. {named}): export /groups/{{id}}/members too"
            )
        if unused := self._unused_rules():
            first = next(iter(unused))
            found.append(
                f"{len(unused):,} groups keep the members that the pages list, and not their"
                f" membership rule, e.g. {first}: {unused[first]}"
            )
        return found

    def _unused_rules(self) -> dict[str, str]:
        ruled = [id for id, facts in self.groups.items() if facts.rule is not None]
        reasons = {id: reason for id in ruled if (reason := self.rule_refusal(id))}
        return self.unread_rules | reasons

    def rule_refusal(self, group: str) -> str | None:
        """Returns why a group's rule is not carried; None if it is, or if there is none."""
        facts = self.groups.get(group)
        if facts is None or facts.rule is None or self.delta_users or not self.users:
            return self.unread_rules.get(group)
        missing = [key for key in facts.rule.keys if key not in self.selected and key != OBJECT_ID]
        if not missing:
            return None
        return (
            f"the rule names {', '.join(missing)}, which no user of the export has: add it to"
            " $select of the users"
        )

    def carries_rule(self, group: str) -> bool:
        """Returns whether the feed gives the group a rule."""
        facts = self.groups.get(group)
        return facts is not None and facts.rule is not None and not self.rule_refusal(group)

    def rule_members(self, group: str, entity: Object) -> dict[str, Any]:
        """Returns what an event says of a group's rule: null for one that is not carried.

        Raises: UnreadableError.
        """
        rule = rule_of(entity)
        if rule is None:
            return {}
        if rule.text is None or not self.carries_rule(group):
            return {RULE: None}
        return {RULE: rule.text} | ({STATE: rule.state} if rule.state else {})

    def unmatched(
        self, user: str, members: dict[str, Any], groups: Iterable[str]
    ) -> frozenset[str]:
        """Returns those of a user's groups whose rule does not match the user."""
        return frozenset(
            group
            for group in groups
            if self.carries_rule(group)
            and (rule := self.groups[group].rule) is not None
            and not rule.matches(user, members)
        )
