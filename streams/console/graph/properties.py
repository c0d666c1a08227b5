"""The properties of Graph's resources: the SQL of each, and what may be done with it.

A property that is not here does not exist for any query option: naming it is an error that lists
those there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from streams.console.graph.errors import GraphError, bad_request, unsupported
from streams.console.read_model.rule_matches import HAS_RULE


@dataclass(frozen=True, slots=True)
class Property:
    """A value. ``kind``: ``id``, ``text``, ``flag`` or ``number``; ``sql`` may be NULL."""

    sql: str
    kind: str
    sortable: bool = False
    searched: str | None = None
    """``words``: ``$search`` looks at the beginning of every word; ``start``: of the value."""


@dataclass(frozen=True, slots=True)
class Collection:
    """A list. ``elements``: ``json_each(…)`` over it. ``size``: the SQL of its number of items.

    ``members``: the kinds of the members of each item, or None if the items are texts.
    ``by_shape``: the list is one of a shape of licences, so that each shape is looked at, and
    not each user.
    """

    elements: str
    size: str
    members: Mapping[str, str] | None = None
    by_shape: bool = False


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of resource.

    ``name``: as in the URL; ``type``: Graph's; ``key``: the SQL of the id.
    ``filtered``: properties and collections for ``$filter``, ``$orderby`` and ``$search``.
    ``selected``: the properties that are shown, in their order.
    ``expanded``: navigation properties for ``$expand``.
    """

    name: str
    type: str
    key: str
    filtered: Mapping[str, Property | Collection]
    selected: tuple[str, ...]
    expanded: tuple[str, ...] = ()
    _by_lower_case: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._by_lower_case.update({name.lower(): name for name in self.filtered})

    def find(self, path: tuple[str, ...], option: str) -> Property | Collection:
        """Returns a property by its path, in any case, as Graph does. Raises: GraphError."""
        name = self._by_lower_case.get("/".join(path).lower())
        if name is None:
            raise self.unknown("/".join(path), option)
        return self.filtered[name]

    def unknown(self, name: str, option: str) -> GraphError:
        """Returns the error of a property that Seatflow cannot use in a query option."""
        if name.lower() in (shown.lower() for shown in self.selected):
            text = f"{option}: {name} of {self.name} is shown, but cannot be used here"
        else:
            text = f"{option}: Seatflow has no property {name[:100]!r} of {self.name}"
        return unsupported(f"{text}; there are {', '.join(self.filtered)}.")

    def select(self, name: str) -> str:
        """Returns the canonical name of a property to be shown. Raises: GraphError."""
        for known in self.selected:
            if known.lower() == name.lower():
                return known
        raise bad_request(
            f"$select: Seatflow has no property {name[:100]!r} of {self.name}; there are"
            f" {', '.join(self.selected)}."
        )


def _published(index: int, else_: str) -> str:
    """Returns the SQL of a value that takes the published one where there is one (R19)."""
    return f"CASE WHEN u.published IS NULL THEN {else_} ELSE u.published ->> '$[{index}]' END"


_ADDRESSES = (
    "coalesce(CASE WHEN u.published IS NULL THEN u.addresses ELSE u.published -> '$[2]' END, '[]')"
)

USERS = Kind(
    name="users",
    type="#microsoft.graph.user",
    key="u.user",
    filtered={
        "id": Property("u.user", "id", sortable=True),
        "displayName": Property("u.name", "text", sortable=True, searched="words"),
        "userPrincipalName": Property("u.upn", "text", sortable=True, searched="start"),
        "mail": Property(_published(1, "u.mail"), "text", sortable=True, searched="start"),
        "mailNickname": Property(_published(7, "u.nickname"), "text", True, searched="start"),
        "usageLocation": Property(_published(0, "u.location"), "text", sortable=True),
        "proxyAddresses": Collection(
            f"json_each({_ADDRESSES})", f"json_array_length({_ADDRESSES})"
        ),
        "assignedLicenses": Collection(
            "json_each(z.body, '$[1]')",
            "coalesce(json_array_length(s.body, '$[1]'), 0)",
            {"skuId": "id"},
            by_shape=True,
        ),
        "licenseAssignmentStates": Collection(
            "json_each(z.body, '$[2]')",
            "coalesce(json_array_length(s.body, '$[2]'), 0)",
            {"skuId": "id", "assignedByGroup": "id", "state": "text", "error": "text"},
            by_shape=True,
        ),
    },
    selected=(
        "id",
        "displayName",
        "userPrincipalName",
        "mail",
        "mailNickname",
        "usageLocation",
        "proxyAddresses",
        "assignedLicenses",
        "licenseAssignmentStates",
    ),
    expanded=("memberOf", "transitiveMemberOf", "licenseDetails"),
)

