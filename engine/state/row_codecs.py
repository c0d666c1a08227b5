"""The rows of the changelog: tables, and the fields of each row in their order.

A row is a JSON array without names. The order of the fields of each class here *is* the layout on
disk: fields may be renamed, but not moved, added or removed without a new format (see
:mod:`engine.state.formats`). Attributes of the objects in memory are mapped by name and may be
called otherwise. ``docs/formats.md`` is generated from these classes. The users' table is in
:mod:`engine.state.user_row_codecs`, leases and seat budgets are in
:mod:`engine.state.seat_row_codecs`.

``optional_facts`` is the last field of a row. It is a JSON object whose members are written only
where they differ from their default, and the field is left out if the object would be empty. Rows
of format 1 never have it. A new fact becomes a member of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from engine.domain.model import Product, ServicePlan, Tenant
from engine.membership_rules.rule_set import MembershipRule

Row = Any
"""A JSON-able value, or bytes that are already JSON."""
OptionalFacts = Mapping[str, Any] | None
"""Named JSON-able values; None if there are none."""
BASE_LOCATION: Final = "baseLocation"
MEMBERSHIP_RULE: Final = "membershipRule"
PENDING_RULES: Final = "pendingRules"
WALK: Final = "walk"

# Names of tables are persisted, too: the key of a record is ``table|key``.
PRODUCTS: Final = "products"
TENANTS: Final = "tenants"
GROUPS: Final = "groups"
CATALOG_EVENTS: Final = "catalogue"
TENANT_SETTINGS: Final = "tenant-settings"
USERS: Final = "users"
PLAN_SETS: Final = "plans"
LEASES: Final = "leases"
JOBS: Final = "jobs"
GROUP_STATES: Final = "group-state"
SEAT_BUDGETS: Final = "seats"
ADDRESS_CLAIMS: Final = "addresses"
CLAIMS: Final = "claims"
OWNER_CHANGES: Final = "owner-changes"


class ServicePlanRow(NamedTuple):
    """One service plan, inside a row of ``products``."""

    id: str
    name: str
    applies_to: str
    exclusive_sets: Sequence[str]
    requires: Sequence[Sequence[str]]
    prohibited_locations: Sequence[str]
    mail_enabled: bool


class ProductRow(NamedTuple):
    """``products``, key skuId: the definition as this partition knows it."""

    sku: str
    part_number: str
    display_name: str
    service_plans: list[ServicePlanRow]


class TenantRow(NamedTuple):
    """``tenants``, key tenant: the settings as this partition knows them."""

    usage_location: str | None
    retries_seats: bool
    converts_on_group_deletion: bool
    optional_facts: OptionalFacts = None


class GroupRow(NamedTuple):
    """``groups``, key tenant/group: the licences (skuId -> disabled plans) known here.

    Optional: ``membershipRule`` (R27), as [text, true if paused, timestamp in milliseconds and
    offset of the change]; ``pendingRules``: the later ones, or null for none, which wait until that
    one is applied to all users here.
    """

    version: int
    licenses: dict[str, list[str]]
    deleted: bool
    optional_facts: OptionalFacts = None


class TenantSettingsRow(NamedTuple):
    """``tenant-settings``, key tenant: the settings as their owner keeps them."""

    usage_location: str | None
    retries_seats: bool
    converts_on_group_deletion: bool
    seen_fingerprints: bytes
    optional_facts: OptionalFacts = None


class PlanSetRow(NamedTuple):
    """``plans``, key of the plan set: what users' entries refer to."""

    sku: str
    enabled_plans: list[str]
    disabled_plans: list[str]


class JobRow(NamedTuple):
    """``jobs``, key kind/tenant/id: a fan-out and how far it is.

    ``rerun``: [version, timestamp in milliseconds, causedBy] of the change that came meanwhile.
    Optional: ``baseLocation``, of a tenant's settings: the default usage location with which users
    were published before the scan, if it was another; ``walk``, of a group: true if its rule (R27)
    is being applied to all users of the tenant.
    """

    kind: str
    tenant: str
    id: str
    version: int
    previous_version: int
    timestamp_ms: int
    caused_by: str
    cursor: str
    rerun: list[Any] | None
    optional_facts: OptionalFacts = None


