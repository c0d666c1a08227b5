"""The fictitious people and groups of the demo's tenant: the same on every machine."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

USERS = 2_000
SEED = 2026

Licenses = dict[str, tuple[str, ...]]
"""Short name of a product -> names of its disabled plans."""

WORLD = ["US"] * 5 + ["DE", "DE", "GB", "GB", "FR", "FR", "JP", "IN", "BR", "CN"]
ASIA = ["JP", "JP", "SG", "IN", "IN", "CN", "CN"]
CHINA = ["CN"]


class Group(NamedTuple):
    """A group. ``share``: the weight of a department, of which each person has one.

    ``joined``: for other groups, the departments their members come from, and the part of each.
    """

    id: str
    name: str
    licenses: Licenses
    share: int = 0
    locations: list[str] = WORLD
    joined: tuple[tuple[str, float], ...] = ()


E1: Licenses = {"E1": ()}
E3: Licenses = {"E3": ()}
E5: Licenses = {"E5": ()}
F3: Licenses = {"F3": ()}
E3_EMS: Licenses = {"E3": (), "EMS": ()}

DEPARTMENTS = (
    Group("executives", "Executives", E5, 2),
    Group("sales-americas", "Sales Americas", E3_EMS, 10, ["US", "US", "BR"]),
    Group("sales-europe", "Sales Europe", E3_EMS, 10, ["DE", "GB", "FR"]),
    Group("sales-asia", "Sales Asia", E5, 5, ASIA),
    Group("china-office", "China Office", {"E5": ("MCOMEETADV", "MCOEV")}, 3, CHINA),
    Group("marketing", "Marketing", E3, 8),
    Group(
        "field-engineering",
        "Field Engineering",
        {"E3": ("EXCHANGE_S_ENTERPRISE", "SHAREPOINTENTERPRISE")},
        3,
    ),
    Group("research", "Research", E3, 8),
    Group("product-design", "Product Design", E3, 4),
    Group("finance", "Finance", E3, 6),
    Group("controlling", "Controlling", E3, 2),
    Group("human-resources", "Human Resources", E3, 3),
    Group("legal", "Legal", E5, 3),
    Group("it-operations", "IT Operations", E5, 5),
    Group("service-desk", "Service Desk", E3, 5),
    Group("procurement", "Procurement", E1, 4),
    Group("reception", "Reception", E1, 3),
    Group("interns", "Interns", E1, 4),
    Group("retail-north", "Retail North", F3, 9, ["DE", "GB", "US"]),
    Group("retail-south", "Retail South", F3, 9, ["FR", "BR", "US"]),
    Group("warehouse", "Warehouse", F3, 9, ["US", "DE"]),
    Group("manufacturing", "Manufacturing", F3, 10, ["US", "DE", "IN"]),
    Group("drivers", "Drivers", F3, 4, ["US", "DE"]),
    Group("contractors", "Contractors", {"EXO2": ()}, 4, ["US", "GB", "IN"]),
)

_STAFF = tuple((department.id, 1.0) for department in DEPARTMENTS)
_STORES = (("retail-north", 0.05), ("retail-south", 0.05))
OTHERS = (
    Group("all-staff", "All Staff", {}, joined=_STAFF),
    Group("cycling-club", "Cycling Club", {}, joined=(("research", 0.2), ("warehouse", 0.2))),
    Group("choir", "Choir", {}, joined=(("finance", 0.1), ("retail-north", 0.1))),
    Group("canteen-committee", "Canteen Committee", {}, joined=(("manufacturing", 0.05),)),
    Group("power-analysts", "Power Analysts", {}, joined=(("controlling", 1), ("finance", 0.3))),
    Group("mobile-staff", "Mobile Staff", {"EMS": ()}, joined=(("sales-europe", 1),)),
    Group("night-shift", "Night Shift", {"EMS": ()}, joined=(("manufacturing", 0.2),)),
    Group(
        "diagram-designers",
        "Diagram Designers",
        {"VISIO": ()},
        joined=(("product-design", 0.8), ("it-operations", 0.3)),
    ),
    Group(
        "project-leads",
        "Project Leads",
        {"PROJECT": ()},
        joined=(("research", 0.2), ("procurement", 0.1)),
    ),
    Group(
        "phone-users",
        "Phone Users",
        {"E3": (), "PHONE": ()},
        joined=(("service-desk", 0.7), ("marketing", 0.3)),
    ),
    Group(
        "workplace-insights",
        "Workplace Insights",
        {"E3": ("RMS_S_ENTERPRISE", "TEAMS1"), "WPA": ()},
        joined=(("human-resources", 0.6), ("finance", 0.2)),
    ),
    Group("webinar-hosts", "Webinar Hosts", {"E3": (), "AUDIO": ()}, joined=(("marketing", 0.2),)),
    Group("store-managers", "Store Managers", E3, joined=_STORES),
    Group("e5-pilot", "E5 Pilot", {"E5": ("YAMMER_ENTERPRISE",)}, joined=(("research", 0.2),)),
    Group("merger-team", "Merger Team", E5, joined=(("contractors", 0.4),)),
    Group("new-joiners", "New Joiners", E3),
)
GROUPS = DEPARTMENTS + OTHERS


@dataclass(slots=True)
class Person:
    """A person, with the groups to join and the product short names to license directly."""

    id: str
    name: str
    department: str
    location: str | None
    groups: list[str] = field(default_factory=list)
    aliases: list[str] = field(default_factory=list)
    direct: list[str] = field(default_factory=list)
    """Products licensed directly before the person joins any group."""

    @property
    def principal_name(self) -> str:
        """The user principal name, which is also the primary address."""
        return self.name.lower().replace(" ", ".") + "@contoso.example"

    @property
    def addresses(self) -> list[str]:
        """The proxy addresses, the primary one first."""
        return [f"SMTP:{self.principal_name}", *(f"smtp:{alias}" for alias in self.aliases)]


_FIRST = """
    Ada Amir Anja Bruno Carla Chen Clara Diego Elena Emil Fatima Felix Gita Hana Hugo Ines
    Ivan Jonas Julia Kenji Lara Leon Lucia Malik Maria Mateo Mei Nadia Nils Noor Olga Omar
    Paula Pedro Priya Rosa Samir Sofia Tariq Vera
