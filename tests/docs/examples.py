"""Runs the worked examples of the documentation: blocks of text that begin with ``# Example``.

One line is one event, or after ``->`` what must hold then. A line is read by the first pattern that
it matches; see ``_EVENTS`` and ``_EXPECTED``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from engine.simulation.in_memory_cluster import InMemoryCluster
from streams.contract.event_reader import Event, event_of

TENANT = "contoso"
_block = re.compile(r"^```text\n# Example: (.*?)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def examples(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Title and lines of each example of a page."""
    for found in _block.finditer(path.read_text(encoding="utf-8")):
        lines = [line.strip() for line in found[2].splitlines()]
        yield found[1], [line for line in lines if line and not line.startswith("#")]


class Story:
    """The system in memory, and the words of the examples."""

    def __init__(self) -> None:
        self.cluster = InMemoryCluster(partitions=2)
        self.count = 0
        self.clock = 1_800_000_000_000

    def tell(self, line: str) -> None:
        if line.startswith("->"):
            self.expect(line.removeprefix("->").strip())
            return
        for pattern, make in _EVENTS:
            if found := re.fullmatch(pattern, line):
                for body in make(found.groupdict()):
                    self._send(body)
                self.cluster.settle()
                return
        raise ValueError(f"no such event: {line}")

    def _send(self, body: dict[str, Any]) -> None:
        self.count += 1
        whole = {"id": f"e{self.count}", "tenant": TENANT, **body}
        event = event_of(json.dumps(whole).encode())
        assert isinstance(event, Event), event
        self.clock += 1
        self.cluster.publish(event.topic, event.key.decode(), event.event, self.clock)

    def expect(self, line: str) -> None:
        for pattern, look in _EXPECTED:
            if found := re.fullmatch(pattern, line):
                said = found.groupdict()
                shown, wanted = look(self, said), said["wanted"]
                assert shown == wanted, f"{line!r}, but it is: {shown}"
                return
        raise ValueError(f"no such expectation: {line}")

    def latest(self, topic: str, key: str) -> Any:
        found = None
        for output in self.cluster.outputs:
            if (output.topic, output.key) == (topic, f"{TENANT}/{key}"):
                found = output.value
        return found

    def user(self, said: dict[str, str]) -> str:
        record = self.latest("user-licenses", said["user"])
        states = record["licenseAssignmentStates"] if record else []
        return "; ".join(_state(each) for each in states) or "nothing"

    def plans(self, said: dict[str, str]) -> str:
        """Enabled plans of a user, by what each product has and what is disabled of it."""
        machine = self.cluster.machines[0]
        record = self.latest("user-licenses", said["user"]) or {"assignedLicenses": []}
        found: set[str] = set()
        for license in record["assignedLicenses"]:
            product = machine.configuration.products[license["skuId"]]
            found |= product.user_plans - set(license["disabledPlans"])
        return ", ".join(sorted(found)) or "none"

    def seats(self, said: dict[str, str]) -> str:
        record = self.latest("product-seats", said["sku"])
        return f"{record['consumedUnits']} used, {record['availableUnits']} available"

    def result(self, said: dict[str, str]) -> str:
        results = [o.value for o in self.cluster.outputs if o.topic == "results"]
        return " ".join(filter(None, (results[-1]["status"], results[-1].get("error"))))

    def mail(self, said: dict[str, str]) -> str:
        return str(self.latest("user-licenses", said["user"])["mail"])


def _state(state: dict[str, Any]) -> str:
    path = f"by {state['assignedByGroup']}" if state["assignedByGroup"] else "direct"
    error = "" if state["error"] == "None" else f"/{state['error']}"
    return f"{state['skuId']} {path} {state['state']}{error}"


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def _plan(text: str) -> dict[str, Any]:
    """``mail (set Exchange; needs base; not CN; mail)``"""
    name, _, more = text.strip().partition("(")
    plan: dict[str, Any] = {"servicePlanId": name.strip()}
    for word in filter(None, (part.strip() for part in more.rstrip(")").split(";"))):
        kind, _, value = word.partition(" ")
        if kind == "set":
            plan["exclusiveSets"] = [value]
        elif kind == "needs":
            plan.setdefault("requires", []).append(value.split(" or "))
        elif kind == "not":
            plan["prohibitedLocations"] = value.split()
        elif kind == "mail":
            plan["mailEnabled"] = True
        else:
            raise ValueError(f"no such property of a plan: {word}")
    return plan