DYNAMIC_MEMBERSHIP = "DynamicMembership"
"""The type of a group with a membership rule (R27)."""

GROUPS = Kind(
    name="groups",
    type="#microsoft.graph.group",
    key="g.grp",
    filtered={
        "id": Property("g.grp", "id", sortable=True),
        "displayName": Property("g.name", "text", sortable=True, searched="words"),
        "hasMembersWithLicenseErrors": Property("g.in_error > 0", "flag"),
        "licenseProcessingState/state": Property("g.state", "text"),
        "securityEnabled": Property("1", "flag"),
        "mailEnabled": Property("0", "flag"),
        "groupTypes": Collection(
            f"json_each(CASE WHEN {HAS_RULE} THEN '[\"{DYNAMIC_MEMBERSHIP}\"]' ELSE '[]' END)",
            HAS_RULE,
        ),
        "membershipRuleProcessingState": Property(
            "json_extract(g.body, '$.membershipRuleProcessingState')", "text"
        ),
        "assignedLicenses": Collection(
            "json_each(g.body, '$.assignedLicenses')",
            "json_array_length(g.body, '$.assignedLicenses')",
            {"skuId": "id"},
        ),
    },
    selected=(
        "id",
        "displayName",
        "securityEnabled",
        "mailEnabled",
        "groupTypes",
        "membershipRule",
        "membershipRuleProcessingState",
        "assignedLicenses",
        "licenseProcessingState",
        "hasMembersWithLicenseErrors",
    ),
    expanded=("members", "transitiveMembers"),
)

SKUS = Kind(
    name="subscribedSkus",
    type="#microsoft.graph.subscribedSku",
    key="k.sku",
    filtered={
        "skuId": Property("k.sku", "id", sortable=True),
        "skuPartNumber": Property(
            "coalesce(nullif(s.body ->> '$.skuPartNumber', ''), nullif(c.part, ''), k.sku)",
            "text",
            sortable=True,
        ),
        "appliesTo": Property("'User'", "text"),
        "consumedUnits": Property("coalesce(s.consumed, 0)", "number", sortable=True),
    },
    selected=(
        "id",
        "skuId",
        "skuPartNumber",
        "appliesTo",
        "capabilityStatus",
        "consumedUnits",
        "prepaidUnits",
        "servicePlans",
    ),
)

DELETED_USERS = Kind(
    name="deletedItems",
    type="#microsoft.graph.user",
    key="r.user",
    filtered={
        "id": Property("r.user", "id", sortable=True),
        "displayName": Property("r.name", "text", sortable=True, searched="words"),
        "userPrincipalName": Property("r.upn", "text", sortable=True, searched="start"),
    },
    selected=("id", "displayName", "userPrincipalName", "mail", "mailNickname", "usageLocation"),
)

LICENSE_DETAILS = Kind(
    name="licenseDetails",
    type="#microsoft.graph.licenseDetails",
    key="",
    filtered={},
    selected=("id", "skuId", "skuPartNumber", "servicePlans"),
)

ORGANIZATION = Kind(
    name="organization",
    type="#microsoft.graph.organization",
    key="",
    filtered={},
    selected=("id", "displayName", "countryLetterCode", "verifiedDomains"),
)
