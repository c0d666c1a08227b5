"""The users and groups of one tenant in the SCIM service, and the events of each change.

scim2-server implements the protocol, this module the storage. Members are stored separately from
their groups, so that adding a member to a large group writes one small record. Changes go to the
writer in their order; the response waits until Kafka has them (:mod:`streams.ingest.http.scim`).
"""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
from scim2_models import (
    Group,
    InvalidFilterException,
    InvalidValueException,
    NotFoundException,
    Resource,
    ResourceType,
    TooManyException,
)
from scim2_server.memory import InMemoryStorage
from scim2_server.storage import AsyncScimStorage, SearchPage

from engine.domain.proxy_address import lower_ascii
from streams.http_server import cancellation
from streams.ingest.event_builder import (
    EventBuilder,
    EventOrReason,
    normalized_id,
)
from streams.ingest.http.transactional_writer import RESOURCES, Record, Writer
from streams.ingest.scim_resources import (
    ENTRA,
    NamedFacts,
    changed_facts,
    facts_of_user,
    id_of,
    members_of_group,
    without_country_name,
)
from streams.ingest.scim_resources import RESOURCES as MODELS
from streams.runtime.deadline import Deadline
from streams.runtime.errors import log
from streams.runtime.log_events import VALUE_IGNORED

KINDS = {"User": "Users", "Group": "Groups"}
USERS = ResourceType.from_resource(MODELS["Users"])
GROUPS = ResourceType.from_resource(Group)
Members = dict[str, str | None]
"""Ids with the display name, where the sender gives one."""
# Attributes that are never stored.
NOT_STORED = {"password"}
MAX_FILTER_CHARACTERS = 2_000
MAX_SEARCH_SECONDS = 5.0
MAX_REMARKS = 1_000  # different ones that are logged for a tenant


def check_filter(text: str) -> None:
    """Refuses a filter that costs too much on every resource. Raises: InvalidFilterException."""
    if len(text) > MAX_FILTER_CHARACTERS:
        raise InvalidFilterException(
            detail=f"a filter may have at most {MAX_FILTER_CHARACTERS:,} characters"
        )


class _Bounded:
    """A search or its filter: as the original, except that the matching ends in time."""

    def __init__(self, original: Any, **instead: Any) -> None:
        self._original = original
        self.__dict__.update(instead)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


def _bounded_search(search: Any) -> Any:
    """Returns a search whose filter raises TooManyException after MAX_SEARCH_SECONDS."""
    if search.filter is None:
        return search
    deadline, matches = Deadline(MAX_SEARCH_SECONDS), search.filter.match

    def match(resource: Any) -> Any:
        if deadline.has_passed or cancellation.is_cancelled():
            raise TooManyException(
                detail="the filter takes too long: compare with eq, or narrow it"
            )
        return matches(resource)

    return _Bounded(search, filter=_Bounded(search.filter, match=match))


def _folded(name: object) -> str:
    return lower_ascii(name) if isinstance(name, str) else ""


class _Memory(InMemoryStorage):
    """An in-memory storage with ids that identify users: object id, or else user name."""

    def __init__(self) -> None:
        super().__init__()
        self.versions = itertools.count(time.time_ns())  # distinct from those of earlier receivers

    def generate_id(self, resource_type: ResourceType, resource: Resource[Any]) -> str:
        """Returns the id of a new resource; a random one if its own is taken or unsuitable."""
        kind = KINDS[str(resource_type.name)]
        resource = resource.model_copy(update={"id": None})
        id = id_of(kind, resource)
        taken = self._resources.get(resource_type.name, {})
        # A group's id is never used again: memberships of a deleted group stay facts (R13).
        own = kind == "Users" or id == normalized_id(resource.external_id)
        return id if own and id not in taken and len(id) <= 128 else uuid.uuid4().hex