class GroupStateRow(NamedTuple):
    """``group-state``, key tenant/group: a group as its owner keeps it.

    ``deferred``: licence changes as [event id, add, remove, timestamp in milliseconds], ``remove``
    being null for a whole list (R28);
    ``reports``: partition -> [version, members, licensed, with errors, {error: users}];
    ``pending_completions``: [version, kind, event id]; ``published``: the status last published.
    Optional: ``membershipRule``, as in :class:`GroupRow`.
    """

    display_name: str | None
    deleted: bool
    licenses: dict[str, list[str]]
    version: int
    deferred: list[list[Any]]
    reports: dict[str, list[Any]]
    pending_completions: list[list[Any]]
    published: dict[str, Any] | None
    seen_fingerprints: bytes
    timestamp_ms: int
    caused_by: str
    optional_facts: OptionalFacts = None


class AddressClaimRow(NamedTuple):
    """One claim of an address, inside a row of ``addresses``: the first one owns the address (R18).

    ``derived``: the address was computed, not given (R19); left out if false. These rows are read
    and no longer written: see :class:`ClaimRow`.
    """

    since_ms: int
    offset: int
    user: str
    partition: int
    derived: bool = False


class ClaimRow(NamedTuple):
    """``claims``, key tenant/user/address: one user's claim of a proxy address (R18).

    ``flags``: 1 if the address was computed, not given (R19), and 2 if the claim owns it. A row of
    ``owner-changes``, key tenant/address, has the time and the cause of a change of the owner that
    not all other claimants know yet.
    """

    since_ms: int
    offset: int
    partition: int
    flags: int


# -- optional facts
def append_optional(fields: list[Any], facts: OptionalFacts) -> list[Any]:
    """Returns the row with its optional facts, if there are any, as the last field."""
    return [*fields, facts] if facts else fields


def with_optional(facts: OptionalFacts, name: str, value: Any) -> OptionalFacts:
    """Returns the optional facts with one member set; None takes it away."""
    others = {known: fact for known, fact in (facts or {}).items() if known != name}
    return others if value is None else {**others, name: value}


def split_optional(row: list[Any], kind: Any) -> tuple[list[Any], OptionalFacts]:
    """Returns the fields of a row that every format has, and the optional facts.

    ``kind``: the class of the row; its last field is ``optional_facts``.
    """
    fixed = len(kind._fields) - 1
    return (row, None) if len(row) <= fixed else (row[:fixed], row[fixed])


# -- products, tenants, groups
def encode_product(
    sku: str, part_number: str, display_name: str, plans: tuple[ServicePlan, ...]
) -> list[Any]:
    """Returns the row of a product's definition."""
    return [
        sku,
        part_number,
        display_name,
        [
            [
                p.id, p.name, p.applies_to, p.exclusive_sets, p.requires, p.prohibited_locations,
                p.mail_enabled,
            ]
            for p in plans
        ],
    ]  # fmt: skip


def decode_product(row: list[Any]) -> Product:
    """Returns the product that the row defines."""
    product = ProductRow._make(row)
    plans = [
        ServicePlan(
            plan.id,
            plan.name,
            plan.applies_to,
            tuple(plan.exclusive_sets),
            tuple(map(tuple, plan.requires)),
            tuple(plan.prohibited_locations),
            plan.mail_enabled,
        )
        for plan in map(ServicePlanRow._make, product.service_plans)
    ]
    return Product(product.sku, product.part_number, product.display_name, plans)


def product_key(row: list[Any]) -> str:
    """Returns the skuId in the row of a product."""
    return ProductRow._make(row).sku


def encode_tenant(
    location: str | None, automatic: bool, convert: bool, facts: OptionalFacts = None
) -> list[Any]:
    """Returns the row of a tenant's settings as every partition knows them."""
    return append_optional([location, automatic, convert], facts)


def decode_tenant(row: list[Any]) -> Tenant:
    """Returns the settings in the row."""
    location, automatic, convert, facts = TenantRow(*row)
    return Tenant(location, automatic, convert, (facts or {}).get("initialDomain"))


def encode_group(
    version: int, licenses: Mapping[str, Any], deleted: bool, facts: OptionalFacts = None
) -> list[Any]:
    """Returns the row of a group's licences as every partition knows them."""
    return append_optional([version, licenses, deleted], facts)


