"""Exports of a made-up directory as Graph pages, with every peculiarity of real ones.

What Graph says of each user is written by kind of user, without Seatflow's rules: a first load is
compared with it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from streams.catalog import product

Json = dict[str, Any]

ROOT = "https://graph.microsoft.com/v1.0/"
PAGE = 999
UNKNOWN_GROUP = "99999999-0000-4000-8000-000000000000"
DELETED_PRODUCT = "88888888-0000-4000-8000-000000000000"
OFF = "SHAREPOINTENTERPRISE"

# The groups by name: the products that they give.
GROUPS = {
    "staff": ["E3"],
    "full": ["E3"],
    "bundle": ["E3", "EMS"],
    "large": ["E5"],
    "drawing": ["VISIO"],
    "planning": ["PROJECT"],
    "reports": ["PBI"],
    "new": ["EMS"],
    "empty": [],
    "sales": ["EMS"],
}
# The rule of one names a property that the users of the export do not have.
RULES = {
    "full": 'user.city -eq "Kiel"',
    "sales": 'user.department -eq "Sales" -and user.extensionAttribute7 -match "^floor [0-9]$"',
}
# Groups whose members are in lists of their own.
LISTED = ("full", "reports")
_DISABLED = {("staff", "E3"): [OFF]}


def sku(name: str) -> str:
    """The skuId of a product of the sample catalog."""
    return str(product(name)["skuId"])


def group_id(name: str) -> str:
    """The object id of a group."""
    return f"00000000-0000-4000-9000-{[*GROUPS].index(name):012d}"


def user_id(number: int) -> str:
    """The object id of a user."""
    return f"{number:08d}-0000-4000-a000-000000000000"


def _plan(name: str, plan: str) -> str:
    plans = product(name)["servicePlans"]
    return str(next(each["servicePlanId"] for each in plans if each["servicePlanName"] == plan))


def _state(name: str, group: str | None = None, state: str = "Active", error: str = "None") -> Json:
    disabled = [_plan(name, plan) for plan in _DISABLED.get((group or "", name), ())]
    return {
        "skuId": sku(name),
        "assignedByGroup": None if group is None else group_id(group),
        "disabledPlans": disabled,
        "state": state,
        "error": error,
        "lastUpdatedDateTime": "2024-03-01T08:00:00Z",
    }


class Person:
    """A user of the export: attributes, groups, and the states that Graph lists."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.id = user_id(number)
        self.groups: list[str] = []
        self.states: list[Json] = []
        self.deleted = False
        name = f"user{number}@contoso.example"
        self.attributes: Json = {
            "userPrincipalName": name,
            "displayName": f"Jörg Nº {number}",
            "usageLocation": "US",
            "mail": name,
            "proxyAddresses": [f"SMTP:{name}", f"x500:/o=Contoso/cn={number}"],
            "department": "Research",
            "jobTitle": f"Engineer {number % 7}",
            "accountEnabled": True,
            "businessPhones": ["+49 431 1"],
            "employeeOrgData": {"costCenter": f"CC{number % 30}", "division": None},
            "onPremisesExtensionAttributes": {"extensionAttribute7": f"floor {number % 9}"},
        }

    def member(self, group: str, *states: str) -> None:
        """Adds a membership, and a state for each product of the group (Active by default)."""
        self.groups.append(group)
        for name, state in zip(GROUPS[group], states or ("Active",) * 9, strict=False):
            kind, _, error = state.partition("/")
            self.states.append(_state(name, group, kind, error or "None"))

    def direct(self, name: str) -> None:
        """Adds a direct licence."""
        self.states.append(_state(name))


def _plain(person: Person) -> None:
    person.member("staff")
    if person.number % 200 == 0:  # an address that the next one has, too
        other = f"smtp:user{person.number + 1}@contoso.example"
        person.attributes["proxyAddresses"].append(other)


