"""The readers of the event types: the body of an event becomes a fact of the engine.

A reader gets the body (a JSON object), the event's id and the record's key, and returns the fact or
raises DecodeError. ``READERS`` holds them by topic and type.
"""

from __future__ import annotations

from collections.abc import Callable
from sys import intern
from typing import Any, Final

from engine.domain import events as ev
from engine.domain.events import ABSENT, InputEvent
from engine.domain.model import DIRECT, ServicePlan
from engine.domain.vocabulary import RULE_PROCESSING_STATES, UNIT_KINDS
from streams.contract.event_types import EVENT_TYPES
from streams.contract.field_checks import (
    MAX_UNITS,
    Body,
    any_of_ids,
    check_addresses,
    check_attributes,
    check_id,
    check_key,
    check_location,
    check_moment,
    check_name,
    check_rule,
    check_text,
    check_usage_location,
    each_once,
    group_id,
    one_of,
    shared_id,
)
from streams.contract.rejection import malformed, require_type

Reader = Callable[[Body, str, bytes | None], InputEvent]
HELD_STATES: Final = frozenset(("Active", "ActiveWithError", "Disabled"))
"""The states of a snapshot that have a licence in them; others are ignored (R25)."""
_SubjectOf = Callable[[Body, bytes | None], tuple[str, str]]

new: Final = tuple.__new__  # creates a named tuple in half the time of its own constructor


class _LastUser:
    """The user of the last event read, as (key, tenant, user).

    A user's events often come together: the key is then checked by comparison alone. The tuple is
    replaced as a whole, since events are read in several threads.
    """

    def __init__(self) -> None:
        self.read: tuple[bytes, str, str] | None = None


last_user: Final = _LastUser()


def _user(body: Body, key: bytes | None) -> tuple[str, str]:
    """Returns the tenant and the user of a body, which the key must name too."""
    tenant, user = body.get("tenant", ABSENT), body.get("user", ABSENT)
    last = last_user.read
    if last is not None:
        last_key, last_tenant, last_id = last
        if key == last_key and user == last_id and tenant == last_tenant:
            return last_tenant, last_id
    tenant, user = shared_id(tenant, "tenant"), check_id(user, "user")
    expected = f"{tenant}/{user}"
    check_key(key, expected, "tenant/user")
    last_user.read = (expected.encode(), tenant, user)
    return tenant, user


def _subject(body: Body, key: bytes | None, member: str) -> tuple[str, str]:
    """Returns the tenant and the group or product of a body, which the key must name too."""
    tenant = shared_id(body.get("tenant", ABSENT), "tenant")
    subject = shared_id(body.get(member, ABSENT), member)
    check_key(key, f"{tenant}/{subject}", f"tenant/{member}")
    return tenant, subject


def _group(body: Body, key: bytes | None) -> tuple[str, str]:
    group_id(body.get("group", ABSENT), "group")
    return _subject(body, key, "group")


def _product(body: Body, key: bytes | None) -> tuple[str, str]:
    return _subject(body, key, "skuId")


def _subject_only(make: Callable[..., InputEvent], subject_of: _SubjectOf) -> Reader:
    """Returns the reader of a type that names its subject and nothing else."""
    return lambda body, event, key: make(event, *subject_of(body, key))


def _licenses(make: Callable[..., InputEvent], subject_of: _SubjectOf) -> Reader:
    """Returns the reader of ``licenses.changed`` of a user or of a group."""

    def read(body: Body, event: str, key: bytes | None) -> InputEvent:
        tenant, subject = subject_of(body, key)
        added = _license_list(body.get("addLicenses", []), "addLicenses")
        removed = each_once(shared_id, body.get("removeLicenses", []), "removeLicenses")
        return make(event, tenant, subject, added, removed)

    return read


def _whole_list(make: Callable[..., InputEvent], subject_of: _SubjectOf) -> Reader:
    """Returns the reader of ``licenses.set`` of a user or of a group."""

    def read(body: Body, event: str, key: bytes | None) -> InputEvent:
        tenant, subject = subject_of(body, key)
        # Required: left out by mistake, it would take all licences away.
        licenses = _license_list(body.get("licenses", ABSENT), "licenses")
        return make(event, tenant, subject, licenses)

    return read


