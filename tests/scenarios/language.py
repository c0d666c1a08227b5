"""One scenario file: its steps as input events of the contract."""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Iterator
from typing import Any

import yaml

from streams.catalog.sample import SHORT_NAMES, sample_catalog

Json = dict[str, Any]
InputRecord = tuple[str, str, Any]
"""Topic without its prefix; key; the event, or the raw text of a value that is no event."""

FOLDER = pathlib.Path(__file__).parent
SCENARIOS = sorted(FOLDER.glob("[0-9]*.yaml"))
TIME = "2026-11-24T08:00:00Z"
LONG_AGO = "2024-01-01T00:00:00Z"
USER_VERBS = (
    "user", "snapshot", "delete_user", "reprocess_user", "join", "leave", "assign", "set_direct",
)  # fmt: skip


def load_catalog() -> dict[str, Json]:
    """Returns the product definitions by part number and by short name (E3, EMS, …)."""
    products: dict[str, Json] = {event["skuPartNumber"]: event for event in sample_catalog()}
    return products | {short: products[part] for short, part in SHORT_NAMES.items()}


def _renamed(given: Json, names: dict[str, str]) -> Json:
    return {member: given[word] for word, member in names.items() if word in given}


class Scenario:
    """One file. Its tenant is named after the file and the run, so that all can share a system."""

    def __init__(self, path: pathlib.Path, run: str) -> None:
        self.path = path
        self.document: Json = yaml.safe_load(path.read_text())
        self.catalog = load_catalog()
        self.tenant = f"{path.stem}-{run}"
        self.failures: list[str] = []
        self.names: dict[str, str] = {}
        """skuId -> the name that the file uses."""
        self._sent: list[InputRecord] = []
        self._ids = itertools.count(1)
        self.products = self._products_of_the_catalog()

    @property
    def steps(self) -> list[Json]:
        """The steps of the file after one that sets up the tenant and its units."""
        first = [{"tenant": self.document.get("tenant", {"location": "US"})}]
        first += [{"seats": {name: n}} for name, n in self.document.get("seats", {}).items()]
        return [{"do": first}, *self.document["steps"]]

    def records(self, step: Json) -> Iterator[InputRecord]:
        """Yields the input records of one step, in order."""
        for action in step.get("do", ()):
            yield from self._records_of(action)

    def _products_of_the_catalog(self) -> set[str]:
        """Reserves ids for the scenario's own products, so that they can be named before (R21)."""
        names, own = set(self.document.get("seats", {})), set()
        for action in (a for step in self.document["steps"] for a in step.get("do", ())):
            verb, argument = next(iter(action.items()))
            if verb in ("assign", "license", "set_direct", "set_licenses"):
                names |= set(argument[1] or {})
            elif verb == "snapshot":
                names |= {path.split("/")[0] for path in action.get("holds", {})}
            elif verb in ("seats", "cancel"):
                names |= set(argument)
            elif verb == "product":
                own.add(argument["sku"])
        for name in own:
            empty = {"skuId": self._own(name), "skuPartNumber": name, "servicePlans": []}
            self.catalog.setdefault(name, empty)
        return names - own

    def _records_of(self, action: Json) -> list[InputRecord]:
        verb, argument = next(iter(action.items()))
        if verb in ("seats", "cancel", "tenant", "product", "raw", "repeat"):
            return self._other(verb, argument)
        if verb in USER_VERBS:
            return [self._user(verb, argument, action)]
        return [self._group(verb, argument, action)]

    def _user(self, verb: str, argument: Any, action: Json) -> InputRecord:
        user = argument if isinstance(argument, str) else argument[0]
        names = {
            "location": "usageLocation",
            "upn": "userPrincipalName",
            "mail": "mail",
            "nickname": "mailNickname",
            "addresses": "proxyAddresses",
            "attributes": "attributes",
        }
        event: Json
        match verb:
            case "user":
                event = {"type": "user.upserted", **_renamed(action, names)}
            case "delete_user":
                event = {"type": "user.deleted", **_renamed(action, {"restorable": "restorable"})}
            case "snapshot":
                event = {
                    "type": "user.snapshot",
                    **_renamed(action, names),
                    "memberships": [
                        {"group": group, "since": LONG_AGO} for group in action.get("groups", ())
                    ],
                    "licenseAssignmentStates": [
                        self._held(path, disabled)
                        for path, disabled in action.get("holds", {}).items()
                    ],
                }
            case "reprocess_user":
                event = {"type": "user.reprocess"}
            case "join":
                event = {"type": "membership.added", "group": argument[1]}
                if len(argument) > 2:
                    event["memberType"] = argument[2]
            case "set_direct":
                event = {"type": "licenses.set", "licenses": self._licenses(argument[1])}
            case "leave":
                event = {"type": "membership.removed", "group": argument[1]}
            case _:
                removed = argument[2] if len(argument) > 2 else []
                event = self._licenses_changed(argument[1] or {}, removed)
        return self._send("user-changes", f"{self.tenant}/{user}", {"user": user, **event})

    def _held(self, path: str, disabled: list[str] | None) -> Json:
        """A licence of a snapshot; ``path``: product/group, or product/direct."""
        product, group = path.split("/")
        return {
            "skuId": self._sku(product),
            "assignedByGroup": None if group == "direct" else group,
            "disabledPlans": [self._plan(product, plan) for plan in disabled or []],
            "state": "Active",
            "since": LONG_AGO,
        }

    def _group(self, verb: str, argument: Any, action: Json) -> InputRecord:
        group = argument if isinstance(argument, str) else argument[0]
        event: Json
        match verb:
            case "group":
                event = {"type": "group.upserted", "displayName": action.get("name", group)}
            case "rule":
                event = {"type": "group.upserted"}
                event |= {"membershipRule": argument[1]} if len(argument) > 1 else {}
                event |= _renamed(action, {"state": "membershipRuleProcessingState"})
            case "delete_group":
                event = {"type": "group.deleted"}
            case "reprocess_group":
                event = {"type": "group.reprocess"}
            case "license":
                event = self._licenses_changed(argument[1], [])
            case "set_licenses":
                event = {"type": "licenses.set", "licenses": self._licenses(argument[1])}
            case "unlicense":
                event = self._licenses_changed({}, argument[1])
            case _:
                raise ValueError(f"{self.path.name}: unknown verb {verb!r}")
        return self._send("group-changes", f"{self.tenant}/{group}", {"group": group, **event})

    def _other(self, verb: str, argument: Any) -> list[InputRecord]:
        match verb:
            case "seats":
                return [self._units(name, units) for name, units in argument.items()]
            case "cancel":
                return [self._cancelled(name) for name in argument]
            case "tenant":
                names = {"retry": "seatRetry", "on_delete": "onGroupDeletion"}
                event = {
                    "type": "tenant.updated",
                    **_renamed(argument, {"location": "usageLocation", "domain": "initialDomain"}),
                }
                if policies := _renamed(argument, names):
                    event["policies"] = policies
                return [self._send("tenants", self.tenant, event)]
            case "product":
                return [self._define(argument)]
            case "raw":
                key = argument.get("key", "$T/x").replace("$T", self.tenant)
                return [(argument["topic"], key, argument["value"].replace("$T", self.tenant))]
            case _:
                return self._sent[-argument:]

    def _send(self, topic: str, key: str, event: Json) -> InputRecord:
        envelope = {"id": f"{self.tenant}-{next(self._ids)}", "time": TIME, "tenant": self.tenant}
        record = (topic, key, envelope | event)
        self._sent.append(record)
        return record

    def _licenses_changed(self, added: Json, removed: list[str]) -> Json:
        return {
            "type": "licenses.changed",
            "addLicenses": self._licenses(added),
            "removeLicenses": [self._sku(name) for name in removed],
        }

    def _licenses(self, named: Json) -> list[Json]:
        return [
            {
                "skuId": self._sku(name),
                "disabledPlans": [self._plan(name, plan) for plan in disabled or []],
            }
            for name, disabled in named.items()
        ]

    def _units(self, name: str, units: int | Json) -> InputRecord:
        none = {"enabled": 0, "warning": 0, "suspended": 0, "lockedOut": 0}
        prepaid = none | (units if isinstance(units, dict) else {"enabled": units})
        sku = self._sku(name)
        event = {"type": "subscription.updated", "skuId": sku, "prepaidUnits": prepaid}
        return self._send("subscriptions", f"{self.tenant}/{sku}", event)

    def _cancelled(self, name: str) -> InputRecord:
        sku = self._sku(name)
        event = {"type": "subscription.deleted", "skuId": sku}
        return self._send("subscriptions", f"{self.tenant}/{sku}", event)

    def _define(self, argument: Json) -> InputRecord:
        """A product of the scenario's own; its ids carry the tenant, since all share a catalog."""
        name = argument["sku"]
        plans = [{"name": p} if isinstance(p, str) else p for p in argument["plans"]]
        event = {
            "type": "product.defined",
            "id": f"{self.tenant}-{next(self._ids)}",
            "time": TIME,
            "skuId": self._own(name),
            "skuPartNumber": name,
            "displayName": name,
            "servicePlans": [self._service_plan(plan) for plan in plans],
        }
        self.catalog[name] = event
        return "catalog", event["skuId"], event

    def _service_plan(self, plan: Json) -> Json:
        known = self._find_plan(plan["name"])
        made = known or {
            "servicePlanId": self._own(plan["name"]),
            "servicePlanName": plan["name"],
        }
        made = dict(made)
        if "sets" in plan:
            made["exclusiveSets"] = [self._own(name) for name in plan["sets"]]
        if "requires" in plan:
            made["requires"] = [
                [
                    (self._find_plan(x) or {"servicePlanId": self._own(x)})["servicePlanId"]
                    for x in any_of
                ]
                for any_of in plan["requires"]
            ]
        if "prohibited" in plan:
            made["prohibitedLocations"] = plan["prohibited"]
        if plan.get("mail"):
            made["mailEnabled"] = True
        if plan.get("company"):
            made["appliesTo"] = "Company"
        return made

    def _own(self, name: str) -> str:
        return f"{self.tenant}.{name}"

    def _sku(self, name: str) -> str:
        sku: str = self.catalog[name]["skuId"]
        self.names[sku] = name
        return sku

    def _plan(self, product: str, name: str) -> str:
        for plan in self.catalog[product]["servicePlans"]:
            if plan["servicePlanName"] == name:
                return str(plan["servicePlanId"])
        return name

    def _find_plan(self, name: str) -> Json | None:
        if name.startswith("own."):
            return None
        for product in self.catalog.values():
            for plan in product["servicePlans"]:
                if plan["servicePlanName"] == name:
                    found: Json = plan
                    return found
        return None


def catalog_records(scenarios: list[Scenario]) -> list[InputRecord]:
    """The definitions of all products of the catalog that the scenarios name."""
    catalog = load_catalog()
    events = [catalog[name] for name in sorted({n for s in scenarios for n in s.products})]
    return [("catalog", event["skuId"], event) for event in events]