def _two_groups(person: Person) -> None:
    person.member("staff")
    person.member("full")


def _direct_and_group(person: Person) -> None:
    person.direct("E3")
    person.member("staff")


def _direct_without_location(person: Person) -> None:
    person.direct("E5")
    person.attributes["usageLocation"] = None


def _guest(person: Person) -> None:
    person.member("staff")
    person.attributes |= {"usageLocation": None, "userType": "Guest"}


def _conflict(person: Person) -> None:
    person.direct("E1")
    person.member("bundle", "Error/MutuallyExclusiveViolation", "Error/Other")


def _too_few_seats(person: Person) -> None:
    held = person.number // len(KINDS) % 2
    person.member("drawing", "Active" if held else "Error/CountViolation")


def _would_not_be_admitted(person: Person) -> None:
    person.direct("E1")
    person.direct("E3")


def _prohibited(person: Person) -> None:
    person.member("large")
    person.attributes["usageLocation"] = "CN"


def _kept_for_a_dependency(person: Person) -> None:
    person.direct("AUDIO")
    person.states.append(_state("E5", "large", "ActiveWithError", "DependencyViolation"))


def _stale_error(person: Person) -> None:
    person.member("planning", "Error/CountViolation")


def _soft_deleted(person: Person) -> None:
    person.deleted = True


def _nothing(person: Person) -> None:
    person.groups.append("empty")


def _product_is_off(person: Person) -> None:
    person.member("reports", "Disabled")


def _not_decided(person: Person) -> None:
    person.groups.append("new")


def _unknown_to_the_export(person: Person) -> None:
    unknown = _state("E3") | {"assignedByGroup": UNKNOWN_GROUP}
    person.states += [unknown, _state("EMS") | {"skuId": DELETED_PRODUCT}]


def _by_rule(person: Person) -> None:
    person.member("sales")
    person.attributes["department"] = "SALES"
    if person.number % 400 == 4:  # Entra has not seen yet that the rule ended it
        person.attributes["department"] = "Purchasing"


KINDS: list[Callable[[Person], None]] = [
    *[_plain] * 4,
    _by_rule,
    _two_groups,
    _direct_and_group,
    _direct_without_location,
    _guest,
    _conflict,
    _too_few_seats,
    _would_not_be_admitted,
    _prohibited,
    _kept_for_a_dependency,
    _stale_error,
    _soft_deleted,
    _nothing,
    _product_is_off,
    _not_decided,
    _unknown_to_the_export,
]


def people(count: int) -> list[Person]:
    """The users of an export."""
    found = []
    for number in range(count):
        person = Person(number)
        KINDS[number % len(KINDS)](person)
        found.append(person)
    return found