def _license_list(given: Any, name: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Returns (skuId, disabled plans) pairs, one per product; a later one replaces an earlier."""
    found: dict[str, tuple[str, ...]] = {}
    for i, item in enumerate(require_type(list, given, name)):
        at = f"{name}[{i}]"
        sku = shared_id(require_type(dict, item, at).get("skuId", ABSENT), f"{at}.skuId")
        found[sku] = each_once(shared_id, item.get("disabledPlans", []), f"{at}.disabledPlans")
    return tuple(found.items())


def _user_upserted(body: Body, event: str, key: bytes | None) -> InputEvent:
    tenant, user = _user(body, key)
    get = body.get
    check_text(get("displayName"), "displayName")  # in the contract, but nothing depends on it
    upn = check_text(get("userPrincipalName", ABSENT), "userPrincipalName")
    mail = check_text(get("mail", ABSENT), "mail")
    addresses = check_addresses(get("proxyAddresses", ABSENT))
    nickname = check_text(get("mailNickname", ABSENT), "mailNickname")
    attributes = check_attributes(get("attributes", ABSENT))
    patch = (
        event, tenant, user, upn, check_usage_location(body), mail, addresses, nickname, attributes,
    )  # fmt: skip
    return new(ev.UserUpserted, patch)


def _user_deleted(body: Body, event: str, key: bytes | None) -> InputEvent:
    tenant, user = _user(body, key)
    restorable = require_type(bool, body.get("restorable", False), "restorable")
    return ev.UserDeleted(event, tenant, user, restorable)


def _user_snapshot(body: Body, event: str, key: bytes | None) -> InputEvent:
    tenant, user = _user(body, key)
    get = body.get
    check_text(get("displayName"), "displayName")
    location = check_usage_location(body)
    memberships: dict[str, tuple[str, int | None]] = {}
    for i, item in enumerate(require_type(list, get("memberships", []), "memberships")):
        name = f"memberships[{i}]"
        group = group_id(require_type(dict, item, name).get("group", ABSENT), f"{name}.group")
        memberships[group] = group, check_moment(item.get("since"), f"{name}.since")
    held: dict[tuple[str, str], tuple[str, str, tuple[str, ...], int | None]] = {}
    states = require_type(list, get("licenseAssignmentStates", []), "licenseAssignmentStates")
    for i, item in enumerate(states):
        licence = _held_license(item, f"licenseAssignmentStates[{i}]")
        if licence is not None:
            held[licence[:2]] = licence
    return ev.UserSnapshot(
        event,
        tenant,
        user,
        check_text(get("userPrincipalName"), "userPrincipalName") or None,  # type: ignore[arg-type]
        location if isinstance(location, str) else None,
        check_text(get("mail"), "mail") or None,  # type: ignore[arg-type]
        check_addresses(get("proxyAddresses")) or (),  # type: ignore[arg-type]
        tuple(memberships.values()),
        tuple(held.values()),
        check_text(get("mailNickname"), "mailNickname") or None,  # type: ignore[arg-type]
        check_attributes(get("attributes")) or (),  # type: ignore[arg-type]
    )


def _held_license(item: Any, name: str) -> tuple[str, str, tuple[str, ...], int | None] | None:
    """Returns a ``licenseAssignmentState`` with a licence in it, None for one without (R25)."""
    state = require_type(dict, item, name)
    if check_name(state.get("state", ABSENT), f"{name}.state") not in HELD_STATES:
        return None
    group = state.get("assignedByGroup")
    return (
        shared_id(state.get("skuId", ABSENT), f"{name}.skuId"),
        DIRECT if group is None else group_id(group, f"{name}.assignedByGroup"),
        each_once(shared_id, state.get("disabledPlans", []), f"{name}.disabledPlans"),
        check_moment(state.get("since"), f"{name}.since"),
    )


def _membership_added(body: Body, event: str, key: bytes | None) -> InputEvent:
    tenant, user = _user(body, key)
    group = group_id(body.get("group", ABSENT), "group")
    member_type = body.get("memberType", "user")
    if member_type == "user":
        return new(ev.MembershipAdded, (event, tenant, user, group))
    return ev.MembershipIgnored(event, tenant, user, group, check_name(member_type, "memberType"))


def _membership_removed(body: Body, event: str, key: bytes | None) -> InputEvent:
    tenant, user = _user(body, key)
    return ev.MembershipRemoved(event, tenant, user, group_id(body.get("group", ABSENT), "group"))


def _group_upserted(body: Body, event: str, key: bytes | None) -> InputEvent:
    tenant, group = _group(body, key)
    display_name = check_text(body.get("displayName", ABSENT), "displayName")
    rule = check_rule(body.get("membershipRule", ABSENT))
    state = body.get("membershipRuleProcessingState", ABSENT)
    if state is not None:
        state = one_of(body, "", "membershipRuleProcessingState", RULE_PROCESSING_STATES, ABSENT)
    return ev.GroupUpserted(event, tenant, group, display_name, rule, state)


def _product_defined(body: Body, event: str, key: bytes | None) -> InputEvent:
    sku = shared_id(body.get("skuId", ABSENT), "skuId")
    check_key(key, sku, "skuId")
    part_number = check_name(body.get("skuPartNumber", sku), "skuPartNumber")
    display_name = check_name(body.get("displayName", part_number), "displayName")
    plans: dict[str, ServicePlan] = {}
    # Required: left out by mistake, it would take the product's plans from every user.
    listed = require_type(list, body.get("servicePlans", ABSENT), "servicePlans")
    for i, item in enumerate(listed):
        plan = _service_plan(item, f"servicePlans[{i}]")
        if plan.id in plans:
            raise malformed(f"servicePlans[{i}].servicePlanId", plan.id, "given once in a product")
        plans[plan.id] = plan
    return ev.ProductDefined(event, sku, part_number, display_name, tuple(plans.values()))


def _service_plan(item: Any, name: str) -> ServicePlan:
    at = f"{name}."
    plan = require_type(dict, item, name)
    plan_id = shared_id(plan.get("servicePlanId", ABSENT), f"{at}servicePlanId")
    mail = require_type(bool, plan.get("mailEnabled", False), f"{at}mailEnabled")
    sets = each_once(check_name, plan.get("exclusiveSets", []), f"{at}exclusiveSets")
    return ServicePlan(
        plan_id,
        check_name(plan.get("servicePlanName", plan_id), f"{at}servicePlanName"),
        one_of(plan, at, "appliesTo", ("User", "Company"), "User"),
        tuple(intern(exclusive_set) for exclusive_set in sets),
        each_once(any_of_ids, plan.get("requires", []), f"{at}requires"),
        each_once(check_location, plan.get("prohibitedLocations", []), f"{at}prohibitedLocations"),
        mail,
    )


def _subscription_updated(body: Body, event: str, key: bytes | None) -> InputEvent:
    tenant, sku = _product(body, key)
    units = require_type(dict, body.get("prepaidUnits", ABSENT), "prepaidUnits")
    counts = []
    for member in UNIT_KINDS:
        count = units.get(member, 0)
        if type(count) is not int or not 0 <= count <= MAX_UNITS:  # bool is a subclass of int
            raise malformed(
                f"prepaidUnits.{member}", count, f"a whole number from 0 to {MAX_UNITS}"
            )
        counts.append(count)
    return ev.SubscriptionUpdated(event, tenant, sku, *counts)


def _tenant_updated(body: Body, event: str, key: bytes | None) -> InputEvent:
    tenant = shared_id(body.get("tenant", ABSENT), "tenant")
    check_key(key, tenant, "tenant")
    check_text(body.get("displayName"), "displayName")  # as in user.upserted
    policies = require_type(dict, body.get("policies", {}), "policies")
    retry = one_of(policies, "policies.", "seatRetry", ("automatic", "manual"), ABSENT)
    deletion = one_of(policies, "policies.", "onGroupDeletion", ("convert", "error"), ABSENT)
    domain = check_text(body.get("initialDomain", ABSENT), "initialDomain")
    return ev.TenantUpdated(event, tenant, check_usage_location(body), retry, deletion, domain)


_BY_FACT: Final[dict[type[Any], Reader]] = {
    ev.UserUpserted: _user_upserted,
    ev.UserDeleted: _user_deleted,
    ev.UserSnapshot: _user_snapshot,
    ev.MembershipAdded: _membership_added,
    ev.MembershipRemoved: _membership_removed,
    ev.UserLicensesChanged: _licenses(ev.UserLicensesChanged, _user),
    ev.UserLicensesSet: _whole_list(ev.UserLicensesSet, _user),
    ev.UserReprocess: _subject_only(ev.UserReprocess, _user),
    ev.GroupUpserted: _group_upserted,
    ev.GroupDeleted: _subject_only(ev.GroupDeleted, _group),
    ev.GroupLicensesChanged: _licenses(ev.GroupLicensesChanged, _group),
    ev.GroupLicensesSet: _whole_list(ev.GroupLicensesSet, _group),
    ev.GroupReprocess: _subject_only(ev.GroupReprocess, _group),
    ev.ProductDefined: _product_defined,
    ev.SubscriptionDeleted: _subject_only(ev.SubscriptionDeleted, _product),
    ev.SubscriptionUpdated: _subscription_updated,
    ev.TenantUpdated: _tenant_updated,
}

READERS: dict[str, dict[str, Reader]] = {}
for _type in EVENT_TYPES:
    READERS.setdefault(_type.topic, {})[_type.name] = _BY_FACT[_type.fact]
