"""SCIM 2.0 in files: bulk requests, single requests, lists of resources, one or one per line.

A request is an object with ``method``, ``path`` and ``data``, as in a bulk request. What a group's
PUT or a ``replace`` of its members takes away only a server can know: ``seatflow receive`` does
that; here it is a bad row.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scim2_models import Group

from streams.ingest.event_builder import Made, Maker
from streams.ingest.items import FeedItem, FeedProblem
from streams.ingest.scim_requests import (
    RequestError,
    filtered_member,
    members_of,
    patch_of,
    resource_of,
)
from streams.ingest.scim_resources import (
    GROUP,
    RESOURCES,
    USER,
    AnyUser,
    id_of,
    known_facts,
    members_of_group,
    patched_facts,
)
from streams.ingest.source_files import FeedFile, FileFeed, documents, parsed


def events_from_scim(path: str | Path, tenant: str, *, run: str = "") -> ScimFeed:
    """Requests or resources of one tenant; ``run``: see ``events_from_csv``."""
    return ScimFeed(path, tenant, run)


class ScimFeed(FileFeed):
    format = "scim"
    suffixes = (".json", ".jsonl")

    def __init__(self, path: str | Path, tenant: str, run: str) -> None:
        super().__init__(path, (tenant, run))
        self._tenant = tenant

    def _events(self, source: FeedFile) -> Iterator[FeedItem | FeedProblem]:
        make, before = Maker(self._tenant, source.mark, source.time), self.done_bytes
        for line, document in documents(source.file, source.name):
            body = parsed(document) if isinstance(document, bytes) else document
            if not isinstance(body, dict):
                yield FeedProblem(source.name, line, str(body))
                continue
            self.done_bytes = before + source.file.tell()
            requests = _requests(body)
            made_ids = _ids_made(requests)
            for number, request in enumerate(requests, start=1):
                make.begin(f"{line}.{number}")
                for made in made_of(request, make, made_ids):
                    if isinstance(made, FeedItem):
                        yield made
                    else:
                        where = f"operation {number}: " if len(requests) > 1 else ""
                        yield FeedProblem(source.name, line, where + made)


def _requests(body: dict[str, Any]) -> list[Any]:
    """What a document asks for, each as an operation of a bulk request."""
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
    """A member by its name in any case: Microsoft's own examples write ``operations``."""
    return next((value for key, value in body.items() if key.lower() == name.lower()), None)


def _ids_made(requests: list[Any]) -> dict[str, str]:
    """``bulkId`` -> id of what the operation makes, which others may name before it."""
    ids = {}
    for request in requests:
        if isinstance(request, dict) and isinstance(bulk_id := request.get("bulkId"), str):
            try:
                kind, id = _target(request)
                if id is None:
                    ids[bulk_id] = id_of(kind, resource_of(kind, _member(request, "data")))
            except RequestError:
                continue  # it will be told when it is the request's turn
    return ids


def made_of(request: Any, make: Maker, bulk_ids: dict[str, str]) -> list[Made]:
    """The events of one request, or the one reason why there are none."""
    try:
        if not isinstance(request, dict):
            raise RequestError("not an object")
        kind, id = _target(request)
        method = str(_member(request, "method") or "").upper()
        data = _resolved(_member(request, "data"), bulk_ids)
        made = list(_made(method, kind, id, data, make))
    except RequestError as refused:
        return [str(refused)]
    reasons = [each for each in made if isinstance(each, str)]
    return list(reasons[:1]) or made


def _target(request: dict[str, Any]) -> tuple[str, str | None]:
    path = request.get("path")
    if not isinstance(path, str):
        raise RequestError(
            "neither a request with method and path, nor a User or a Group by its schemas"
        )
    kind, _, id = path.strip("/").partition("/")
    kind = kind[:1].upper() + kind[1:].lower()
    if kind not in RESOURCES:
        raise RequestError(f"path is '{path[:60]}'; it must begin with /Users or /Groups")
    return kind, id or None


def _resolved(value: Any, bulk_ids: dict[str, str]) -> Any:
    """The data with ``bulkId:…`` replaced by the ids they stand for."""
    if isinstance(value, str) and value.startswith("bulkId:"):
        if (id := bulk_ids.get(value.removeprefix("bulkId:"))) is None:
            raise RequestError(
                f"{value[:60]} is the bulkId of no operation that could be carried out"
            )
        return id
    if isinstance(value, list):
        return [_resolved(each, bulk_ids) for each in value]
    if isinstance(value, dict):
        return {name: _resolved(each, bulk_ids) for name, each in value.items()}
    return value


def _made(method: str, kind: str, id: str | None, data: Any, make: Maker) -> Iterator[Made]:
    if method == "DELETE":
        if id is None:
            raise RequestError("DELETE must name what to delete, as in /Users/id")
        is_user = kind == "Users"
        yield make.user("user.deleted", id) if is_user else make.group("group.deleted", id)
    elif method == "PATCH":
        if id is None:
            raise RequestError("PATCH must name what to change, as in /Groups/id")
        yield from (_patched_user if kind == "Users" else _patched_group)(id, data, make)
    elif method in ("POST", "PUT"):
        resource = resource_of(kind, data)
        id = id or id_of(kind, resource)
        if kind == "Users":
            yield make.user("user.upserted", id, **known_facts(resource))
        else:
            yield from _whole_group(method, id, resource, make)
    else:
        raise RequestError(f"method is '{method[:20]}'; it must be POST, PUT, PATCH or DELETE")


def _whole_group(method: str, id: str, group: Any, make: Maker) -> Iterator[Made]:
    if method == "PUT" and group.members is not None:
        raise RequestError(
            "PUT replaces all members, and who leaves is not in the file: give what was added and"
            " removed as PATCH, or send it to seatflow receive"
        )
    yield make.group("group.upserted", id, displayName=group.display_name)
    for user in members_of_group(group):
        yield make.membership(True, user, id)


def _patched_user(id: str, data: Any, make: Maker) -> Iterator[Made]:
    facts = patched_facts(patch_of(AnyUser, data))
    if facts:
        yield make.user("user.upserted", id, **facts)


def _patched_group(id: str, data: Any, make: Maker) -> Iterator[Made]:
    for operation in patch_of(Group, data).operations or []:
        op, path, value = operation.op.value, operation.path, operation.value
        if path is None:
            values = value if isinstance(value, dict) else {}
        else:
            values = {path.attr: value}
        for name, one in values.items():
            lower = name.rpartition(":")[2].lower()
            if lower == "displayname":
                yield make.group("group.upserted", id, displayName=one if op != "remove" else None)
            elif lower == "members":
                chosen = path.value_filter if path is not None else None
                yield from _patched_members(id, op, one, chosen, make)


def _patched_members(id: str, op: str, value: Any, chosen: Any, make: Maker) -> Iterator[Made]:
    if op == "add":
        yield from (make.membership(True, user, id) for user in members_of(value))
    elif op == "remove" and chosen is not None:
        yield make.membership(False, filtered_member(chosen), id)
    elif op == "remove" and value:
        yield from (make.membership(False, user, id) for user in members_of(value))
    else:
        raise RequestError(
            f"{op} of all members: who is in the group is not in the file; name the members, or"
            " send it to seatflow receive"
        )