class TenantStorage(AsyncScimStorage):
    """The storage of a tenant. ``members``: users by group; ``groups_of``: groups by user."""

    def __init__(self, tenant: str, writer: Writer) -> None:
        self.tenant = tenant
        self.source = ""
        self.named: NamedFacts | None = None  # by the PATCH of a user that is being applied
        self.remark: str | None = None  # on the last change of a user
        self._reported: set[str] = set()
        self._writer = writer
        self._outbox: list[Record] = []  # of the request that is carried out
        self._memory = _Memory()
        self._by_name: dict[str, dict[str, None]] = {}
        self._by_external_id: dict[str, dict[str, None]] = {}
        self.members: dict[str, Members] = {}
        self.groups_of: dict[str, Members] = {}

    # -- the interface of scim2-server
    async def get(
        self, resource_type: ResourceType, resource_id: str, *, response_parameters: Any = None
    ) -> Any:
        """Returns a resource, with a group's members on request. Raises: NotFoundException."""
        resource = self._memory.get(resource_type, resource_id)
        return self._whole(resource) if _wants_members(response_parameters) else resource

    async def search(
        self, resource_types: list[ResourceType], search_request: Any, *, position: Any = None
    ) -> SearchPage:
        """Returns a page of resources that match a filter."""
        text = str(search_request.filter or "")
        check_filter(text)
        bounded = _bounded_search(search_request)
        if "members" in text.lower():
            memory = InMemoryStorage()
            memory.resources = [self._whole(each) for each in self._memory.resources]
            return memory.search(resource_types, bounded, position=position)
        page = self._memory.search(resource_types, bounded, position=position)
        if _wants_members(search_request):
            page.resources = [self._whole(resource) for resource in page.resources]
        return page

    async def create(self, resource_type: ResourceType, resource: Resource[Any]) -> Any:
        """Creates a resource and sends its events."""
        members = members_of_group(resource) if isinstance(resource, Group) else {}
        created = self._memory.create(resource_type, _bare(resource))
        try:
            self._changed(None, created, {}, members)
        except InvalidValueException:
            self._memory.delete(resource_type, str(created.id))
            raise
        self._index_user(None, created)
        return self._whole(created)

    async def update(
        self,
        resource_type: ResourceType,
        resource: Resource[Any],
        *,
        expected_version: str | None = None,
    ) -> Any:
        """Replaces a resource and sends the events of the difference."""
        id = str(resource.id)
        before = self._memory.get(resource_type, id)
        members = members_of_group(resource) if isinstance(resource, Group) else {}
        updated = self._memory.update(
            resource_type, _bare(resource), expected_version=expected_version
        )
        try:
            self._changed(before, updated, self.members.get(id, {}), members)
        except InvalidValueException:
            self._memory.update(resource_type, before)
            raise
        self._index_user(before, updated)
        return self._whole(updated)

    async def delete(
        self, resource_type: ResourceType, resource_id: str, *, expected_version: str | None = None
    ) -> None:
        """Deletes a resource with its memberships, and sends the event."""
        before = self._memory.get(resource_type, resource_id)
        self._memory.delete(resource_type, resource_id, expected_version=expected_version)
        self._index_user(before, None)
        builder = self._builder()
        if isinstance(before, Group):
            results = [builder.group("group.deleted", resource_id)]
            left = [(resource_id, user) for user in self.members.get(resource_id, {})]
        else:
            results = [builder.user("user.deleted", resource_id)]
            left = [(group, resource_id) for group in self.groups_of.get(resource_id, {})]
        records = [Record(RESOURCES, self._key(before), None)]
        records += [self._member(group, user, False) for group, user in left]
        self._send(results, records)

    def find(self, kind: str, id: str) -> Any | None:
        """Returns a resource without members, or None; ``kind``: "Users" or "Groups"."""
        try:
            return self._memory.get(USERS if kind == "Users" else GROUPS, id)
        except NotFoundException:
            return None

    def find_user(self, external_id: str | None, name: str | None) -> Any | None:
        """Returns a copy of the user with this external id or, in any case, user name; or None."""
        ids = self._by_external_id.get(external_id or "") or self._by_name.get(_folded(name))
        return self._memory.get(USERS, next(iter(ids))) if ids else None

    def _index_user(self, before: Any, after: Any) -> None:
        """Brings the indexes of ``find_user`` up to date with a change of a resource."""
        for user in (before, after):
            if user is None or isinstance(user, Group):
                continue
            for index, value in (
                (self._by_name, _folded(user.user_name)),
                (self._by_external_id, user.external_id),
            ):
                if not value:
                    continue
                if user is after:
                    index.setdefault(value, {})[user.id] = None
                elif value in index:
                    index[value].pop(user.id, None)
                    if not index[value]:
                        del index[value]

    def change_members(self, group: str, added: Members, removed: Iterable[str]) -> None:
        """Adds and removes members without copying the group. Raises: NotFoundException."""
        self._memory.get(GROUPS, group)  # or NotFoundException
        present = self.members.get(group, {})
        leaving = set(removed)
        remaining = {user: shown for user, shown in present.items() if user not in leaving}
        self._members_changed(group, present, remaining | added, [], [])

    # -- events
    def _changed(self, before: Any, after: Any, old: Members, new: Members) -> None:
        builder, id = self._builder(), str(after.id)
        results: list[EventOrReason] = []
        if isinstance(after, Group):
            if before is None or before.display_name != after.display_name:
                results.append(builder.group("group.upserted", id, displayName=after.display_name))
        else:
            known = facts_of_user(before) if before else None
            changed = changed_facts(known, facts_of_user(after), self.named)
            changed, self.remark = without_country_name(changed)
            if self.remark is not None:
                self._report(self.remark)
            if changed or before is None:
                results.append(builder.user("user.upserted", id, **changed))
        records = [Record(RESOURCES, self._key(after), _stored(after))]
        self._members_changed(id, old, new, results, records)

    def _members_changed(
        self,
        group: str,
        old: Members,
        new: Members,
        results: list[EventOrReason],
        records: list[Record],
    ) -> None:
        builder = self._builder()
        joined = {user: None for user in new if user not in old}
        left = [user for user in old if user not in new]
        results += [builder.membership(True, user, group) for user in joined]
        results += [builder.membership(False, user, group) for user in left]
        if bad := next((each for each in results if isinstance(each, str)), None):
            raise InvalidValueException(detail=bad)  # before anything is stored
        displayed = [user for user in new if user in joined or new[user] != old.get(user)]
        records += [self._member(group, user, True, new[user]) for user in displayed]
        records += [self._member(group, user, False) for user in left]
        self._send(results, records)

    def _report(self, remark: str) -> None:
        """Logs what the sender of a request ought to know; each text once."""
        if remark not in self._reported and len(self._reported) < MAX_REMARKS:
            self._reported.add(remark)
            log.warning(VALUE_IGNORED, tenant=self.tenant, source=self.source, why=remark)

    def _builder(self) -> EventBuilder:
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        return EventBuilder(self.tenant, f"{self.source}:{uuid.uuid4().hex[:16]}", now)

    def _send(self, results: list[EventOrReason], records: list[Record]) -> None:
        items = []
        for each in results:
            if isinstance(each, str):
                raise InvalidValueException(detail=each)
            items.append(Record(each.topic, each.key.decode(), each.value))
        self._outbox += items
        self._outbox += records

    def flush(self) -> None:
        """Gives the writer what the request has changed; on the writer's event loop."""
        if self._outbox:
            self._writer.add(self._outbox)
            self._outbox = []

    # -- stored records
    def _key(self, resource: Any) -> str:
        kind = "Groups" if isinstance(resource, Group) else "Users"
        return f"{self.tenant}/{kind}/{resource.id}"

    def _member(self, group: str, user: str, joined: bool, shown: str | None = None) -> Record:
        self._index(group, user, joined, shown)
        key = f"{self.tenant}/Members/{group}/{user}"
        return Record(RESOURCES, key, orjson.dumps({"display": shown}) if joined else None)

    def _index(self, group: str, user: str, joined: bool, shown: str | None) -> None:
        for table, one, other in (
            (self.members, group, user),
            (self.groups_of, user, group),
        ):
            if joined:
                table.setdefault(one, {})[other] = shown
            elif one in table:
                table[one].pop(other, None)
                if not table[one]:
                    del table[one]

    def load(self, remembered: Mapping[tuple[str, str], bytes]) -> None:
        """Loads the records of earlier receivers, by kind and the rest of their key."""
        resources = []
        for (kind, rest), value in remembered.items():
            if kind == "Members":
                group, user = rest.split("/", 1)
                self._index(group, user, True, orjson.loads(value).get("display"))
            else:
                with ENTRA:
                    resources.append(MODELS[kind].model_validate(orjson.loads(value)))
        self._memory.resources = resources
        for each in resources:
            self._index_user(None, each)

    def _whole(self, resource: Any) -> Any:
        if isinstance(resource, Group) and (users := self.members.get(str(resource.id))):
            member: Any = Group.Members
            resource.members = [
                member(value=user, type="User", display=shown, ref=f"Users/{user}")
                for user, shown in users.items()
            ]
        return resource


def _bare(resource: Any) -> Any:
    update: dict[str, Any] = dict.fromkeys(NOT_STORED & set(type(resource).model_fields))
    if isinstance(resource, Group):
        update["members"] = None
    return resource.model_copy(update=update)


def _stored(resource: Any) -> bytes:
    return orjson.dumps(resource.model_dump())


def _wants_members(parameters: Any) -> bool:
    """Returns whether members are part of the response; Entra excludes them."""
    excluded = getattr(parameters, "excluded_attributes", None) or []
    return not any(str(each).lower() == "members" for each in excluded)
