"""SCIM 2.0 in files: bulk requests, single requests, and resources or lists of them.

A request is an object with ``method``, ``path`` and ``data``, as in a bulk request. A group's PUT,
or a ``replace`` of its members, implies removals that only a server with state can determine
(``seatflow receive``); in a file it is a bad row.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from streams.ingest.event_builder import EventBuilder, EventOrReason, normalized_id
from streams.ingest.items import FeedItem, FeedProblem
from streams.ingest.scim_attributes import named_facts, used_attributes
from streams.ingest.scim_requests import (
    RequestError,
    apply_patch,
    filtered_member,
    members_of,
    patch_of,
    resource_of,
)
from streams.ingest.scim_resources import (
    ENTRA,
    GROUP,
    RESOURCES,
    USER,
    AnyUser,
    NamedFacts,
    changed_facts,
    facts_of_user,
    id_of,
    members_of_group,
    without_country_name,
)
from streams.ingest.source_files import FeedFile, FileFeed, documents, parse_object


def events_from_scim(path: str | Path, tenant: str, *, run: str = "") -> ScimFeed:
    """Returns the feed of one tenant's requests or resources. ``run``: see ``events_from_csv``."""
    return ScimFeed(path, tenant, run)


class ScimFeed(FileFeed):
    """The events of SCIM requests and resources."""

    format = "scim"
    suffixes = (".json", ".jsonl")

    def __init__(self, path: str | Path, tenant: str, run: str) -> None:
        super().__init__(path, (tenant, run))
        self._tenant = tenant
        self._users = KnownUsers()

    def _events(self, source: FeedFile) -> Iterator[FeedItem | FeedProblem]:
        builder, before = (
            EventBuilder(self._tenant, source.fingerprint, source.time),
            self.done_bytes,
        )
        for line, document in documents(source.file):
            body = parse_object(document)
            if isinstance(body, str):
                yield FeedProblem(source.name, line, body)
                continue
            self.done_bytes = before + source.file.tell()
            requests = _requests(body)
            bulk_ids = _created_ids(requests)
            for number, request in enumerate(requests, start=1):
                builder.begin(f"{line}.{number}")
                for result in events_of(request, builder, bulk_ids, self._users):
                    if isinstance(result, FeedItem):
                        yield result
                    else:
                        place = f"operation {number}: " if len(requests) > 1 else ""
                        yield FeedProblem(source.name, line, place + result)


def _requests(body: dict[str, Any]) -> list[Any]:
    """Returns the requests of a document, each in the form of a bulk operation."""
    if isinstance(operations := _member(body, "Operations"), list) and "path" not in body:
        return operations
    if isinstance(resources := _member(body, "Resources"), list):
        return [_as_request(resource) for resource in resources]
    return [body if "method" in body else _as_request(body)]


def _as_request(resource: Any) -> Any:
    schemas = resource.get("schemas") if isinstance(resource, dict) else None
    for path, schema in (("/Users", USER), ("/Groups", GROUP)):
        if isinstance(schemas, list) and schema in schemas:
            return {"method": "POST", "path": path, "data": resource}
    return {"path": None, "data": resource}


def _member(body: dict[str, Any], name: str) -> Any:
    """Returns a member by its name in any case: Microsoft's examples write ``operations``."""
    return next((value for key, value in body.items() if key.lower() == name.lower()), None)


def _created_ids(requests: list[Any]) -> dict[str, str]:
    """Returns, by ``bulkId``, the ids of the resources that are created; any operation may refer
    to them, also an earlier one.
    """
    ids = {}
    for request in requests:
        if isinstance(request, dict) and isinstance(bulk_id := request.get("bulkId"), str):
            try:
                kind, id = _target(request)
                if id is None:
                    ids[bulk_id] = id_of(kind, resource_of(kind, _member(request, "data")))
            except RequestError:
                continue  # reported when the request itself is read
    return ids


class Remark(str):
    """A sentence to report about a request whose events are published nevertheless."""

    __slots__ = ()


class KnownUsers:
    """The users that a file created, with what is used of them, as the receiver knows them.

    With it a file gives the events that the receiver would give, e.g. for a PUT without a location
    that an earlier request set. Of all other users only what a request says is known.
    """

    def __init__(self) -> None:
        self._resources: dict[str, str] = {}  # by id, as JSON: a tenth of the size of a model

    def get(self, id: str) -> Any | None:
        """Returns a copy of a user's resource, or None if the file did not create the user."""
        stored = self._resources.get(id)
        return stored and AnyUser.model_validate(orjson.loads(stored), scim_policy=ENTRA)

    def put(self, id: str, user: Any) -> None:
        """Keeps a user's resource."""
        # Decoded, since orjson returns its buffer, of at least 4 KiB.
        self._resources[id] = orjson.dumps(used_attributes(user.model_dump())).decode()

    def forget(self, id: str) -> None:
        """Forgets a deleted user."""
        self._resources.pop(id, None)


