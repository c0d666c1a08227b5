"""The facts that users share (rules, section 1): products, tenants, groups, plan sets.

Ids are strings. Objects are immutable; a change makes a new object, so the memo of evaluations can
compare by identity.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple

from engine.membership_rules.rule_set import MembershipRule

DIRECT: Final = ""
"""The path of a direct licence. It sorts before every group id, as null does when published."""


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """One service plan inside one product's definition.

    ``requires`` is a list of any-of lists: each must be met by at least one enabled plan.
    """

    id: str
    name: str
    applies_to: str = "User"
    exclusive_sets: tuple[str, ...] = ()
    requires: tuple[tuple[str, ...], ...] = ()
    prohibited_locations: tuple[str, ...] = ()
    mail_enabled: bool = False


class Product:
    """One definition of a product. ``user_plans``: plans that can be on a user (not Company)."""

    __slots__ = ("_sets", "id", "name", "part_number", "plans", "user_plans")

    def __init__(self, id: str, part_number: str, name: str, plans: Iterable[ServicePlan]) -> None:
        self.id = id
        self.part_number = part_number
        self.name = name
        self.plans: Mapping[str, ServicePlan] = {p.id: p for p in plans}
        self.user_plans = frozenset(p.id for p in self.plans.values() if p.applies_to == "User")
        self._sets: dict[frozenset[str], PlanSet] = {}

    def same_as(self, other: Product) -> bool:
        """Returns True if both define the same product; the ids are not compared."""
        return (
            self.part_number == other.part_number
            and self.name == other.name
            and self.plans == other.plans
        )

    def enabling(self, plans: frozenset[str]) -> PlanSet:
        """Returns the plan set that enables ``plans``; those not in the definition are left out."""
        enabled = plans & self.user_plans
        found = self._sets.get(enabled)
        if found is None:
            found = self._sets[enabled] = PlanSet(self, enabled)
        return found

    def without(self, disabled: Iterable[str]) -> PlanSet:
        """Returns the plan set of R3: the user plans minus the disabled ones."""
        return self.enabling(self.user_plans.difference(disabled))


class PlanSet:
    """The plans that one entry enables, with the facts that the checks of R7 need of them.

    Interned by its product: two entries with the same plans share one object. ``key`` is a hash of
    the content (product, enabled, disabled), the same in every process. ``product`` is None for a
    set restored from a row that the present definition would not make (R12). ``exclusive_names``
    and ``required`` are the names in ``exclusive`` and the plans in ``requires``.
    """

    __slots__ = (
        "disabled",
        "enabled",
        "exclusive",
        "exclusive_names",
        "key",
        "mail",
        "product",
        "prohibited",
        "required",
        "requires",
        "sku",
    )  # fmt: skip

    def __init__(
        self, product: Product, enabled: frozenset[str], disabled: Iterable[str] | None = None
    ) -> None:
        self.product: Product | None = product
        self.sku = product.id
        self.enabled = enabled
        self.disabled = tuple(
            sorted(product.user_plans - enabled if disabled is None else disabled)
        )
        plans = [product.plans[p] for p in sorted(enabled) if p in product.plans]
        self.exclusive = tuple(
            (p.id, frozenset(p.exclusive_sets)) for p in plans if p.exclusive_sets
        )
        self.exclusive_names = frozenset(name for p in plans for name in p.exclusive_sets)
        self.requires = tuple((p.id, frozenset(any_of)) for p in plans for any_of in p.requires)
        self.required = frozenset(q for _, any_of in self.requires for q in any_of)
        self.prohibited = tuple(
            (p.id, p.prohibited_locations) for p in plans if p.prohibited_locations
        )
        self.mail = frozenset(p.id for p in plans if p.mail_enabled)
        text = "\n".join((self.sku, ",".join(sorted(enabled)), ",".join(self.disabled)))
        self.key = hashlib.blake2b(text.encode(), digest_size=9).hexdigest()


class Entry(NamedTuple):
    """One licence through one path (rules, section 1).

    ``path_index`` stands for the path: 0 is direct, 1 … are the user's groups in the order of R8,
    then groups that only hold entries which could not be removed. Users who differ in group ids
    alone can so share one outcome. ``admission_order`` counts admissions: what was admitted
    together has the same number. ``disabled_plans``: what a direct entry asks to be disabled; None
    for a group's entry.
    """

    path_index: int
    admission_order: int
    plans: PlanSet
    disabled_plans: tuple[str, ...] | None = None


class GroupLicenses:
    """The plan sets that a group licenses, in skuId order. Equal ones are one object.

    ``is_part``: the group licenses more, which a user beyond the limits does not get.
    """

    __slots__ = ("by_sku", "is_part", "licenses", "skus")

    def __init__(self, licenses: tuple[PlanSet, ...], is_part: bool = False) -> None:
        self.licenses = licenses
        self.is_part = is_part
        self.by_sku = {plans.sku: plans for plans in licenses}
        self.skus = tuple(self.by_sku)


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant's settings (rules, section 1).

    ``automatic``: seatRetry (R9). ``convert``: onGroupDeletion (R13). ``initial_domain``: the
    domain of routing addresses (R19).
    """

    location: str | None = None
    automatic: bool = True
    convert: bool = True
    initial_domain: str | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """One version of a group's licences, as the user machines know it.

    ``licenses``: skuId to disabled plans. ``license_set``: the same as plan sets; None if it
    licenses nothing. ``rule``: its membership rule (R27), applied to the users here, or being
    applied. ``pending_rules``: changes of the rule that wait until it is; each as the row has it.
    """

    version: int
    licenses: Mapping[str, tuple[str, ...]]
    deleted: bool
    license_set: GroupLicenses | None
    rule: MembershipRule | None = None
    pending_rules: tuple[Any, ...] = ()


DEFAULT_TENANT: Final = Tenant()


class _LastValueCache:
    """The last timestamp and its text. One tuple, so that threads never see half of it."""

    def __init__(self) -> None:
        self.value: tuple[int, str] = (-1, "")


_last: Final = _LastValueCache()


def timestamp(timestamp_ms: int) -> str:
    """Formats milliseconds since 1970 as RFC 3339 in UTC, with milliseconds."""
    known, text = _last.value
    if known != timestamp_ms:
        text = _to_the_second(timestamp_ms // 1000) + MILLISECONDS[timestamp_ms % 1000]
        _last.value = (timestamp_ms, text)
    return text


MILLISECONDS: Final = [f".{ms:03d}Z" for ms in range(1000)]


@lru_cache(maxsize=4096)
def _to_the_second(seconds: int) -> str:
    # Not strftime, which writes the year 1 without its zeros.
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()


FIRST_TIMESTAMP_MS: Final = -62_135_596_800_000
LAST_TIMESTAMP_MS: Final = 253_402_300_799_999
"""The first and the last millisecond that :func:`timestamp` can format: the years 1 to 9999."""
