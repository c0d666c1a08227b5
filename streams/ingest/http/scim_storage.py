"""The users and groups of one tenant as a SCIM service keeps them, and the events of each change.

scim2-server speaks the protocol; this stores. Members are kept beside their groups, so that one
more member of a large group is one small record. What changes goes to the writer in the order of
the changes; the answer waits until Kafka has it (:mod:`streams.ingest.http.scim`).
"""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
from scim2_models import Group, InvalidValueException, Resource, ResourceType
from scim2_server.memory import InMemoryStorage
from scim2_server.storage import AsyncScimStorage, SearchPage

from streams.ingest.event_builder import EventBuilder, EventOrReason
from streams.ingest.http.transactional_writer import RESOURCES, Record, Writer
from streams.ingest.scim_resources import ENTRA, facts_of_user, id_of, members_of_group
from streams.ingest.scim_resources import RESOURCES as MODELS

KINDS = {"User": "Users", "Group": "Groups"}
USERS = ResourceType.from_resource(MODELS["Users"])
GROUPS = ResourceType.from_resource(Group)
Members = dict[str, str | None]
"""Ids, and how each is shown where its sender says so."""
# What a personnel system says in secret is nobody's to keep.
NOT_KEPT = {"password"}


class _Memory(InMemoryStorage):
    """Ids that say whom they are of: the directory's object id, else the user's name."""

    def __init__(self) -> None:
        super().__init__()
        self.versions = itertools.count(time.time_ns())  # not again those of an earlier receiver

    def generate_id(self, resource_type: ResourceType, resource: Resource[Any]) -> str:
        kind = KINDS[str(resource_type.name)]
        resource = resource.model_copy(update={"id": None})
        id = id_of(kind, resource)
        taken = self._resources.get(resource_type.name, {})
        # A group's id is never used again: memberships of a deleted group stay facts (R13).
        own = kind == "Users" or id == resource.external_id
        return id if own and id not in taken and len(id) <= 128 else uuid.uuid4().hex


