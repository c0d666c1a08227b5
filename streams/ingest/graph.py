"""Microsoft Graph: pages of delta queries and lists, as files or folders of files.

Supported are users, groups (with ``members@delta`` and ``@removed``), lists of members,
``subscribedSkus``, ``organization``, the ``assignedLicenses`` of groups and the
``licenseAssignmentStates`` of users. Pages hold patches: an object that appears again, on any page,
adds to what is known. A file holds one page, or one page per line; files are read in the order of
what they hold: subscriptions, the organization, groups, members, users, and among these by name.

Users with ``licenseAssignmentStates`` beside groups with members are a *first load*: each user
becomes a ``user.snapshot`` (R25), after everything that it refers to. Whatever is held is adopted
before anything is asked for: otherwise a user who waits would get a seat that another one has.
For the same reason membership rules (R27) come last: until then a group has the members listed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any

from streams.catalog import DEFAULT_EDITION
from streams.ingest import graph_objects as objects
from streams.ingest.event_builder import (
    EventBuilder,
    EventOrReason,
    normalized_id,
    reasons_or_events,
)
from streams.ingest.graph_comparison import ExpectedUser, expected_user
from streams.ingest.graph_pages import (
    GROUPS,
    KINDS,
    MEMBERS,
    ORGANIZATION,
    SUBSCRIPTIONS,
    USERS,
    Object,
    Page,
    UnreadableError,
    is_user,
    kind_of,
    pages,
    wrong_type,
)
from streams.ingest.graph_rules import RULE
from streams.ingest.graph_survey import Survey
from streams.ingest.items import FeedItem, FeedProblem
from streams.ingest.source_files import FeedFile, FileFeed, Paths

Events = Iterator[FeedItem | FeedProblem]


class Part(Enum):
    """The parts of a first load; any other feed has one."""

    CONFIGURATION = "configuration"
    HELD = "held"
    WISHES = "wishes"
    RULES = "rules"


REPEATED = (Part.WISHES, Part.RULES)
"""The parts that read again what an earlier part has read and reported."""


def events_from_graph(
    path: Paths,
    tenant: str,
    *,
    group: str | None = None,
    products: bool = True,
    run: str = "",
    compare: bool = False,
    facts: str = DEFAULT_EDITION,
) -> GraphFeed:
    """Returns the feed of one tenant's pages.

    ``path``: a file, a folder, or several of them.
    ``group``: the group that lists of members belong to, if the pages do not tell.
    ``products``: subscriptions define their products, too.
    ``run``: see ``events_from_csv``.
    ``compare``: keep what Graph says of each user's licences (``GraphFeed.expected``).
    ``facts``: the edition of the facts about plans (``streams.catalog``).
    Raises: FeedError, if there are no pages.
    """
    return GraphFeed(path, tenant, group, products, run, compare, facts)


class GraphFeed(FileFeed):
    """The events of Graph pages.

    ``expected``: with ``compare``, what Graph says of the users read so far.
    """

    format = "graph"
    suffixes = (".json", ".jsonl")

    def __init__(
        self,
        path: Paths,
        tenant: str,
        group: str | None,
        products: bool,
        run: str,
        compare: bool = False,
        facts: str = DEFAULT_EDITION,
    ) -> None:
        super().__init__(path, (tenant, group or "", run))
        self._tenant, self._group, self._products = tenant, group, products
        self._compare, self._facts = compare, facts
        self._sources: dict[int, FeedFile] = {}
        self._survey: Survey | None = None
        self._part = Part.CONFIGURATION
        self.expected: dict[str, ExpectedUser] = {}
        self._readers: dict[str, Callable[[Object, EventBuilder], list[EventOrReason]]] = {
            SUBSCRIPTIONS: self._subscription,
            ORGANIZATION: self._organization,
            GROUPS: self._of_group,
            USERS: self._user,
        }

    @property
    def survey(self) -> Survey:
        """The survey of the files; its first use reads them all."""
        if self._survey is None:
            self._survey = Survey()
            for index in range(len(self._paths)):
                for page in pages(self._opened(index).file):
                    if isinstance(page, Page):
                        self._survey.look(index, page, self._group, self._kind)
                    else:
                        self._survey.others.add(index)
                self._close(index)
        return self._survey

    @property
    def warnings(self) -> list[str]:
        """The parts that the export lacks or that are not used."""
        return self.survey.warnings()

    def parts(self) -> list[Events]:
        """Returns the events in parts: each must be applied before the next is published."""
        order = sorted(range(len(self._paths)), key=lambda index: (self.survey.rank(index), index))
        if not self.survey.is_first_load:
            return [self._pass(order, frozenset(KINDS))]
        found = [
            self._pass(order, frozenset(KINDS) - {USERS}),
            self._pass(order, frozenset({USERS}), Part.HELD),
            self._wishes(order),
        ]
        if any(self.survey.carries_rule(group) for group in self.survey.groups):
            found.append(self._pass(order, frozenset({GROUPS}), Part.RULES))
        return found

    def _read(self) -> Events:
        for part in self.parts():
            yield from part

    # -- files
    def _opened(self, index: int) -> FeedFile:
        """Returns a file at its beginning; standard input, which is read once, stays open."""
        source = self._sources.get(index)
        if source is None:
            source = FeedFile(self._paths[index], self.format, self._options)
            self._sources[index] = source
        source.file.seek(0)
        return source

    def _close(self, index: int) -> None:
        if self._paths[index] is not None:
            self._sources.pop(index).file.close()

    def _pass(
        self, order: list[int], kinds: frozenset[str], part: Part = Part.CONFIGURATION
    ) -> Events:
        """Yields the events of the objects of some kinds; in the first part, all problems too."""
        self._part, report = part, part is Part.CONFIGURATION
        for index in order:
            found = self.survey.kinds[index]
            if not kinds & found and not (report and index in self.survey.others):
                continue
            source = self._opened(index)
            yield from self._of_file(source, kinds, report)
            self._close(index)

    def _wishes(self, order: list[int]) -> Events:
        """Yields what users ask for and do not have, after everything held was adopted."""
        yield from self._pass(order, frozenset({USERS}), Part.WISHES)
        # Members whose user the pages do not have: the membership waits for the user (R22).
        source = self._opened(order[0])
        builder = EventBuilder(self._tenant, source.fingerprint, source.time)
        for user, groups in self.survey.memberships.items():
            if user not in self.survey.users:
                builder.begin(f"member.{user}")
                for group in groups:
                    item = builder.membership(True, user, group)
                    yield item if isinstance(item, FeedItem) else FeedProblem(source.name, 1, item)
        self._close(order[0])

    def _of_file(self, source: FeedFile, kinds: frozenset[str], report: bool) -> Events:
        builder = EventBuilder(self._tenant, source.fingerprint, source.time)
        for page in pages(source.file):
            if not isinstance(page, Page):
                if report:
                    yield FeedProblem(source.name, *page)
                continue
            if self._part not in REPEATED and (page.kind or USERS) in kinds:
                self.done_bytes = min(self.done_bytes + page.size, self.total_bytes or page.size)
            if reason := self._refusal(page):
                if report:
                    yield FeedProblem(source.name, page.line, reason)
                continue
            for number, entity in enumerate(page.objects):
                row = f"{page.line}.{number + 1}"
                builder.begin(f"{row}.{self._part.value}" if self._part in REPEATED else row)
                for result in self._entity(entity, page, kinds, report, builder):
                    if isinstance(result, FeedItem):
                        yield result
                    elif self._part not in REPEATED:
                        place = f"value[{number}]: " if page.is_list else ""
                        yield FeedProblem(source.name, page.line, place + result)

    def _entity(
        self, entity: Any, page: Page, kinds: frozenset[str], report: bool, builder: EventBuilder
    ) -> list[EventOrReason]:
        try:
            if not isinstance(entity, dict):
                raise UnreadableError(wrong_type("the item", entity, "an object"))
            kind = self._kind(entity, page)
            if kind == MEMBERS and kind in kinds:
                return self._member(entity, page.group or self._group, builder)
            if kind in kinds:
                found = self._readers[kind](entity, builder)
                # Nothing is half done; but a group's members are read one by one.
                return found if kind == GROUPS else reasons_or_events(found)
            if kind not in KINDS and report:
                self.skipped[kind] += 1
        except UnreadableError as error:
            # Reported once: what cannot be identified by the first pass, a user by the second.
            is_due = report or (self._part is Part.HELD and is_user(entity, page))
            return [str(error)] if is_due else []
        return []

    def _refusal(self, page: Page) -> str | None:
        """Returns why a page as a whole cannot be read, None if it can."""
        if page.kind == MEMBERS and (page.group or self._group) is None:
            return "this is a list of members: name their group with --group"
        if page.kind == USERS and self._group is not None and not page.delta:
            others = {GROUPS, SUBSCRIPTIONS, ORGANIZATION} & self.survey.pages.keys()
            if others:
                return (
                    f"with --group, this may list users or members of {self._group}, since the"
                    f" files also hold {', '.join(sorted(others))}: feed lists of members by"
                    " themselves"
                )
        return None

    def _kind(self, entity: Object, page: Page) -> str:
        """Returns the kind; under ``--group``, a list of users has its members, cast to users."""
        kind = kind_of(entity, page)
        is_cast = kind == USERS and self._group is not None and not page.delta
        return MEMBERS if is_cast else kind

    # -- readers, by kind of object
    def _subscription(self, entity: Object, builder: EventBuilder) -> list[EventOrReason]:
        if str(entity.get("appliesTo", "User")) != "User":
            self.skipped["subscription that is not for users"] += 1
            return []
        return objects.subscription(entity, builder, self._products, self._facts)

    def _organization(self, entity: Object, builder: EventBuilder) -> list[EventOrReason]:
        members = objects.tenant_members(entity)
        return [builder.tenant(**members)] if members else []

    def _of_group(self, entity: Object, builder: EventBuilder) -> list[EventOrReason]:
        id = entity.get("id")
        if objects.removal(entity) is not None:
            return [builder.group("group.deleted", id)]
        licenses = objects.licenses_of(entity)
        members = objects.group_members(entity, self.skipped)
        rule = self.survey.rule_members(str(normalized_id(id)), entity)
        facts = {"displayName": entity["displayName"]} if "displayName" in entity else {}
        carries = bool(rule.get(RULE))
        if self._part is Part.RULES:
            return [builder.group("group.upserted", id, **rule)] if carries else []
        if not (carries and self.survey.is_first_load):
            facts |= rule
        found = [builder.group("group.upserted", id, **facts)]
        if licenses is not None:
            licenses = [each for each in licenses if not self._is_unknown(each["skuId"])]
            found.append(objects.set_licenses(builder, "group", id, licenses))
        if not self.survey.is_first_load:
            found += [builder.membership(added, user, id) for user, added in members]
        return found

    def _is_unknown(self, sku: str) -> bool:
        """Returns whether a first load lacks a product that a group has.

        A group may keep a product that is not sold any more. It would defer the whole list (R21),
        and the members would lose the group's other licences.
        """
        survey = self.survey
        unknown = survey.is_first_load and bool(survey.plans) and sku not in survey.plans
        if unknown and self._products:
            self.skipped[f"licence of a group for {sku}, which subscribedSkus do not have"] += 1
        return unknown and self._products

    def _member(
        self, entity: Object, group: str | None, builder: EventBuilder
    ) -> list[EventOrReason]:
        added = objects.removal(entity) is None
        user = objects.member_id(entity, self.skipped)
        if user is None or self.survey.is_first_load:
            return []
        return [builder.membership(added, user, group)]

    def _user(self, entity: Object, builder: EventBuilder) -> list[EventOrReason]:
        id = normalized_id(entity.get("id"))
        if (reason := objects.removal(entity)) is not None:
            return [objects.user_deleted(builder, id, reason)]
        members = objects.user_members(entity)
        states = objects.assignment_states(entity)
        held = objects.licenses_of(entity)
        groups = self._groups_of(str(id), states or [])
        if self.survey.is_first_load:
            return self._first(builder, id, members, states, held, groups)
        self._expect(id, members, states, held, groups)
        found = [builder.user("user.upserted", id, **members)]
        if states is not None:
            direct = [
                objects.license_of(each) for each in states if each["assignedByGroup"] is None
            ]
            found.append(objects.set_licenses(builder, "user", id, direct))
        elif held:
            self.skipped["assignedLicenses of a user (select licenseAssignmentStates)"] += 1
        return found

    def _first(
        self,
        builder: EventBuilder,
        id: Any,
        members: dict[str, Any],
        states: list[dict[str, Any]] | None,
        held: list[dict[str, Any]] | None,
        groups: dict[str, str | None],
    ) -> list[EventOrReason]:
        """Returns the events of a user in a first load: first what is held, then what is wished."""
        wished = {group for group in groups if not self._is_held(group, states or [])}
        if self._part is Part.WISHES:
            if not wished:
                return []
        else:
            self._expect(id, members, states, held, groups)
            groups = {group: since for group, since in groups.items() if group not in wished}
        if states is not None:
            return [
                builder.user(
                    "user.snapshot", id, **members, **objects.snapshot_facts(groups, states)
                )
            ]
        found = [] if self._part is Part.WISHES else [builder.user("user.upserted", id, **members)]
        found += [builder.membership(True, id, group) for group in groups]
        return found

    def _is_held(self, group: str, states: list[dict[str, Any]]) -> bool:
        """Returns whether the user has a licence by the group, or the group gives none."""
        facts = self.survey.groups.get(group)
        return not (facts and facts.licenses) or any(
            each["assignedByGroup"] == group and each["state"] in objects.HELD for each in states
        )

    def _expect(
        self,
        id: Any,
        members: dict[str, Any],
        states: list[dict[str, Any]] | None,
        held: list[dict[str, Any]] | None,
        groups: dict[str, str | None],
    ) -> None:
        if self._compare and isinstance(id, str):
            unmatched = self.survey.unmatched(id, members, groups)
            self.expected[id] = expected_user(states, held, tuple(groups), unmatched)

    def _groups_of(self, user: str, states: list[dict[str, Any]]) -> dict[str, str | None]:
        """Returns the groups of a user, with since when it is known.

        A licence by a group whose members the pages do not list shows that the user is a member.
        """
        groups: dict[str, str | None] = dict.fromkeys(self.survey.memberships.get(user, ()))
        for state in states:
            group, since = state["assignedByGroup"], state.get("since")
            if group is None:
                continue
            facts = self.survey.groups.get(group)
            if group not in groups and (facts is None or not facts.members_listed):
                groups[group] = None
            if group in groups and since and since < (groups[group] or "~"):
                groups[group] = since
        return groups