def decode_group(row: list[Any]) -> GroupRow:
    """Returns the fields of a row of ``groups``."""
    return GroupRow(*row)


def encode_membership_rules(rule: MembershipRule | None, pending: tuple[Any, ...]) -> OptionalFacts:
    """Returns a group's rules as members of its optional facts."""
    facts: dict[str, Any] = {}
    if rule is not None:
        facts[MEMBERSHIP_RULE] = rule.row()
    if pending:
        facts[PENDING_RULES] = list(pending)
    return facts or None


def membership_rules_of(facts: OptionalFacts) -> tuple[MembershipRule | None, tuple[Any, ...]]:
    """Returns the rule in a group's optional facts, and those that wait."""
    if not facts:
        return None, ()
    row = facts.get(MEMBERSHIP_RULE)
    rule = None if row is None else MembershipRule(*row)
    return rule, tuple(facts.get(PENDING_RULES, ()))


# -- catalog, tenant settings
def encode_fingerprints(seen: bytes) -> str:
    """Returns fingerprints of applied events (R24) as text; it is all of a row of ``catalogue``."""
    return seen.hex()


def decode_fingerprints(text: str) -> bytes:
    """Returns the fingerprints in the text."""
    return bytes.fromhex(text)


def encode_tenant_settings(row: TenantSettingsRow) -> list[Any]:
    """Returns a row of ``tenant-settings``."""
    return append_optional([*row[:3], row.seen_fingerprints.hex()], row.optional_facts)


def decode_tenant_settings(row: list[Any]) -> TenantSettingsRow:
    """Returns the fields of a row of ``tenant-settings``."""
    (location, automatic, convert, seen), facts = split_optional(row, TenantSettingsRow)
    return TenantSettingsRow(location, automatic, convert, bytes.fromhex(seen), facts)


# -- plan sets, jobs
def encode_plan_set(row: PlanSetRow) -> list[Any]:
    """Returns a row of ``plans``."""
    return list(row)


def decode_plan_set(row: list[Any]) -> PlanSetRow:
    """Returns the fields of a row of ``plans``."""
    return PlanSetRow._make(row)


def encode_job(row: JobRow) -> list[Any]:
    """Returns a row of ``jobs``."""
    *fields, facts = row
    return append_optional(fields, facts)


def decode_job(row: list[Any]) -> JobRow:
    """Returns the fields of a row of ``jobs``."""
    return JobRow(*row)


# -- groups' and products' owners
def encode_group_state(row: GroupStateRow) -> list[Any]:
    """Returns a row of ``group-state``."""
    fields = [
        row.display_name,
        row.deleted,
        row.licenses,
        row.version,
        row.deferred,
        row.reports,
        row.pending_completions,
        row.published,
        row.seen_fingerprints.hex(),
        row.timestamp_ms,
        row.caused_by,
    ]
    return append_optional(fields, row.optional_facts)


def decode_group_state(row: list[Any]) -> GroupStateRow:
    """Returns the fields of a row of ``group-state``."""
    (*first, seen, timestamp_ms, caused_by), facts = split_optional(row, GroupStateRow)
    return GroupStateRow._make([*first, bytes.fromhex(seen), timestamp_ms, caused_by, facts])


def encode_address_claims(claims: list[AddressClaimRow]) -> list[list[Any]]:
    """Returns a row of ``addresses``."""
    return [list(claim if claim.derived else claim[:4]) for claim in claims]


def decode_address_claims(row: list[list[Any]]) -> list[AddressClaimRow]:
    """Returns the claims in a row of ``addresses``."""
    return [AddressClaimRow(*claim) for claim in row]


def encode_claim(claim: AddressClaimRow, owns: bool) -> list[int]:
    """Returns a row of ``claims``."""
    return [claim.since_ms, claim.offset, claim.partition, int(claim.derived) | (2 if owns else 0)]


def decode_claim(user: str, row: list[int]) -> tuple[AddressClaimRow, bool]:
    """Returns the claim in a row of ``claims``, and whether it owns the address."""
    since_ms, offset, partition, flags = row
    claim = AddressClaimRow(since_ms, offset, user, partition, bool(flags & 1))
    return claim, bool(flags & 2)
