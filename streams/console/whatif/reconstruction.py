"""Reconstruction of users in the engine's own terms, from what is published of them.

Every (group, product) that a user is asked to have is published (R4), and so are the plans of each
entry, so a user's facts and entries can be reconstructed. Not published, and of no consequence
here: the order of admissions beyond their times, and events already seen.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from engine.domain.events import ProductDefined
from engine.domain.model import Entry, GroupLicenses, Product, Tenant
from engine.domain.proxy_address import normalize_proxy_address
from engine.rules.mail_attributes import given_addresses
from engine.rules.outcome import EvaluationInput
from streams.console.read_model import queries, tenants
from streams.contract.decoder import DECODERS

Connection = sqlite3.Connection
HELD = ("Active", "Disabled", "ActiveWithError")


@lru_cache(maxsize=4096)
def product_of(sku: str, body: str) -> Product:
    """Returns the engine's product for a definition that the workers accepted."""
    decoded = DECODERS["catalog"](sku.encode(), body.encode(), None)
    assert isinstance(decoded, tuple)
    event = decoded[0]
    assert isinstance(event, ProductDefined)
    return Product(event.sku, event.part_number, event.display_name, event.plans)


def products(db: Connection) -> dict[str, Product]:
    """Returns all products: skuId -> product."""
    return {sku: product_of(sku, body) for sku, body in db.execute("SELECT sku, body FROM catalog")}


def settings(db: Connection, tenant: str) -> Tenant:
    """Returns a tenant's settings."""
    known = tenants.tenant(db, tenant)
    policies = known["policies"]
    return Tenant(
        known["usageLocation"],
        policies["seatRetry"] == "automatic",
        policies["onGroupDeletion"] == "convert",
        known["initialDomain"],
    )


def milliseconds(time: str) -> int:
    """Returns an RFC 3339 time in milliseconds."""
    return round(datetime.fromisoformat(time).timestamp() * 1000)


class Licences(NamedTuple):
    """A group's licences: skuId -> disabled plans. ``offer``: those whose product is defined."""

    wanted: dict[str, tuple[str, ...]]
    deleted: bool
    offer: GroupLicenses | None


def licences(group: dict[str, Any] | None, known: dict[str, Product]) -> Licences:
    """Returns a group's licences, from its published status."""
    listed = group["assignedLicenses"] if group else []
    wanted = {x["skuId"]: tuple(x["disabledPlans"]) for x in listed}
    sets = tuple(known[sku].without(wanted[sku]) for sku in sorted(wanted) if sku in known)
    return Licences(wanted, bool(group and group["deleted"]), GroupLicenses(sets) if sets else None)


@dataclass(slots=True)
class ReconstructedUser:
    """A user's present state.

    ``groups``: its memberships in the order of R8, with their times.
    ``licensing_groups``: those of them that license something, slot 1 first.
    ``paths``: the group of each slot; behind them, those that only keep an entry.
    ``user``: in Graph's form. ``given_mail``, ``given_addresses``, ``given_nickname``: as the
    directory gave them; what ``user`` has beyond them was computed (R19).
    """

    user: dict[str, Any]
    given_mail: str | None
    given_addresses: tuple[str, ...]
    given_nickname: str | None
    groups: list[tuple[str, tuple[int, int]]]
    licensing_groups: list[str]
    paths: list[str]
    licences: dict[str, Licences]
    entries: tuple[Entry, ...]
    duplicates: dict[str, str]

    def slot(self, group: str | None) -> int:
        """Returns the slot of a group; 0 for direct."""
        return 0 if group is None else self.paths.index(group) + 1

    @property
    def offers(self) -> tuple[GroupLicenses, ...]:
        """The licences of the licensing groups."""
        found = [self.licences[group].offer for group in self.licensing_groups]
        return tuple(offer for offer in found if offer is not None)

    @property
    def off(self) -> frozenset[str]:
        """The products of the user that are off (R15)."""
        states = self.user["licenseAssignmentStates"]
        return frozenset(s["skuId"] for s in states if s["state"] == "Disabled")

    def situation(self, tenant: Tenant, denied: Iterable[str] = ()) -> EvaluationInput:
        """Returns the present facts for an evaluation."""
        gone = [g for g in self.paths if g in self.licences and self.licences[g].deleted]
        return EvaluationInput(
            self.entries,
            self.offers,
            frozenset(self.slot(g) for g in gone) if tenant.convert else frozenset(),
            self.user["usageLocation"] or tenant.location,
            next(iter(sorted(self.duplicates.items())), None),
            frozenset(denied),
            frozenset(e.plans.sku for e in self.entries),
            self.off,
        )


