"""Pages of Microsoft Graph: what a page lists, by its context, its links and its objects.

A page is a response of Graph (``{"@odata.context": …, "value": […]}``), a single object, or a list
of objects without a page around it. Nothing here knows events.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from streams.ingest.source_files import NotJsonError, documents, parse
from streams.runtime.errors import SenderError

Object = dict[str, Any]

USERS, GROUPS, MEMBERS = "users", "groups", "members"
SUBSCRIPTIONS, ORGANIZATION = "subscribedSkus", "organization"
KINDS = (SUBSCRIPTIONS, ORGANIZATION, GROUPS, MEMBERS, USERS)
"""The kinds of objects that are read, in the order in which they are safe to load."""

# Members that identify a kind of object, since no other kind has them.
_IDENTIFYING = {
    SUBSCRIPTIONS: {"prepaidUnits", "consumedUnits"},
    ORGANIZATION: {"verifiedDomains", "countryLetterCode"},
    GROUPS: {"members@delta", "groupTypes", "securityEnabled", "membershipRule"},
    USERS: {"userPrincipalName", "licenseAssignmentStates", "usageLocation"},
}
_SINGULAR = {
    "user": USERS,
    "group": GROUPS,
    "subscribedsku": SUBSCRIPTIONS,
    "organization": ORGANIZATION,
}
# In a context: …#groups('2e58…')/members/microsoft.graph.user; in a link: groups/2e58…/members?…
_MEMBERS_OF = re.compile(r"groups(?:\('([^']+)'\)|/([^/?#]+))/(members|transitiveMembers)\b")
# A context …#users('48d3…')/memberOf: what an object is linked with, not the object.
_LINKED = re.compile(r"\$metadata#(\w+\('[^']+'\)/(?:microsoft\.graph\.)?\w+)")
# A context …#users(displayName)/$delta, or …#Collection(microsoft.graph.user).
_COLLECTION = re.compile(r"\$metadata#(?:Collection\()?(?:microsoft\.graph\.)?(\w+)")
_LINK = re.compile(r"/(?:v1\.0|beta)/(\w+)(?:/delta\b|/microsoft\.graph\.\w+|/?\?|/?$)")
_POWERSHELL = re.compile(r"^@\{|\bSystem\.[A-Z]|^Microsoft\.Graph\.")


class Page(NamedTuple):
    """The objects of one page.

    ``line``: where the page begins in its file. ``kind``: of its objects, None if only the objects
    can tell. ``group``: whose members they are. ``delta``: the page lists changes. ``has_more``:
    Graph has another page after it. ``is_list``: the objects have a place in a list.
    """

    line: int
    kind: str | None
    group: str | None
    delta: bool
    has_more: bool
    is_list: bool
    objects: list[Any]
    size: int


class UnreadableError(SenderError):
    """Raised for an object that cannot be read. The message states the reason and the remedy."""


def pages(file: BinaryIO) -> Iterator[Page | tuple[int, str]]:
    """Yields the pages of a file; (line, reason) for a document that is none."""
    for line, document in documents(file):
        try:
            content = parse(document)
        except NotJsonError as error:
            yield line, str(error)
            continue
        if isinstance(content, list):
            yield Page(line, None, None, False, False, True, content, len(document))
        elif isinstance(content, dict):
            try:
                yield _page(line, content, len(document))
            except UnreadableError as error:
                yield line, str(error)
        else:
            yield line, wrong_type("the document", content, "a JSON object or a list of them")


def _page(line: int, content: Object, size: int) -> Page:
    context = str(content.get("@odata.context", ""))
    links = [str(content.get(name, "")) for name in ("@odata.nextLink", "@odata.deltaLink")]
    kind, group = _listed_by(context, links)
    delta = "/$delta" in context or bool(links[1]) or "/delta?" in links[0]
    is_list = "value" in content
    objects = content.get("value", [content])
    if not isinstance(objects, list):
        raise UnreadableError(wrong_type("value", objects))
    return Page(line, kind, group, delta, bool(links[0]), is_list, objects, size)


def _listed_by(context: str, links: list[str]) -> tuple[str | None, str | None]:
    """Returns the kind of a page's objects and their group, as far as context and links tell."""
    for text in (context, *links):
        if found := _MEMBERS_OF.search(text):
            return found[3], found[1] or found[2]
    if found := _LINKED.search(context):
        return re.sub(r"\('[^']+'\)", "", found[1]), None
    name = _COLLECTION.search(context)
    if name is None:
        name = next((found for link in links if (found := _LINK.search(link))), None)
    if name is None:
        return None, None
    if name[1] == "directoryObjects":
        return MEMBERS, None
    return _SINGULAR.get(name[1].lower(), name[1]), None


