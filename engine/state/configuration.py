"""The configuration of one partition: products, tenants, and the groups' licences.

Every machine of the partition reads it; ``internal.configuration`` writes it, and so do restored
rows. A change makes new objects (see :mod:`engine.domain.model`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.domain.limits import DEFAULT_LIMITS, Limits
from engine.domain.model import DEFAULT_TENANT, Group, GroupLicenses, PlanSet, Product, Tenant
from engine.domain.partitioner import partition_of
from engine.membership_rules.attributes import AttributeTable
from engine.membership_rules.rule_set import MembershipRule
from engine.state.row_codecs import (
    PRODUCTS,
    TENANTS,
    decode_group,
    decode_product,
    decode_tenant,
    membership_rules_of,
)
from engine.state.seat_lease import PREFETCH_MIN_UNITS
from engine.state.tenant_state import TenantState


class Configuration:
    """The products of the catalog and the state of all tenants."""

    def __init__(
        self,
        number: int,
        partitions: int,
        partition_of: Callable[[str], int],
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self.number = number
        self.partitions = partitions
        self.partition_of = partition_of
        self.products: dict[str, Product] = {}
        self.tenants: dict[str, TenantState] = {}
        self.prohibited: set[str] = set()  # locations where some plan may not be, now or before
        self._offers: dict[tuple[bool, tuple[PlanSet, ...]], GroupLicenses] = {}
        self.prefetch_min_units = PREFETCH_MIN_UNITS
        self.limits = limits
        self.attributes = AttributeTable()
        self.batch_readers = {number}  # partitions that read address messages of format 2

    def owns(self, key: str) -> bool:
        """Returns True if an object with this key belongs to this partition.

        Asked when an object is seen for the first time: a producer with another partitioner would
        give two partitions the same user, and so seats twice.
        """
        return self.partitions == 1 or partition_of(key, self.partitions) == self.number

    def address_partition(self, tenant: str, address: str) -> int:
        """Returns the partition that owns an address; not remembered, since most come once."""
        return partition_of(f"{tenant}/{address}", self.partitions)

    def tenant(self, tenant: str) -> TenantState:
        """Returns the state of a tenant, created on first use."""
        found = self.tenants.get(tenant)
        if found is None:
            found = self.tenants[tenant] = TenantState(tenant)
        return found

    def settings(self, tenant: str) -> Tenant:
        """Returns a tenant's settings, the default ones of a tenant that is not known yet."""
        known = self.tenants.get(tenant)
        return known.settings if known else DEFAULT_TENANT

    # -- products
    def define(self, row: list[Any]) -> bool:
        """Takes a product's definition; returns False if it changes nothing."""
        product = decode_product(row)
        known = self.products.get(product.id)
        if known is not None and known.same_as(product):
            return False
        self._know(product)
        self._offers.clear()
        for tenant in self.tenants.values():
            for id, group in tenant.groups.items():
                if product.id in group.licenses:
                    tenant.groups[id] = self._completed(group)
        return True

    def _know(self, product: Product) -> None:
        self.products[product.id] = product
        for plan in product.plans.values():
            self.prohibited.update(plan.prohibited_locations)

    def defined(self, skus: list[str]) -> bool:
        """Returns True if all of the products are defined."""
        return all(sku in self.products for sku in skus)

    # -- groups
    def group(
        self,
        version: int,
        licenses: dict[str, tuple[str, ...]] | Any,
        deleted: bool,
        rule: MembershipRule | None = None,
        pending_rules: tuple[Any, ...] = (),
    ) -> Group:
        """Returns a group that shares its plan sets with groups of equal licences."""
        known = {sku: off for sku, off in licenses.items() if sku in self.products}
        sets = tuple(self.products[sku].without(known[sku]) for sku in sorted(known))
        license_set = self.license_set(sets) if sets else None
        return Group(version, licenses, deleted, license_set, rule, pending_rules)

    def _completed(self, group: Group) -> Group:
        """Returns the group with the plan sets of the present products."""
        return self.group(
            group.version, group.licenses, group.deleted, group.rule, group.pending_rules
        )

    def license_set(self, sets: tuple[PlanSet, ...], is_part: bool = False) -> GroupLicenses:
        """Returns the one object that stands for these plan sets, or for this part of a group's."""
        found = self._offers.get((is_part, sets))
        if found is None:
            found = self._offers[is_part, sets] = GroupLicenses(sets, is_part)
        return found

    def load(self, table: str, key: str, row: Any) -> None:
        """Takes one restored row; groups are completed by :meth:`start`."""
        if table == PRODUCTS:
            self._know(decode_product(row))
        elif table == TENANTS:
            self.tenant(key).settings = decode_tenant(row)
        else:
            tenant, group = key.split("/", 1)
            found = decode_group(row)
            wanted = {sku: tuple(off) for sku, off in found.licenses.items()}
            rule, pending = membership_rules_of(found.optional_facts)
            self.tenant(tenant).groups[group] = Group(
                found.version, wanted, found.deleted, None, rule, pending
            )

    def start(self) -> None:
        """Completes the restored groups: all products are known now."""
        for tenant in self.tenants.values():
            for id, group in tenant.groups.items():
                tenant.groups[id] = self._completed(group)
                if group.rule is not None:
                    tenant.ensure_rules().put(id, group.rule)