class TenantStorage(AsyncScimStorage):
    """``members``: group -> its users; ``groups_of``: user -> their groups."""

    def __init__(self, tenant: str, writer: Writer) -> None:
        self.tenant = tenant
        self.source = ""
        self._writer = writer
        self._memory = _Memory()
        self.members: dict[str, Members] = {}
        self.groups_of: dict[str, Members] = {}

    # -- what the service asks for
    async def get(
        self, resource_type: ResourceType, resource_id: str, *, response_parameters: Any = None
    ) -> Any:
        resource = self._memory.get(resource_type, resource_id)
        return self._whole(resource) if _wants_members(response_parameters) else resource

    async def search(
        self, resource_types: list[ResourceType], search_request: Any, *, position: Any = None
    ) -> SearchPage:
        if "members" in str(search_request.filter or "").lower():
            memory = InMemoryStorage()
            memory.resources = [self._whole(each) for each in self._memory.resources]
            return memory.search(resource_types, search_request, position=position)
        page = self._memory.search(resource_types, search_request, position=position)
        if _wants_members(search_request):
            page.resources = [self._whole(resource) for resource in page.resources]
        return page

    async def create(self, resource_type: ResourceType, resource: Resource[Any]) -> Any:
        members = members_of_group(resource) if isinstance(resource, Group) else {}
        created = self._memory.create(resource_type, _bare(resource))
        try:
            self._changed(None, created, {}, members)
        except InvalidValueException:
            self._memory.delete(resource_type, str(created.id))
            raise
        return self._whole(created)

    async def update(
        self,
        resource_type: ResourceType,
        resource: Resource[Any],
        *,
        expected_version: str | None = None,
    ) -> Any:
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
        return self._whole(updated)

    async def delete(
        self, resource_type: ResourceType, resource_id: str, *, expected_version: str | None = None
    ) -> None:
        before = self._memory.get(resource_type, resource_id)
        self._memory.delete(resource_type, resource_id, expected_version=expected_version)
        builder = self._builder()
        if isinstance(before, Group):
            made = [builder.group("group.deleted", resource_id)]
            left = [(resource_id, user) for user in self.members.get(resource_id, {})]
        else:
            made = [builder.user("user.deleted", resource_id)]
            left = [(group, resource_id) for group in self.groups_of.get(resource_id, {})]
        records = [Record(RESOURCES, self._key(before), None)]
        records += [self._member(group, user, False) for group, user in left]
        self._send(made, records)

    def find_user(self, external_id: str | None, name: str | None) -> Any | None:
        """Whom a personnel system means: by its own id for them, or by their name."""
        everybody: list[Any] = [u for u in self._memory.resources if not isinstance(u, Group)]
        for user in everybody:
            same_name = bool(name) and (user.user_name or "").lower() == str(name).lower()
            if same_name or (external_id and user.external_id == external_id):
                return user.model_copy(deep=True)
        return None

    def change_members(self, group: str, added: Members, removed: Iterable[str]) -> None:
        """The short way for what large groups get all day. NotFoundException: no such group."""
        self._memory.get(GROUPS, group)  # or NotFoundException
        present = self.members.get(group, {})
        gone = set(removed)
        wanted = {user: shown for user, shown in present.items() if user not in gone}
        self._members_changed(group, present, wanted | added, [], [])

    # -- events
    def _changed(self, before: Any, after: Any, old: Members, new: Members) -> None:
        builder, id = self._builder(), str(after.id)
        made: list[EventOrReason] = []
        if isinstance(after, Group):
            if before is None or before.display_name != after.display_name:
                made.append(builder.group("group.upserted", id, displayName=after.display_name))
        else:
            facts = facts_of_user(after)
            known = facts_of_user(before) if before else dict.fromkeys(facts)
            changed = {name: value for name, value in facts.items() if value != known[name]}
            if changed or before is None:
                made.append(builder.user("user.upserted", id, **changed))
        records = [Record(RESOURCES, self._key(after), _stored(after))]
        self._members_changed(id, old, new, made, records)

    def _members_changed(
        self,
        group: str,
        old: Members,
        new: Members,
        made: list[EventOrReason],
        records: list[Record],
    ) -> None:
        builder = self._builder()
        joined = {user: None for user in new if user not in old}
        left = [user for user in old if user not in new]
        made += [builder.membership(True, user, group) for user in joined]
        made += [builder.membership(False, user, group) for user in left]
        if bad := next((each for each in made if isinstance(each, str)), None):
            raise InvalidValueException(detail=bad)  # before anything is remembered
        shown = [user for user in new if user in joined or new[user] != old.get(user)]
        records += [self._member(group, user, True, new[user]) for user in shown]
        records += [self._member(group, user, False) for user in left]
        self._send(made, records)

    def _builder(self) -> EventBuilder:
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        return EventBuilder(self.tenant, f"{self.source}:{uuid.uuid4().hex[:16]}", now)

    def _send(self, made: list[EventOrReason], records: list[Record]) -> None:
        items = []
        for each in made:
            if isinstance(each, str):
                raise InvalidValueException(detail=each)
            items.append(Record(each.topic, each.key.decode(), each.value))
        if items or records:
            self._writer.add([*items, *records])

    # -- what is remembered
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
        """What an earlier receiver knew: (kind, rest of the key) -> value."""
        resources = []
        for (kind, rest), value in remembered.items():
            if kind == "Members":
                group, user = rest.split("/", 1)
                self._index(group, user, True, orjson.loads(value).get("display"))
            else:
                with ENTRA:
                    resources.append(MODELS[kind].model_validate(orjson.loads(value)))
        self._memory.resources = resources

    def _whole(self, resource: Any) -> Any:
        if isinstance(resource, Group) and (users := self.members.get(str(resource.id))):
            member: Any = Group.Members
            resource.members = [
                member(value=user, type="User", display=shown, ref=f"Users/{user}")
                for user, shown in users.items()
            ]
        return resource


def _bare(resource: Any) -> Any:
    update: dict[str, Any] = dict.fromkeys(NOT_KEPT & set(type(resource).model_fields))
    if isinstance(resource, Group):
        update["members"] = None
    return resource.model_copy(update=update)


def _stored(resource: Any) -> bytes:
    return orjson.dumps(resource.model_dump())


def _wants_members(parameters: Any) -> bool:
    """Entra asks for groups with ``excludedAttributes=members``, and means it."""
    excluded = getattr(parameters, "excluded_attributes", None) or []
    return not any(str(each).lower() == "members" for each in excluded)
