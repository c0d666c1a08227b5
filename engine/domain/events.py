"""Input facts: what can happen, one immutable tuple per event type of the contract, section 2.

The edge (``streams``) has checked them before they come here: ids are well formed, lists are
tuples, units are whole numbers from 0. ``id`` is the event's own id, echoed as ``causedBy``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from engine.domain.model import ServicePlan


class Absent:
    """A patch member that is not given: the fact stays as it is (``None`` clears it)."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = Absent()

AttributePatch = tuple[tuple[str, str | tuple[str, ...] | None], ...]
"""Attributes of a user (R27) by their names in small letters; None clears one.

Numbers, true and false are text, as rules compare them.
"""


class UserUpserted(NamedTuple):
    """A patch of a user's attributes; creates the user if it is not known."""

    id: str
    tenant: str
    user: str
    user_principal_name: str | Absent | None = ABSENT
    usage_location: str | Absent | None = ABSENT
    mail: str | Absent | None = ABSENT
    proxy_addresses: tuple[str, ...] | Absent | None = ABSENT
    mail_nickname: str | Absent | None = ABSENT
    attributes: AttributePatch | Absent | None = ABSENT


class UserDeleted(NamedTuple):
    """The user is gone (R22). ``restorable``: it is in the directory's recycle bin."""

    id: str
    tenant: str
    user: str
    restorable: bool = False


class UserSnapshot(NamedTuple):
    """Everything that another system knows of a user; it replaces the user's facts (R25).

    ``memberships``: (group, since in milliseconds or None); ``licenses``: the licences held, as
    (skuId, group or "" for a direct one, disabled plans, since in milliseconds or None).
    """

    id: str
    tenant: str
    user: str
    user_principal_name: str | None = None
    usage_location: str | None = None
    mail: str | None = None
    proxy_addresses: tuple[str, ...] = ()
    memberships: tuple[tuple[str, int | None], ...] = ()
    licenses: tuple[tuple[str, str, tuple[str, ...], int | None], ...] = ()
    mail_nickname: str | None = None
    attributes: AttributePatch = ()


class MembershipAdded(NamedTuple):
    """The user is a direct member of the group from now on."""

    id: str
    tenant: str
    user: str
    group: str


class MembershipRemoved(NamedTuple):
    """The user is no longer a member of the group."""

    id: str
    tenant: str
    user: str
    group: str


class MembershipIgnored(NamedTuple):
    """A membership of something that is not a user (R22): counted, and nothing else."""

    id: str
    tenant: str
    user: str
    group: str
    member_type: str


class UserLicensesChanged(NamedTuple):
    """``licenses.changed`` of a user (R16).

    ``add`` holds (skuId, disabled plan ids) pairs, one per product (a later one replaces an
    earlier), ``remove`` skuIds; both in the order of the event.
    """

    id: str
    tenant: str
    user: str
    add: tuple[tuple[str, tuple[str, ...]], ...]
    remove: tuple[str, ...]


class GroupLicensesChanged(NamedTuple):
    """``licenses.changed`` of a group (R20); ``add`` and ``remove`` as above."""

    id: str
    tenant: str
    group: str
    add: tuple[tuple[str, tuple[str, ...]], ...]
    remove: tuple[str, ...]


class UserLicensesSet(NamedTuple):
    """``licenses.set`` of a user: the whole list of direct licences (R28).

    ``licenses`` holds (skuId, disabled plan ids) pairs, one per product, in the order of the event.
    """

    id: str
    tenant: str
    user: str
    licenses: tuple[tuple[str, tuple[str, ...]], ...]


class GroupLicensesSet(NamedTuple):
    """``licenses.set`` of a group: the whole list of its licences (R28)."""

    id: str
    tenant: str
    group: str
    licenses: tuple[tuple[str, tuple[str, ...]], ...]


class UserReprocess(NamedTuple):
    """All licences of the user that are in error are tried again (R10)."""

    id: str
    tenant: str
    user: str


class GroupUpserted(NamedTuple):
    """A patch of a group's attributes; creates the group if it is not known.

    ``membership_rule``: the text of its rule (R27). ``processing_state``: On or Paused.
    """

    id: str
    tenant: str
    group: str
    display_name: str | Absent | None = ABSENT
    membership_rule: str | Absent | None = ABSENT
    processing_state: str | Absent | None = ABSENT


class GroupDeleted(NamedTuple):
    """The group is gone, and its licences with it (R13)."""

    id: str
    tenant: str
    group: str


class GroupReprocess(NamedTuple):
    """All members of the group are evaluated again (R10)."""

    id: str
    tenant: str
    group: str


class ProductDefined(NamedTuple):
    """A definition of a product; it replaces an earlier one (R12, R21)."""

    id: str
    sku: str
    part_number: str
    display_name: str
    plans: tuple[ServicePlan, ...]


class SubscriptionUpdated(NamedTuple):
    """Units bought; only ``enabled`` and ``warning`` give seats (R15)."""

    id: str
    tenant: str
    sku: str
    enabled: int
    warning: int
    suspended: int
    locked_out: int


class SubscriptionDeleted(NamedTuple):
    """The subscription of a product is gone; users keep what they have, disabled (R15)."""

    id: str
    tenant: str
    sku: str


class TenantUpdated(NamedTuple):
    """A patch of a tenant's settings; members that are absent stay as they are."""

    id: str
    tenant: str
    usage_location: str | Absent | None = ABSENT
    seat_retry: str | Absent = ABSENT
    on_group_deletion: str | Absent = ABSENT
    initial_domain: str | Absent | None = ABSENT


CODES: Final[Mapping[type, str]] = {
    UserUpserted: "UserUpserted",
    UserDeleted: "UserDeleted",
    UserSnapshot: "UserSnapshot",
    MembershipAdded: "MembershipAdded",
    MembershipRemoved: "MembershipRemoved",
    MembershipIgnored: "MembershipIgnored",
    UserLicensesChanged: "UserLicensesChanged",
    UserLicensesSet: "UserLicensesSet",
    UserReprocess: "UserReprocess",
    GroupUpserted: "GroupUpserted",
    GroupDeleted: "GroupDeleted",
    GroupLicensesChanged: "GroupLicensesChanged",
    GroupLicensesSet: "GroupLicensesSet",
    GroupReprocess: "GroupReprocess",
    ProductDefined: "product",
    SubscriptionUpdated: "subscription",
    SubscriptionDeleted: "subscription-deleted",
    TenantUpdated: "tenant",
}
"""The code of each event type. Persisted, never to be changed: codes are part of the fingerprints
of applied events (R24) and of deferred events in the changelog. A class may be renamed."""

LicensesChanged = UserLicensesChanged | GroupLicensesChanged
LicensesSet = UserLicensesSet | GroupLicensesSet
InputEvent = (
    UserUpserted
    | UserDeleted
    | UserSnapshot
    | MembershipAdded
    | MembershipRemoved
    | MembershipIgnored
    | UserLicensesChanged
    | UserLicensesSet
    | UserReprocess
    | GroupUpserted
    | GroupDeleted
    | GroupLicensesChanged
    | GroupLicensesSet
    | GroupReprocess
    | ProductDefined
    | SubscriptionUpdated
    | SubscriptionDeleted
    | TenantUpdated
)


class Delivered(NamedTuple):
    """An event with its place in the log: ``at`` is the record timestamp in milliseconds."""

    event: Any
    at: int
    offset: int
    source: str = ""
