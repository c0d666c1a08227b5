"""The table of calls: method, path and what answers. The reference page is made from it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.concurrency import run_in_threadpool

from streams.console.graph import changes, deleted_items, delta, directory, listings, objects
from streams.console.graph.calls import Answer, Call
from streams.console.graph.errors import GraphError, not_found

BIN = deleted_items.PATH
Handler = Callable[..., Any]
"""Of a call and the ids in its path. Reads are plain functions and run in a thread."""


@dataclass(frozen=True, slots=True)
class Route:
    """A call that is answered."""

    method: str
    pattern: str
    handler: Handler
    about: str

    @property
    def segments(self) -> list[str]:
        """The parts of the pattern; ``{…}`` stands for an id."""
        return self.pattern.split("/")


def _get_user(call: Call, key: str) -> Answer:
    return objects.entity(call, listings.users(call.tenant), objects.user_id(call, key))


def _get_group(call: Call, key: str) -> Answer:
    return objects.entity(call, listings.groups(call.tenant), objects.group_id(call, key))


def _of(
    answer: Callable[[Call, listings.Source], Answer], source: Callable[[str], listings.Source]
) -> Handler:
    return lambda call: answer(call, source(call.tenant))


def _of_group(
    answer: Callable[[Call, listings.Source], Answer], name: str, mixed: bool = True
) -> Handler:
    def handler(call: Call, key: str) -> Answer:
        """Answers for the members of a group."""
        group = objects.group_id(call, key)
        return answer(call, listings.members(call.db, call.tenant, group, name, mixed))

    return handler


def _of_user(
    answer: Callable[[Call, listings.Source], Answer], name: str, mixed: bool = True
) -> Handler:
    def handler(call: Call, key: str) -> Answer:
        """Answers for the groups of a user."""
        user = objects.user_id(call, key)
        return answer(call, listings.member_of(call.tenant, user, name, mixed))

    return handler


def _in_error(answer: Callable[[Call, listings.Source], Answer]) -> Handler:
    def handler(call: Call, key: str) -> Answer:
        """Answers for the members of a group who have errors from it."""
        group = objects.group_id(call, key)
        return answer(call, listings.members_in_error(call.tenant, group))

    return handler


def _read_routes() -> list[Route]:
    page, number = listings.collection, listings.counted
    found = [
        Route("GET", "users/$count", _of(number, listings.users), "the number of users"),
        Route("GET", "users", _of(page, listings.users), "users"),
        Route("GET", "users/delta", delta.users_delta, "users, then what changed"),
        Route("GET", "users/{user}", _get_user, "a user, by id or principal name"),
        Route("GET", "users/{user}/licenseDetails", objects.details, "products and plans"),
        Route("GET", "users/{user}/licenseDetails/{id}", objects.details, "one of them"),
        Route("GET", "groups/$count", _of(number, listings.groups), "the number of groups"),
        Route("GET", "groups", _of(page, listings.groups), "groups"),
        Route("GET", "groups/delta", delta.groups_delta,
              "groups and memberships, then what changed"),
        Route("GET", "groups/{group}", _get_group, "a group"),
        Route("GET", "groups/{group}/members/$ref", _of_group(listings.references, "members"),
              "the members' addresses"),
        Route("GET", "groups/{group}/membersWithLicenseErrors", _in_error(page),
              "members with errors from this group"),
        Route("GET", "groups/{group}/membersWithLicenseErrors/$count", _in_error(number),
              "their number"),
        Route("GET", "subscribedSkus", _of(page, listings.skus), "products and their units"),
        Route("GET", "subscribedSkus/{id}", objects.sku, "a product, by its own id"),
        Route("GET", "organization", objects.organizations, "the tenant"),
        Route("GET", "organization/{tenant}", objects.organizations, "the tenant, by its id"),
        Route("GET", "directoryObjects/{id}", objects.directory_object, "a user or group"),
    ]  # fmt: skip
    for name in ("memberOf", "transitiveMemberOf"):
        cast = _of_user(page, name, mixed=False)
        path = f"users/{{user}}/{name}"
        found += [
            Route("GET", path, _of_user(page, name), "the user's groups"),
            Route("GET", f"{path}/$count", _of_user(number, name), "their number"),
            Route("GET", f"{path}/graph.group", cast, "the user's groups, typed"),
            Route("GET", f"{path}/graph.group/$count", _of_user(number, name), "their number"),
        ]
    for name in ("members", "transitiveMembers"):
        cast = _of_group(page, name, mixed=False)
        path = f"groups/{{group}}/{name}"
        found += [
            Route("GET", path, _of_group(page, name), "the direct members"),
            Route("GET", f"{path}/$count", _of_group(number, name), "their number"),
            Route("GET", f"{path}/graph.user", cast, "the direct members, typed"),
            Route("GET", f"{path}/graph.user/$count", _of_group(number, name), "their number"),
        ]
    return found


ROUTES = [
    *_read_routes(),
    Route("GET", f"{BIN}/graph.user", _of(listings.collection, deleted_items.deleted_users),
          "users in the recycle bin"),
    Route("GET", f"{BIN}/graph.user/$count", _of(listings.counted, deleted_items.deleted_users),
          "their number"),
    Route("GET", f"{BIN}/{{user}}", deleted_items.deleted_user, "one of them"),
    Route("POST", f"{BIN}/{{user}}/restore", deleted_items.restore, "restores a user"),
    Route("DELETE", f"{BIN}/{{user}}", deleted_items.erase, "deletes a user for good"),
    Route("POST", "users", directory.create_user, "creates a user"),
    Route("PATCH", "users/{user}", directory.change_user, "changes a user"),
    Route("DELETE", "users/{user}", directory.delete_user, "deletes a user into the recycle bin"),
    Route("POST", "users/{user}/assignLicense", changes.assign_user, "direct licences"),
    Route("POST", "users/{user}/reprocessLicenseAssignment", changes.reprocess_user, "retries"),
    Route("POST", "groups", directory.create_group, "creates a group"),
    Route("PATCH", "groups/{group}", directory.change_group, "changes a group, adds members"),
    Route("DELETE", "groups/{group}", directory.delete_group, "deletes a group"),
    Route("POST", "groups/{group}/assignLicense", changes.assign_group, "a group's licences"),
    Route("POST", "groups/{group}/reprocessLicenseAssignment", changes.reprocess_group, "retries"),
    Route("POST", "groups/{group}/members/$ref", directory.add_member, "adds a member"),
    Route("DELETE", "groups/{group}/members/{user}/$ref", directory.remove_member,
          "removes a member"),
]  # fmt: skip

_WITH_KEY = re.compile(r"([\w.]+)\((?:(\w+)=)?'((?:[^']|'')+)'\)")
_CALLED = re.compile(r"([\w.]+)\(\)")
_GRAPH = "microsoft.graph."
_CAST = "graph."


def normalized(path: str) -> list[str]:
    """Returns the segments of a path: ``users('a')`` is ``users/a``, ``delta()`` is ``delta``."""
    found: list[str] = []
    for segment in path.strip("/").split("/"):
        if hit := _WITH_KEY.fullmatch(segment):
            if hit[2] and hit[2].lower() not in ("userprincipalname", "id"):
                raise not_found(f"{segment!r} is no address: there are id and userPrincipalName.")
            found += [hit[1], hit[3].replace("''", "'")]
        elif hit := _CALLED.fullmatch(segment):
            found.append(hit[1])
        else:
            found.append(segment)
    return found


def _is_literal(pattern: str, segment: str) -> bool:
    name = segment.lower()
    if name.startswith(_GRAPH):
        name = _CAST + name.removeprefix(_GRAPH)
    wanted = pattern.lower()
    return name in (wanted, _CAST + wanted)


def _match(route: Route, segments: Sequence[str]) -> list[str] | None:
    """Returns the ids in a path, or None if it is none of this route's."""
    pattern = route.segments
    if len(pattern) != len(segments):
        return None
    ids = []
    for wanted, given in zip(pattern, segments, strict=True):
        if wanted.startswith("{"):
            if not given or given.startswith("$"):
                return None
            ids.append(given)
        elif not _is_literal(wanted, given):
            return None
    return ids


def find(method: str, segments: Sequence[str]) -> tuple[Handler, list[str]]:
    """Returns what answers a call, and the ids in its path. Raises: GraphError 404, 405."""
    others = set()
    for route in ROUTES:
        ids = _match(route, segments)
        if ids is None:
            continue
        if route.method == method:
            return route.handler, ids
        others.add(route.method)
    shown = "/".join(segments)[:200]
    if others:
        there_are = ", ".join(sorted(others))
        message = f"{method} is not supported for {shown!r}; there is {there_are}."
        raise GraphError(405, message, headers={"allow": there_are})
    raise not_found(f"Seatflow has no {shown!r}; docs/reference/graph.md lists the calls.")


async def answer(call: Call) -> Answer:
    """Answers a call. Raises: GraphError."""
    handler, ids = find(call.method, call.path)
    if inspect.iscoroutinefunction(handler):
        if not call.principal.can_operate(call.tenant):
            message = f"{call.principal.name} is a reader: this needs the role operator."
            raise GraphError(403, message)
        found: Answer = await handler(call, *ids)
        return found
    return await run_in_threadpool(handler, call, *ids)
