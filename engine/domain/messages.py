"""The English sentences of errors, for administrators. Details carry ids, sentences names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from engine.domain.model import Product

Details = tuple[tuple[str, object], ...]
"""Named facts of an error, hashable: lists are tuples. The contract lists the names per error."""

Products = Mapping[str, Product]


class Rejection(NamedTuple):
    """The reason why a change cannot be made, as ``results`` has it."""

    error: str
    sku: str | None
    details: Details
    message: str


def limit_exceeded(limit: str, maximum: int, number: int) -> Rejection:
    """Returns the rejection of what goes beyond a limit, named for people (rules, *Limits*)."""
    details = (("limit", limit), ("maximum", maximum), ("number", number))
    return Rejection(
        "LimitExceeded", None, details, f"There may be {maximum:,} {limit}; this is {number:,}."
    )


def product_name(products: Products, sku: str) -> str:
    """Returns the product's part number, or its id if it is not defined."""
    product = products.get(sku)
    return product.part_number if product else sku


def plan_name(products: Products, plan: str, sku: str | None = None) -> str:
    """Returns the plan's name, from product ``sku`` if it has the plan, else from any product."""
    home = products.get(sku) if sku is not None else None
    if home is not None and plan in home.plans:
        return home.plans[plan].name
    for product in products.values():
        if plan in product.plans:
            return product.plans[plan].name
    return plan


def _more(listed: int, total: int) -> str:
    """Returns how many are not named, to be put behind those that are; nothing if all are."""
    return f" and {total - listed} more" if total > listed else ""


def location(
    products: Products, sku: str, plans: Sequence[str], where: str | None, listed: int = 5
) -> str:
    """R7.1: ``plans`` are prohibited in ``where``, or there is no location (None)."""
    if where is None:
        return (
            f"{product_name(products, sku)} needs a usage location: set one on the user or a "
            "default on the tenant."
        )
    names = ", ".join(plan_name(products, p, sku) for p in plans[:listed])
    names += _more(listed, len(plans))
    return f"{product_name(products, sku)} has plans that are not available in {where}: {names}."


def conflict(
    products: Products, sku: str, conflicts: Sequence[tuple[str, str, str]], total: int
) -> str:
    """R7.2: ``conflicts`` are (plan, other plan, skuId of the other plan), of ``total``."""
    pairs = ", ".join(
        f"{plan_name(products, mine, sku)} with {plan_name(products, other, other_sku)} "
        f"of {product_name(products, other_sku)}"
        for mine, other, other_sku in conflicts
    )
    pairs += _more(len(conflicts), total)
    return (
        f"{product_name(products, sku)} has plans that exclude others the user has or is to get: "
        f"{pairs}. Disable one of each pair or remove one of the licences."
    )


def missing(
    products: Products, sku: str, lacks: Sequence[tuple[str, Sequence[str]]], total: int
) -> str:
    """R7.3: ``lacks`` are (plan, plans of which it requires one), of ``total``."""
    parts = "; ".join(
        f"{plan_name(products, plan, sku)} requires "
        + " or ".join(plan_name(products, p) for p in any_of)
        for plan, any_of in lacks
    )
    parts += _more(len(lacks), total)
    return f"{product_name(products, sku)} lacks what it depends on: {parts}."


def needed_by_others(
    products: Products, sku: str, lacks: Sequence[tuple[str, Sequence[str]]], total: int
) -> str:
    """R11, R12, R16: plans that stay would lose a requirement; ``lacks`` as in :func:`missing`."""
    names = ", ".join(sorted({plan_name(products, plan) for plan, _ in lacks}))
    names += _more(len(lacks), total)
    return (
        f"{product_name(products, sku)} cannot be removed or changed: {names}, which stays, "
        "depends on it."
    )


def duplicate(products: Products, sku: str, address: str, owner: str) -> str:
    """R7.4: the proxy address belongs to an earlier user."""
    return (
        f"{product_name(products, sku)} has a mail plan, but the proxy address {address} belongs "
        f"to the user {owner}. Remove it from one of the two users."
    )


def count(products: Products, sku: str) -> str:
    """R7.5: no seat is free."""
    return f"No seat of {product_name(products, sku)} is free: buy more or take some back."


def other(products: Products, sku: str, blocked_by: Sequence[str], total: int) -> str:
    """R6: products of the same group that could not be assigned."""
    names = ", ".join(product_name(products, s) for s in blocked_by)
    names += _more(len(blocked_by), total)
    return (
        f"{product_name(products, sku)} was not assigned because other licences of the same group "
        f"could not be: {names}."
    )
