"""The form that buys seats of a product and gives them back."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from streams.console.changes.licences import product_name
from streams.console.changes.proposal import ChangeError, Given, Proposal, proposal
from streams.console.commands import definitions
from streams.console.read_model import queries
from streams.console.read_model.queries import Connection
from streams.contract.field_checks import MAX_UNITS

MOST_PRODUCTS = 2_000
NONE_BOUGHT = {"enabled": 0, "warning": 0, "suspended": 0, "lockedOut": 0}


def facts(db: Connection, tenant: str, given: Given) -> dict[str, Any]:
    """Returns the product, or all that are defined to choose one."""
    sku = given.one("sku")
    found = queries.sku(db, tenant, sku) if sku else None
    sql = "SELECT sku, part, name FROM catalog ORDER BY lower(coalesce(name, part)) LIMIT ?"
    known = [] if found else [dict(row) for row in db.execute(sql, (MOST_PRODUCTS,))]
    return {"sku": found, "catalog": known, "chosen": sku}


def propose(db: Connection, tenant: str, given: Given) -> Proposal:
    """Returns the change of a subscription's enabled units. Raises: ChangeError.

    The units of the other kinds stay as they are.
    """
    sku = given.one("sku")
    if not sku:
        raise ChangeError("Choose a product.")
    found = queries.sku(db, tenant, sku)
    before = dict(found["prepaidUnits"]) if found else NONE_BOUGHT
    number, gives = _number(given.one("number")), given.one("direction") == "give back"
    enabled = before["enabled"] + (-number if gives else number)
    name = product_name(db, sku)
    if enabled < 0:
        raise ChangeError(
            f"{number:,} seats of {name} cannot be given back: {before['enabled']:,} are enabled."
        )
    if enabled > MAX_UNITS:
        raise ChangeError(f"A product has at most {MAX_UNITS:,} units.")
    verb = "Give back" if gives else "Buy"
    line = (
        f"{verb} {number:,} seat{'' if number == 1 else 's'} of {name}:"
        f" {before['enabled']:,} enabled units become {enabled:,}."
    )
    notes = []
    if found and enabled + before["warning"] < found["consumedUnits"]:
        notes.append("More seats would be used than bought: nobody loses one, nobody new gets one.")
    command = definitions.put_subscription(sku, before | {"enabled": enabled}, before)
    return proposal([command], [line], f"/products/{quote(sku)}", notes)


def _number(text: str) -> int:
    digits = text.replace(",", "")
    if not (digits.isascii() and digits.isdigit() and 0 < int(digits[:12]) <= MAX_UNITS):
        raise ChangeError(f"The number of seats must be from 1 to {MAX_UNITS:,}.")
    return int(digits)