def kind_of(entity: Object, page: Page) -> str:
    """Returns the kind of an object: one of ``KINDS``, or a name for what is not read.

    Raises: UnreadableError, if neither the page nor the object tells, or they contradict.
    """
    if page.kind in (MEMBERS, "transitiveMembers"):
        return page.kind
    if own := str(entity.get("@odata.type", "")).lower().removeprefix("#microsoft.graph."):
        return _SINGULAR.get(own, own)
    seen = _kind_by_members(entity)
    if page.kind is None:
        if seen is None:
            raise UnreadableError(_unknown(entity))
        return seen
    if seen and page.kind in KINDS and seen != page.kind:
        raise UnreadableError(
            f"the page's @odata.context says {page.kind}, the object is one of {seen}"
        )
    return page.kind


def is_user(entity: Any, page: Page) -> bool:
    """Returns whether an object is a user, as far as it can be read."""
    try:
        return isinstance(entity, dict) and kind_of(entity, page) == USERS
    except UnreadableError:
        return False


def _kind_by_members(entity: Object) -> str | None:
    for kind, members in _IDENTIFYING.items():
        if not members.isdisjoint(entity):
            return kind
    return None


def _unknown(entity: Object) -> str:
    error = entity.get("error")
    if isinstance(error, dict) and "id" not in entity:
        said = f"{error.get('code')}: {error.get('message')}"
        return f"this is Graph's answer to a request that failed ({said[:200]}): export again"
    if "id" not in entity and ("Id" in entity or "SkuId" in entity):
        return (
            "the members are named as PowerShell's cmdlets name them (Id, not id): export Graph's"
            " own answers, with Invoke-MgGraphRequest -OutputType Json"
        )
    return (
        "cannot tell whether this is a user, a group or a subscription: keep the page's"
        " @odata.context, or the objects' @odata.type"
    )


def wrong_type(name: str, value: object, wanted: str = "a list of objects") -> str:
    """Returns the sentence about a value of the wrong type, with the remedy if it is known."""
    if isinstance(value, str):
        if _POWERSHELL.search(value):
            return (
                f"{name} is cut off: PowerShell wrote the text '{value[:60]}' for it. Export again"
                " with ConvertTo-Json -Depth 10"
            )
        return f"{name} is the text '{value[:60]}', not {wanted}"
    if isinstance(value, dict):
        return (
            f"{name} is one object, not {wanted}: PowerShell writes a list of one so. Export"
            " Graph's own answers, with Invoke-MgGraphRequest -OutputType Json"
        )
    shown = "a list" if isinstance(value, list) else json.dumps(value)
    return f"{name} is {shown}, not {wanted}"


def list_of_objects(entity: Object, name: str) -> list[Object] | None:
    """Returns a member that is a list of objects; None if it is absent. Raises: UnreadableError."""
    if name not in entity:
        return None
    found = entity[name]
    if not isinstance(found, list):
        raise UnreadableError(wrong_type(name, found))
    for number, each in enumerate(found):
        if not isinstance(each, dict):
            raise UnreadableError(wrong_type(f"{name}[{number}]", each, "an object"))
    return found


def list_of_texts(entity: Object, name: str) -> list[str]:
    """Returns a member that is a list of texts; [] if it is absent. Raises: UnreadableError."""
    found = entity.get(name, [])
    if not isinstance(found, list):
        raise UnreadableError(wrong_type(name, found, "a list"))
    for number, each in enumerate(found):
        if not isinstance(each, str):
            raise UnreadableError(wrong_type(f"{name}[{number}]", each, "a text"))
    return found