def reconstruct_user(
    db: Connection, tenant: str, id: str, known: dict[str, Product]
) -> ReconstructedUser | None:
    """Returns a user's present state; None if there is no such user."""
    user = queries.user(db, tenant, id)
    if user is None:
        return None
    states = [s for s in user["licenseAssignmentStates"] if s["skuId"] in known]
    bodies = {m["id"]: m["group"] for m in queries.memberships(db, tenant, id)}
    groups = [(m["id"], (m["since"], m["place"])) for m in queries.memberships(db, tenant, id)]
    # A membership may be older than all that the input topic still holds. Only what could not be
    # removed (R11) is published of a group that the user has left.
    for state in sorted(states, key=lambda s: (s["since"], s["assignedByGroup"] or "")):
        group = state["assignedByGroup"]
        if group is not None and group not in bodies:
            bodies[group] = queries.group_status(db, tenant, group)
            if state["state"] != "ActiveWithError":
                groups.append((group, (milliseconds(state["since"]), 0)))
    offered = {group: licences(body, known) for group, body in bodies.items()}
    licensing = [
        group for group, _ in groups if offered[group].offer and not offered[group].deleted
    ]
    paths = licensing + sorted({s["assignedByGroup"] for s in states} - {None, *licensing})
    given = _given(db, tenant, id)
    duplicates = _duplicates(db, tenant, id)
    found = ReconstructedUser(user, *given, groups, licensing, paths, offered, (), duplicates)
    found.entries = _entries(found, states, known)
    return found


class AbsentUser(NamedTuple):
    """A user who is not known (R22): its memberships, and its facts in the recycle bin.

    ``direct``: the licences that were direct, as [skuId, disabled plans]; None if the user is not
    in the recycle bin.
    """

    id: str
    name: str | None
    principal_name: str | None
    location: str | None
    mail: str | None
    addresses: tuple[str, ...]
    nickname: str | None
    direct: list[Any] | None
    groups: tuple[tuple[str, tuple[int, int]], ...]


def reconstruct_absent_user(db: Connection, tenant: str, id: str) -> AbsentUser | None:
    """Returns what is kept of a user who is not known; None if that is nothing."""
    sql = (
        "SELECT name, upn, location, mail, addresses, nickname, direct FROM recycle_bin"
        " WHERE tenant = ? AND user = ?"
    )
    row = db.execute(sql, (tenant, id)).fetchone()
    groups = tuple((m["id"], (m["since"], m["place"])) for m in queries.memberships(db, tenant, id))
    if row is None:
        return AbsentUser(id, None, None, None, None, (), None, None, groups) if groups else None
    name, upn, location, mail, addresses, nickname, direct = row
    listed, had = tuple(orjson.loads(addresses or "[]")), orjson.loads(direct or "[]")
    return AbsentUser(id, name, upn, location, mail, listed, nickname, had, groups)


def _entries(
    found: ReconstructedUser, states: list[dict[str, Any]], known: dict[str, Product]
) -> tuple[Entry, ...]:
    """Returns the entries in the order of their times, which stand for the order of admission."""
    held = [s for s in states if s["state"] in HELD]
    held.sort(key=lambda s: (s["since"], s["skuId"]))
    turns = {since: turn for turn, since in enumerate(sorted({s["since"] for s in held}))}
    return tuple(
        Entry(
            found.slot(s["assignedByGroup"]),
            turns[s["since"]],
            known[s["skuId"]].without(s["disabledPlans"]),
            tuple(s["disabledPlans"]) if s["assignedByGroup"] is None else None,
        )
        for s in held
    )


def _given(db: Connection, tenant: str, id: str) -> tuple[str | None, tuple[str, ...], str | None]:
    """Returns the given mail, proxy addresses and nickname of a user."""
    sql = "SELECT mail, addresses, nickname FROM users WHERE tenant = ? AND user = ?"
    mail, addresses, nickname = db.execute(sql, (tenant, id)).fetchone() or (None, None, None)
    return mail, tuple(orjson.loads(addresses or "[]")), nickname


def _duplicates(db: Connection, tenant: str, id: str) -> dict[str, str]:
    """Returns the user's addresses that an earlier user owns, with their owners (R18)."""
    found = {}
    mail, addresses, _ = _given(db, tenant, id)
    for key in map(normalize_proxy_address, given_addresses(addresses, mail)):
        first = claims(db, tenant, key)
        if first and first[0][2] != id:
            found[key] = first[0][2]
    # Addresses that only a mail plan would bring are named by the errors (R19).
    sql = "SELECT body FROM errors WHERE tenant = ? AND user = ? AND error = 'UniquenessViolation'"
    for (body,) in db.execute(sql, (tenant, id)):
        details = orjson.loads(body)["details"]
        found.setdefault(details["address"], details["owner"])
    return found


def claims(db: Connection, tenant: str, address: str) -> list[tuple[int, int, str]]:
    """Returns time, offset and user of each claim of an address, the owner's first."""
    sql = (
        "SELECT since, place, user FROM addresses WHERE tenant = ? AND address = ?"
        " ORDER BY since, place, user"
    )
    return [(*row,) for row in db.execute(sql, (tenant, address))]
