"""The facts of the rules, section 1, that are shared: products, tenants, groups, plan sets.

Ids are strings. Everything here is frozen once made; a change makes a new object, so that identity
can stand for equality in the memo of evaluations (architecture, section 3).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, NamedTuple

DIRECT: Final = ""
"""The path of a direct licence; sorts before every group id, as null does when published."""


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
        return (
            self.part_number == other.part_number
            and self.name == other.name
            and self.plans == other.plans
        )

    def enabling(self, plans: frozenset[str]) -> PlanSet:
        """The plan set of this definition that enables ``plans``, as far as it still has them."""
        enabled = plans & self.user_plans
        found = self._sets.get(enabled)
        if found is None:
            found = self._sets[enabled] = PlanSet(self, enabled)
        return found

    def without(self, disabled: Iterable[str]) -> PlanSet:
        """The plan set of R3: the user plans minus the disabled ones."""
        return self.enabling(self.user_plans.difference(disabled))


class PlanSet:
    """The plans that one entry enables, of one definition of a product, and what rules ask of them.

    Interned by its product: two entries with the same plans share one object. ``key`` names the
    content (product, enabled, disabled) and is the same in every process.
    """

    __slots__ = (
        "disabled",
        "enabled",
        "exclusive",
        "key",
        "mail",
        "product",
        "prohibited",
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
        self.requires = tuple((p.id, frozenset(any_of)) for p in plans for any_of in p.requires)
        self.prohibited = tuple(
            (p.id, p.prohibited_locations) for p in plans if p.prohibited_locations
        )
        self.mail = frozenset(p.id for p in plans if p.mail_enabled)
        text = "\n".join((self.sku, ",".join(sorted(enabled)), ",".join(self.disabled)))
        self.key = hashlib.blake2b(text.encode(), digest_size=9).hexdigest()


class Entry(NamedTuple):
    """One licence through one path (section 1).

    ``slot`` stands for the path: 0 is direct, 1… are the user's groups in the order of R8, then
    groups that only hold what could not be removed. Users who differ in group ids alone can so
    share one outcome. ``turn`` counts admissions: what was admitted together has the same turn.
    ``off`` is the wish of a direct entry, its disabled plans; None for a group's entry.
    """

    slot: int
    turn: int
    plans: PlanSet
    off: tuple[str, ...] | None = None


class Offer:
    """What a group licenses: (skuId, plan set) in skuId order. Equal offers are one object."""

    __slots__ = ("licenses", "skus", "wanted")

    def __init__(self, licenses: tuple[PlanSet, ...]) -> None:
        self.licenses = licenses
        self.wanted = {plans.sku: plans for plans in licenses}
        self.skus = tuple(self.wanted)


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant's settings (section 1)."""

    location: str | None = None
    automatic: bool = True
    convert: bool = True


@dataclass(frozen=True, slots=True)
class Group:
    """A group as the user machines know it: one version of its licences."""

    version: int
    licenses: Mapping[str, tuple[str, ...]]
    deleted: bool
    offer: Offer | None


DEFAULT_TENANT: Final = Tenant()


class _Latest:
    """The last timestamp, in one piece for whoever reads in several threads: they recur."""

    def __init__(self) -> None:
        self.made: tuple[int, str] = (-1, "")


_latest: Final = _Latest()


def timestamp(at: int) -> str:
    """Milliseconds since 1970 as RFC 3339 with milliseconds, UTC."""
    known, text = _latest.made
    if known != at:
        text = _to_the_second(at // 1000) + MILLISECONDS[at % 1000]
        _latest.made = (at, text)
    return text


MILLISECONDS: Final = [f".{ms:03d}Z" for ms in range(1000)]


@lru_cache(maxsize=4096)
def _to_the_second(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"