def _product(said: dict[str, str]) -> list[dict[str, Any]]:
    plans = [_plan(text) for text in re.split(r",\s*(?![^(]*\))", said["plans"])]
    return [{"type": "product.defined", "skuId": said["sku"], "servicePlans": plans}]


def _seats(said: dict[str, str]) -> list[dict[str, Any]]:
    units = {"enabled": int(said["units"])}
    return [{"type": "subscription.updated", "skuId": said["sku"], "prepaidUnits": units}]


def _tenant(said: dict[str, str]) -> list[dict[str, Any]]:
    words = dict(word.split("=") for word in said["words"].split())
    names = {"retry": "seatRetry", "deletion": "onGroupDeletion"}
    policies = {names[name]: value for name, value in words.items() if name in names}
    location = {"usageLocation": words["location"]} if "location" in words else {}
    return [{"type": "tenant.updated", "policies": policies, **location}]


def _arrives(said: dict[str, str]) -> list[dict[str, Any]]:
    body: dict[str, Any] = {"type": "user.upserted", "user": said["user"]}
    body["userPrincipalName"] = f"{said['user']}@contoso.example"
    body["usageLocation"] = None if said["place"] == "nowhere" else said["place"] or "US"
    if said["address"]:
        body["proxyAddresses"] = [said["address"]]
    return [body]


def _simple(kind: str) -> Callable[[dict[str, str]], list[dict[str, Any]]]:
    return lambda said: [{"type": kind, **said}]


def _licenses(said: dict[str, str]) -> list[dict[str, Any]]:
    off = _names(said.get("off"))
    added = [{"skuId": sku, "disabledPlans": off} for sku in _names(said.get("add"))]
    target = {name: said[name] for name in ("user", "group") if said.get(name)}
    removed = _names(said.get("lost"))
    change = {"addLicenses": added, "removeLicenses": removed}
    return [{"type": "licenses.changed", **target, **change}]


_USER = r"(?P<user>[a-z]+)"
_GROUP = r"(?P<group>[a-z-]+)"
_WITHOUT = r"(?: without (?P<off>[\w, -]+?))?"
_Make = Callable[[dict[str, str]], list[dict[str, Any]]]
_EVENTS: list[tuple[str, _Make]] = [
    (r"product (?P<sku>\w+) = (?P<plans>.+)", _product),
    (r"(?P<sku>\w+) has (?P<units>\d+) units", _seats),
    (r"the tenant has (?P<words>.+)", _tenant),
    (
        rf"{_USER} (?:arrives|is)(?: in (?P<place>[A-Z]{{2}}|nowhere))?(?: with (?P<address>\S+))?",
        _arrives,
    ),
    (rf"{_USER} is deleted", _simple("user.deleted")),
    (rf"{_USER} joins {_GROUP}", _simple("membership.added")),
    (rf"{_USER} leaves {_GROUP}", _simple("membership.removed")),
    (rf"{_USER} is reprocessed", _simple("user.reprocess")),
    (rf"group {_GROUP} gets (?P<add>[\w, ]+?){_WITHOUT}", _licenses),
    (rf"group {_GROUP} loses (?P<lost>[\w, ]+)", _licenses),
    (rf"group {_GROUP} is deleted", _simple("group.deleted")),
    (rf"group {_GROUP} is reprocessed", _simple("group.reprocess")),
    (
        rf"{_USER} is given (?P<add>[\w, ]+?){_WITHOUT}(?: in exchange for (?P<lost>[\w, ]+))?",
        _licenses,
    ),
    (rf"{_USER} is relieved of (?P<lost>[\w, ]+)", _licenses),
]
_EXPECTED: list[tuple[str, Callable[[Story, dict[str, str]], str]]] = [
    (r"the change is (?P<wanted>.+)", Story.result),
    (r"plans of (?P<user>[a-z]+): (?P<wanted>.+)", Story.plans),
    (r"mail of (?P<user>[a-z]+): (?P<wanted>.+)", Story.mail),
    (r"seats of (?P<sku>\w+): (?P<wanted>.+)", Story.seats),
    (r"(?P<user>[a-z]+): (?P<wanted>.+)", Story.user),
]