def write_export(folder: Path, count: int) -> list[Person]:
    """Writes an export of ``count`` users; file names are in an order that is not safe."""
    everybody = people(count)
    folder.mkdir(parents=True, exist_ok=True)
    live = [person for person in everybody if not person.deleted]
    for number in range(-(-len(live) // PAGE)):
        some = live[number * PAGE : (number + 1) * PAGE]
        more = {"@odata.nextLink": f"{ROOT}users?$skiptoken={number}"}
        last = (number + 1) * PAGE >= len(live)
        content = _page("users", [_user(each) for each in some], **({} if last else more))
        encoding = ("utf-8", "utf-8-sig", "utf-16")[number % 3]
        (folder / f"a-users-{number}.json").write_bytes(json.dumps(content).encode(encoding))
    gone = [
        {"id": each.id, "deletedDateTime": "2024-05-01T00:00:00Z"}
        for each in everybody
        if each.deleted
    ]
    (folder / "a-deleted.json").write_text(json.dumps(_page("users", gone)))
    (folder / "b-groups.json").write_text(json.dumps(_page("groups", [*_groups(everybody)])))
    lists = _member_lists(everybody)
    (folder / "c-members.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lists))
    (folder / "y-organization.json").write_text(json.dumps(_page("organization", [_tenant()])))
    skus = _page("subscribedSkus", [*_subscriptions(everybody)])
    (folder / "z-skus.json").write_text(json.dumps(skus))
    return everybody


def _page(kind: str, value: list[Json], **members: Any) -> Json:
    return {"@odata.context": f"{ROOT}$metadata#{kind}", "value": value, **members}


def _user(person: Person) -> Json:
    held = {each["skuId"]: each for each in person.states if each["state"] != "Error"}
    assigned = [{"skuId": each, "disabledPlans": []} for each in held]
    states = {"assignedLicenses": assigned, "licenseAssignmentStates": person.states}
    return {"id": person.id.upper(), **person.attributes, **states}


def _member_lists(everybody: list[Person]) -> Iterator[Json]:
    """Yields the members of some groups as lists: cast to users, and without a context."""
    for name in LISTED:
        members = [{"id": each.id} for each in everybody if name in each.groups]
        half = len(members) // 2
        link = f"{ROOT}groups/{group_id(name)}/members?$skiptoken=1"
        yield {"value": members[:half], "@odata.nextLink": link}
        yield _page(f"groups('{group_id(name)}')/members/microsoft.graph.user", members[half:])


def _groups(everybody: list[Person]) -> Iterator[Json]:
    for name, products in GROUPS.items():
        members: list[Json] = [
            {"@odata.type": "#microsoft.graph.user", "id": each.id}
            for each in everybody
            if name in each.groups
        ]
        members.append({"@odata.type": "#microsoft.graph.device", "id": f"device-{name}"})
        licenses = [
            {
                "skuId": sku(each),
                "disabledPlans": [_plan(each, plan) for plan in _DISABLED.get((name, each), ())],
            }
            for each in products
        ]
        if name == "staff":  # a product that is not sold any more and was never taken away
            licenses.append({"skuId": DELETED_PRODUCT, "disabledPlans": []})
        state = "ProcessingInProgress" if name == "new" else "ProcessingComplete"
        listed = {} if name in LISTED else {"members@delta": members}
        yield {
            **listed,
            "id": group_id(name),
            "displayName": name,
            "groupTypes": ["DynamicMembership"] if name in RULES else [],
            "membershipRule": RULES.get(name),
            "membershipRuleProcessingState": "On" if name in RULES else None,
            "assignedLicenses": licenses,
            "licenseProcessingState": {"state": state},
        }


def _tenant() -> Json:
    domains = [{"name": "contoso.onmicrosoft.com", "isInitial": True}]
    return {
        "id": "contoso",
        "displayName": "Contoso",
        "countryLetterCode": "US",
        "verifiedDomains": domains,
    }


def _subscriptions(everybody: list[Person]) -> Iterator[Json]:
    """Yields the subscriptions: too few units of E3, as many VISIO as are held, PBI suspended."""
    for name in ("E1", "E3", "E5", "EMS", "VISIO", "PROJECT", "PBI", "AUDIO"):
        id = sku(name)
        held = sum(
            any(each["skuId"] == id and each["state"] != "Error" for each in person.states)
            for person in everybody
        )
        units = {"E3": held - held // 10, "VISIO": held, "PBI": 0}.get(name, len(everybody))
        plans: list[Json] = [
            {
                "servicePlanId": plan["servicePlanId"].upper(),
                "servicePlanName": plan["servicePlanName"],
                "appliesTo": "User",
            }
            for plan in product(name)["servicePlans"]
        ]
        yield {
            "skuId": id.upper(),
            "skuPartNumber": product(name)["skuPartNumber"],
            "appliesTo": "User",
            "capabilityStatus": "Suspended" if name == "PBI" else "Enabled",
            "prepaidUnits": {
                "enabled": units,
                "warning": 0,
                "suspended": held if name == "PBI" else 0,
                "lockedOut": 0,
            },
            "servicePlans": plans,
        }