def events_of(
    request: Any, builder: EventBuilder, bulk_ids: dict[str, str], users: KnownUsers
) -> list[EventOrReason]:
    """Returns the events of one request, and remarks; or a single reason why there are none."""
    try:
        if not isinstance(request, dict):
            raise RequestError("not an object")
        kind, id = _target(request)
        method = str(_member(request, "method") or "").upper()
        data = _resolved(_member(request, "data"), bulk_ids)
        results = list(_results(method, kind, id, data, builder, users))
    except RequestError as error:
        return [str(error)]
    reasons = [each for each in results if isinstance(each, str) and not isinstance(each, Remark)]
    return list(reasons[:1]) or results


def _target(request: dict[str, Any]) -> tuple[str, str | None]:
    path = request.get("path")
    if not isinstance(path, str):
        raise RequestError(
            "neither a request with method and path, nor a User or Group according to its schemas"
        )
    kind, _, id = path.strip("/").partition("/")
    kind, id = kind[:1].upper() + kind[1:].lower(), normalized_id(id)
    if kind not in RESOURCES:
        raise RequestError(f"path is '{path[:60]}'; it must begin with /Users or /Groups")
    return kind, id or None


def _resolved(value: Any, bulk_ids: dict[str, str]) -> Any:
    """Returns the data with each ``bulkId:…`` replaced by the id it stands for."""
    if isinstance(value, str) and value.startswith("bulkId:"):
        if (id := bulk_ids.get(value.removeprefix("bulkId:"))) is None:
            raise RequestError(f"{value[:60]} refers to no operation that creates a resource")
        return id
    if isinstance(value, list):
        return [_resolved(each, bulk_ids) for each in value]
    if isinstance(value, dict):
        return {name: _resolved(each, bulk_ids) for name, each in value.items()}
    return value


def _results(
    method: str, kind: str, id: str | None, data: Any, builder: EventBuilder, users: KnownUsers
) -> Iterator[EventOrReason]:
    if method == "DELETE":
        if id is None:
            raise RequestError("the path of a DELETE must name the resource, as in /Users/id")
        if kind == "Users":
            users.forget(id)
            yield builder.user("user.deleted", id)
        else:
            yield builder.group("group.deleted", id)
    elif method == "PATCH":
        if id is None:
            raise RequestError("the path of a PATCH must name the resource, as in /Groups/id")
        if kind == "Users":
            yield from _patched_user(id, data, builder, users)
        else:
            yield from _patched_group(id, data, builder)
    elif method in ("POST", "PUT"):
        resource = resource_of(kind, data)
        id = id or id_of(kind, resource)
        if kind == "Users":
            yield from _user_changed(id, resource, users.get(id), None, builder, users)
        else:
            yield from _whole_group(method, id, resource, builder)
    else:
        raise RequestError(f"method is '{method[:20]}'; it must be POST, PUT, PATCH or DELETE")


def _whole_group(
    method: str, id: str, group: Any, builder: EventBuilder
) -> Iterator[EventOrReason]:
    if method == "PUT" and group.members is not None:
        raise RequestError(
            "PUT replaces all members, and a file does not tell which ones leave: use PATCH with"
            " the members added and removed, or send the request to seatflow receive"
        )
    yield builder.group("group.upserted", id, displayName=group.display_name)
    for user in members_of_group(group):
        yield builder.membership(True, user, id)


def _patched_user(
    id: str, data: Any, builder: EventBuilder, users: KnownUsers
) -> Iterator[EventOrReason]:
    before, user = users.get(id), users.get(id) or AnyUser.model_construct()
    patch = patch_of("Users", data, before)
    apply_patch(patch, user)
    named = named_facts(patch.operations or [], known=before is not None)
    yield from _user_changed(id, user, before, named, builder, users)


def _user_changed(
    id: str,
    user: Any,
    before: Any | None,
    named: NamedFacts | None,
    builder: EventBuilder,
    users: KnownUsers,
) -> Iterator[EventOrReason]:
    """Yields the event of a user; ``before`` and ``named`` as in ``changed_facts``."""
    facts = changed_facts(before and facts_of_user(before), facts_of_user(user), named)
    facts, problem = without_country_name(facts)
    if facts or (before is None and named is None):
        result = builder.user("user.upserted", id, **facts)
        yield result
        if isinstance(result, str):
            return
    if before is not None or named is None:
        users.put(id, user)
    if problem is not None:
        yield Remark(problem)


def _patched_group(id: str, data: Any, builder: EventBuilder) -> Iterator[EventOrReason]:
    for operation in patch_of("Groups", data).operations or []:
        op, path, value = operation.op.value, operation.path, operation.value
        attribute = path.attr.lower() if path is not None else ""
        if attribute == "displayname":
            yield builder.group("group.upserted", id, displayName=value if op != "remove" else None)
        elif attribute == "members":
            chosen = path.value_filter if path is not None else None
            yield from _patched_members(id, op, value, chosen, builder)


def _patched_members(
    id: str, op: str, value: Any, chosen: Any, builder: EventBuilder
) -> Iterator[EventOrReason]:
    if op == "add":
        yield from (builder.membership(True, user, id) for user in members_of(value))
    elif op == "remove" and chosen is not None:
        yield builder.membership(False, filtered_member(chosen), id)
    elif op == "remove" and value:
        yield from (builder.membership(False, user, id) for user in members_of(value))
    else:
        raise RequestError(
            f"{op} of all members: a file does not tell who they are; name the members, or send the"
            " request to seatflow receive"
        )
