"""Microsoft Graph: pages of delta queries and lists, as a file or a folder of files.

Supported are users, groups (with ``members@delta`` and ``@removed``), ``subscribedSkus``, the
``assignedLicenses`` of groups and the direct licences of users. Pages hold patches: an object that
appears again, on any page, adds to what is known. A folder is read in the order of its file names,
subscriptions first; a file holds one page, or one page per line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from streams.catalog import product_defined
from streams.ingest.event_builder import EventBuilder, EventOrReason, checked_item
from streams.ingest.items import FeedItem, FeedProblem
from streams.ingest.source_files import FeedFile, FileFeed, documents, parse_object

_USER_MEMBERS = (
    "userPrincipalName",
    "displayName",
    "usageLocation",
    "mail",
    "proxyAddresses",
)
_KINDS = {
    "#microsoft.graph.user": "users",
    "#microsoft.graph.group": "groups",
    "#microsoft.graph.subscribedsku": "subscribedSkus",
}
# Members that identify a kind of object, since no other kind has them.
_IDENTIFYING = {
    "subscribedSkus": {"prepaidUnits"},
    "groups": {"members@delta", "groupTypes", "securityEnabled"},
    "users": {"userPrincipalName", "licenseAssignmentStates"},
}
# The name of the collection in "…/$metadata#users(displayName)/$delta".
_context_kind = re.compile(r"\$metadata#(\w+)").search
_SUBSCRIPTIONS = re.compile(rb"\$metadata#subscribedSkus\b")


def events_from_graph(
    path: str | Path, tenant: str, *, group: str | None = None, products: bool = True, run: str = ""
) -> GraphFeed:
    """Returns the feed of one tenant's pages.

    ``group``: the group that lists of members belong to; the pages do not tell.
    ``products``: subscriptions define their products, too.
    ``run``: see ``events_from_csv``.
    Raises: FeedError, if there are no pages.
    """
    return GraphFeed(path, tenant, group, products, run)


class GraphFeed(FileFeed):
    """The events of Graph pages."""

    format = "graph"
    suffixes = (".json", ".jsonl")

    def __init__(
        self, path: str | Path, tenant: str, group: str | None, products: bool, run: str
    ) -> None:
        super().__init__(path, (tenant, group or "", run))
        self._tenant, self._group, self._products = tenant, group, products
        self._bought: dict[str, None] = {}
        self._read_kinds = {
            "users": self._user,
            "groups": self._of_group,
            "subscribedSkus": self._subscription,
            "members": self._member,
        }

    def _ordered(self, paths: list[Path | None]) -> list[Path | None]:
        """Puts subscriptions first: they define the products that groups refer to."""

        def has_none(path: Path | None) -> bool:
            if path is None:
                return True
            with path.open("rb") as file:
                return not _SUBSCRIPTIONS.search(file.read(4096))

        return sorted(paths, key=has_none) if len(paths) > 1 else paths

    def _events(self, source: FeedFile) -> Iterator[FeedItem | FeedProblem]:
        builder, before = (
            EventBuilder(self._tenant, source.fingerprint, source.time),
            self.done_bytes,
        )
        for line, document in documents(source.file):
            page = parse_object(document)
            if isinstance(page, str):
                yield FeedProblem(source.name, line, page)
                continue
            self.done_bytes = before + source.file.tell()
            entities = page.get("value", [page])
            if not isinstance(entities, list):
                yield FeedProblem(source.name, line, "value is not a list of objects")
                continue
            for number, entity in enumerate(entities, start=1):
                builder.begin(f"{line}.{number}")
                for result in self._entity(entity, page, builder):
                    if isinstance(result, FeedItem):
                        yield result
                    else:
                        reason = f"value[{number - 1}]: {result}" if "value" in page else result
                        yield FeedProblem(source.name, line, reason)

    def _entity(
        self, entity: Any, page: dict[str, Any], builder: EventBuilder
    ) -> Iterator[EventOrReason]:
        if not isinstance(entity, dict):
            yield "not an object"
            return
        kind = self._kind(entity, page)
        if kind is None:
            yield (
                "cannot tell whether this is a user, a group or a subscription: keep the page's"
                " @odata.context, or the objects' @odata.type"
            )
        elif read := self._read_kinds.get(kind):
            yield from read(entity, builder)
        else:
            self.skipped[kind] += 1

    def _kind(self, entity: dict[str, Any], page: dict[str, Any]) -> str | None:
        context = str(page.get("@odata.context", ""))
        found = _context_kind(context)
        collection = found[1] if found else None
        if collection == "directoryObjects" or "/members" in context:
            if self._group is not None:
                return "members"
            collection = None
        if own := str(entity.get("@odata.type", "")).lower():
            return _KINDS.get(own, own.removeprefix("#microsoft.graph."))
        return collection or _kind_by_members(entity)

    # -- readers, by kind of object
    def _user(self, entity: dict[str, Any], builder: EventBuilder) -> Iterator[EventOrReason]:
        id = entity.get("id")
        if "@removed" in entity:
            # "changed" can be restored, "deleted" cannot: the licences become free in both cases,
            # and a user who is restored appears again with all attributes.
            yield builder.user("user.deleted", id)
            return
        members = {name: entity[name] for name in _USER_MEMBERS if name in entity}
        yield builder.user("user.upserted", id, **members)
        if direct := _direct(entity.get("licenseAssignmentStates")):
            yield builder.user("licenses.changed", id, addLicenses=direct, removeLicenses=[])
        elif entity.get("assignedLicenses") and "licenseAssignmentStates" not in entity:
            self.skipped["assignedLicenses of a user (select licenseAssignmentStates)"] += 1

    def _of_group(self, entity: dict[str, Any], builder: EventBuilder) -> Iterator[EventOrReason]:
        id = entity.get("id")
        if "@removed" in entity:
            yield builder.group("group.deleted", id)
            return
        names = {"displayName": entity["displayName"]} if "displayName" in entity else {}
        yield builder.group("group.upserted", id, **names)
        licenses = entity.get("assignedLicenses")
        if isinstance(licenses, list):
            yield from self._licenses(id, licenses, builder)
        for name in ("members@delta", "members"):
            listed = entity.get(name) or []
            if not isinstance(listed, list):
                yield f"{name} is not a list"
                continue
            for member in listed:
                yield from self._of_a_group(id, member, builder)

    def _member(self, entity: dict[str, Any], builder: EventBuilder) -> Iterator[EventOrReason]:
        return self._of_a_group(self._group, entity, builder)

    def _of_a_group(
        self, group: Any, member: Any, builder: EventBuilder
    ) -> Iterator[EventOrReason]:
        if not isinstance(member, dict):
            yield "a member is not an object"
            return
        kind = str(member.get("@odata.type", "#microsoft.graph.user")).lower()
        if kind != "#microsoft.graph.user":  # only users that are direct members count (R22)
            self.skipped[f"{kind.removeprefix('#microsoft.graph.')} as a member"] += 1
            return
        yield builder.membership("@removed" not in member, member.get("id"), group)

    def _licenses(
        self, group: Any, licenses: list[Any], builder: EventBuilder
    ) -> Iterator[EventOrReason]:
        """Yields the change that makes the listed licences the group's only ones.

        All other products bought by the tenant are removed; removing a licence that the group does
        not have changes nothing (R20).
        """
        added = [_license(each) for each in licenses if isinstance(each, dict)]
        named = {each["skuId"] for each in added}
        removed = [sku for sku in self._bought if sku not in named]
        if added or removed:
            yield builder.group(
                "licenses.changed", group, addLicenses=added, removeLicenses=removed
            )

    def _subscription(
        self, entity: dict[str, Any], builder: EventBuilder
    ) -> Iterator[EventOrReason]:
        sku, units = entity.get("skuId"), entity.get("prepaidUnits")
        if str(entity.get("appliesTo", "User")) != "User":
            self.skipped["subscription that is not for users"] += 1
            return
        if self._products and isinstance(sku, str):
            yield _product(sku, entity)
        if isinstance(sku, str):
            self._bought[sku] = None
        yield builder.subscription(sku, units)


def _kind_by_members(entity: dict[str, Any]) -> str | None:
    for kind, members in _IDENTIFYING.items():
        if not members.isdisjoint(entity):
            return kind
    return None


def _product(sku: str, entity: dict[str, Any]) -> EventOrReason:
    """Returns the subscription's product; unlike the published table it marks company plans."""
    plans, company = {}, set()
    for plan in entity.get("servicePlans") or []:
        id = plan.get("servicePlanId") if isinstance(plan, dict) else None
        if not isinstance(id, str):
            return "a service plan has no servicePlanId"
        plans[id] = str(plan.get("servicePlanName") or id)
        if plan.get("appliesTo") == "Company":
            company.add(id)
    part = str(entity.get("skuPartNumber") or sku)
    return checked_item("catalog", sku, product_defined(sku, part, part, plans.items(), company))


def _license(assigned: dict[str, Any]) -> dict[str, Any]:
    return {
        "skuId": assigned.get("skuId"),
        "disabledPlans": assigned.get("disabledPlans") or [],
    }


def _direct(states: Any) -> list[dict[str, Any]]:
    if not isinstance(states, list):
        return []
    return [
        _license(state)
        for state in states
        if isinstance(state, dict) and state.get("assignedByGroup") is None
    ]