"""
_LAST = """
    Abbot Acker Bauer Becker Blanc Castro Cole Costa Dietz Dubois Ellis Engel Faber Fischer
    Fontana Garcia Gruber Haas Hughes Ito Jansen Kaya Keller Khan Kowal Lang Lemaire Lopez
    Mehta Moreau Nakata Novak Okoye Olsen Park Petrov Quist Rao Reyes Rossi Santos Silva
    Singh Sousa Tanaka Ueda Vogel Weber Yilmaz Zhang
"""


def people(seed: int = SEED) -> list[Person]:
    """Returns all people, each with a department and perhaps other groups."""
    random = Random(seed)
    names = [f"{first} {last}" for first in _FIRST.split() for last in _LAST.split()]
    random.shuffle(names)
    shares = [department.share for department in DEPARTMENTS]
    everyone = []
    for number, name in enumerate(names[:USERS], start=1):
        department = random.choices(DEPARTMENTS, shares)[0]
        location = None if random.random() < 0.03 else random.choice(department.locations)
        person = Person(f"u{number:04d}", name, department.id, location, [department.id])
        for group in OTHERS:
            if random.random() < dict(group.joined).get(department.id, 0.0):
                person.groups.append(group.id)
        everyone.append(person)
    return everyone


def demand(everyone: list[Person], licenses: list[tuple[str, Licenses]]) -> Counter[str]:
    """Returns how many people need each product, through ``licenses`` of groups or directly."""
    requested: dict[str, set[str]] = {}
    for group, products in licenses:
        requested.setdefault(group, set()).update(products)
    needed: Counter[str] = Counter()
    for person in everyone:
        needed.update(set(person.direct).union(*(requested.get(g, ()) for g in person.groups)))
    return needed
