"""The scenario of ``seatflow demo``: the events of a sample tenant, step by step.

Topics are not ordered among each other, so events that depend on an order are in different steps;
the records of one step may arrive in any order of topics. Nothing here knows the outcome of an
event. Rule numbers name the rule that an event demonstrates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import orjson

from streams.catalog import product
from streams.demo.people import E3, GROUPS, SEED, Licenses, Person, demand, people

Record = tuple[str, bytes, bytes]
"""Topic without its prefix, key, value."""

TENANT = "contoso"
TIME = "2026-11-24T08:00:00Z"
PRODUCTS = "E1 E3 E5 F3 EMS WPA AUDIO PHONE PROJECT VISIO EXO2 PBI".split()  # noqa: SIM905
LATE = "PBI"
"""The product that is licensed before it is defined (R21)."""
SCARCE = "VISIO"
SEATS_FOR_DIRECT = 30
UNKNOWN_SKU = "contoso-future-suite"

# Changes of groups after the onboarding; they count for the seats to buy.
CHANGED: tuple[tuple[str, Licenses, tuple[str, ...]], ...] = (
    # R12, R7.3: users with E1 as a direct licence have SharePoint Plan 1, so Plan 2 cannot be
    # enabled for them, and Project, which needs it, cannot be admitted.
    (
        "field-engineering",
        {"E3": ("EXCHANGE_S_ENTERPRISE",), "PROJECT": ("SHAREPOINTENTERPRISE",)},
        (),
    ),
    ("it-operations", {"E5": ("YAMMER_ENTERPRISE",)}, ()),
    ("service-desk", {"EMS": ()}, ()),
    ("interns", {"F3": ()}, ("E1",)),
    ("power-analysts", {LATE: ()}, ()),
)
# R20: the group lacks what Workplace Analytics requires; a plan that Project does not have.
REJECTED: tuple[tuple[str, Licenses], ...] = (
    ("choir", {"WPA": ()}),
    ("cycling-club", {"PROJECT": ("NO_SUCH_PLAN",)}),
)


class Step(NamedTuple):
    """A step: its records are published in their order, then everything settles."""

    name: str
    sentence: str
    records: list[Record]


def demo_steps(seed: int = SEED) -> list[Step]:
    """Returns the steps of the demo; the same seed gives the same bytes."""
    return DemoScenario(seed).steps()


class PersonaPool:
    """Gives each part of the scenario its own people, so that the parts do not interfere."""

    def __init__(self, everyone: list[Person]) -> None:
        self._free = [person for person in everyone if person.location is not None]

    def take(
        self,
        count: int,
        group: str,
        fits: Callable[[Person], bool] = lambda person: person.location != "CN",
    ) -> list[Person]:
        """Takes people of a group out of the pool. Raises: ValueError, if there are too few."""
        taken = [p for p in self._free if group in p.groups and fits(p)][:count]
        if len(taken) < count:
            raise ValueError(f"{group} has {len(taken)} people to take, not {count}")
        self._free = [person for person in self._free if person not in taken]
        return taken

    def take_simple(self, count: int, department: str) -> list[Person]:
        """Takes people without other groups than their department and All Staff."""
        simple = [department, "all-staff"]
        return self.take(count, department, lambda p: p.groups == simple and p.location != "CN")


class DemoScenario:
    """The people of the scenario, and the records of its steps."""

    def __init__(self, seed: int) -> None:
        self._events = 0
        self.people = people(seed)
        pool = PersonaPool(self.people)
        self.engineers = pool.take(20, "field-engineering")
        self.sellers = pool.take(15, "sales-europe")
        self.sellers_who_swap = pool.take(3, "sales-europe")
        self.owners = pool.take_simple(4, "marketing")
        self.duplicates = pool.take_simple(4, "research") + pool.take_simple(4, "finance")
        self.lawyers = pool.take_simple(6, "legal")
        self.lawyer_with_alias = pool.take_simple(1, "legal")[0]
        self.mergers = pool.take(5, "merger-team")
        self.emigrants = pool.take_simple(6, "it-operations")
        self.promoted = pool.take(4, "store-managers")
        self.movers = pool.take_simple(10, "procurement")
        self.leavers = pool.take_simple(2, "warehouse")
        self.researchers = pool.take_simple(3, "research")
        self.marketers = pool.take_simple(4, "marketing")
        self.in_china = pool.take(1, "china-office", lambda _person: True)[0]
        self.contractor = pool.take_simple(1, "contractors")[0]
        self.nowhere = next(p for p in self.people if p.location is None)
        for person in self.engineers + self.sellers + self.sellers_who_swap:
            person.direct.append("E1")
        for number, person in enumerate(self.owners + self.duplicates):
            person.aliases.append(
                f"{('press', 'jobs', 'info', 'events')[number % 4]}@contoso.example"
            )
        self.early = [p for p in self.people if p.direct or p in self.owners]
        self.units = self._units()

    def steps(self) -> list[Step]:
        """Returns all steps in their order."""
        onboarding = self._onboarding()
        return [
            *self._steady_phase(onboarding),
            *self._fault_phase(),
            Step(
                "Noise",
                "Some events are sent again, and some records cannot be read.",
                [*self._still_true(onboarding), *self._bad_input()],
            ),
        ]

    def _steady_phase(self, onboarding: list[Record]) -> list[Step]:
        return [
            Step("Catalog", "Microsoft publishes its products.", self._catalog()),
            Step("Contoso", "Contoso signs up and buys subscriptions.", self._subscriptions()),
            Step("Groups", f"{len(GROUPS)} groups get their licences.", self._groups()),
            Step(
                "Early users",
                "A few users are created, some with direct licences.",
                self._early_users(),
            ),
            Step(
                "Onboarding",
                f"{len(self.people):,} users are in the directory and join their groups.",
                onboarding,
            ),
        ]

    def _fault_phase(self) -> list[Step]:
        return [
            Step(
                "Group changes",
                "Administrators change the licences of some groups; some changes are rejected.",
                self._group_changes(),
            ),
            Step(
                "A new product",
                "Power BI Pro is defined; the group's deferred change takes effect.",
                self._late_product(),
            ),
            Step(
                "Direct licences",
                "Some users get direct licences; some requests are rejected.",
                self._direct_changes(),
            ),
            Step("Moves", "Users change teams, countries and addresses, or leave.", self._moves()),
            Step(
                "Endings",
                "A team is dissolved, and a user with a contested address leaves a group.",
                self._endings(),
            ),
            Step(
                "Seats",
                "Some seats are bought, others are cancelled, and a policy changes.",
                [*self._seats(), self._settings(onGroupDeletion="error")],
            ),
            Step(
                "Another ending",
                "Legal is dissolved too; with the new policy, dependent licences become errors.",
                [self._group("legal", "group.deleted")],  # R13, the other policy
            ),
        ]

    # --- Events -------------------------------------------------------------------------------

    def _event(self, topic: str, key: str, kind: str, **members: Any) -> Record:
        self._events += 1
        body = {"type": kind, "id": f"demo-{self._events:05d}", "time": TIME, **members}
        return topic, key.encode(), orjson.dumps(body)

    def _user(self, user: str, kind: str, **members: Any) -> Record:
        key = f"{TENANT}/{user}"
        return self._event("user-changes", key, kind, tenant=TENANT, user=user, **members)

    def _group(self, group: str, kind: str, **members: Any) -> Record:
        key = f"{TENANT}/{group}"
        return self._event("group-changes", key, kind, tenant=TENANT, group=group, **members)

    def _join(self, user: str, group: str) -> Record:
        return self._user(user, "membership.added", group=group, memberType="user")

    def _leave(self, user: str, group: str) -> Record:
        return self._user(user, "membership.removed", group=group)

    def _upsert(self, person: Person) -> Record:
        return self._user(
            person.id,
            "user.upserted",
            userPrincipalName=person.principal_name,
            displayName=person.name,
            usageLocation=person.location,
            proxyAddresses=person.addresses,
        )

    def _license(self, group: str, add: Licenses, remove: Iterable[str] = ()) -> Record:
        return self._group(group, "licenses.changed", **_change(add, remove))

    def _assign(self, user: str, add: Licenses, remove: Iterable[str] = ()) -> Record:
        return self._user(user, "licenses.changed", **_change(add, remove))

    def _buy(self, name: str, units: int, warning: int = 0) -> Record:
        sku = product(name)["skuId"]
        return self._event(
            "subscriptions",
            f"{TENANT}/{sku}",
            "subscription.updated",
            tenant=TENANT,
            skuId=sku,
            prepaidUnits={"enabled": units, "warning": warning, "suspended": 0, "lockedOut": 0},
        )

    # --- Before the onboarding ---------------------------------------------------------------

    def _units(self) -> dict[str, int]:
        """Units for all users; of the scarce product, for four in five."""
        licenses = [(group.id, group.licenses) for group in GROUPS]
        licenses += [(group, add) for group, add, _ in CHANGED]
        required = demand(self.people, licenses)
        units = {name: required[name] + SEATS_FOR_DIRECT for name in PRODUCTS}
        units[SCARCE] = required[SCARCE] * 4 // 5
        return units

    def _catalog(self) -> list[Record]:
        events = [product(name) for name in PRODUCTS if name != LATE]
        return [("catalog", event["skuId"].encode(), orjson.dumps(event)) for event in events]

    def _subscriptions(self) -> list[Record]:
        tenant = self._settings(onGroupDeletion="convert")
        return [tenant, *(self._buy(name, self.units[name]) for name in PRODUCTS if name != LATE)]

    def _settings(self, **policies: str) -> Record:
        return self._event(
            "tenants",
            TENANT,
            "tenant.updated",
            tenant=TENANT,
            displayName="Contoso",
            usageLocation="US",
            policies={"seatRetry": "automatic", **policies},
        )

    def _groups(self) -> list[Record]:
        records = []
        for group in GROUPS:
            records.append(self._group(group.id, "group.upserted", displayName=group.name))
            if group.licenses:
                records.append(self._license(group.id, group.licenses))
        return records

    def _early_users(self) -> list[Record]:
        records = []
        for person in self.early:
            records.append(self._upsert(person))
            records += [self._assign(person.id, {name: ()}) for name in person.direct]
        return records

    # --- Onboarding ---------------------------------------------------------------------------

    def _onboarding(self) -> list[Record]:
        records = []
        for person in self.people:
            if person not in self.early:
                records.append(self._upsert(person))
            records += [self._join(person.id, group) for group in person.groups]
        # R22: a user who is not known yet, and a member that is not a user.
        records.append(self._join("u9001", "new-joiners"))
        device = {"group": "new-joiners", "memberType": "device"}
        records.append(self._user("device-17", "membership.added", **device))
        return records

    # --- Fault phase --------------------------------------------------------------------------

    def _group_changes(self) -> list[Record]:
        unknown = {"skuId": UNKNOWN_SKU, "disabledPlans": []}  # R21: stays deferred
        return [
            *(self._license(*change) for change in CHANGED),
            *(self._license(*change) for change in REJECTED),
            self._group("canteen-committee", "licenses.changed", addLicenses=[unknown]),
            self._group("diagram-designers", "group.reprocess"),
        ]

    def _late_product(self) -> list[Record]:
        event = product(LATE)
        defined = ("catalog", event["skuId"].encode(), orjson.dumps(event))
        return [defined, self._buy(LATE, self.units[LATE])]

    def _direct_changes(self) -> list[Record]:
        """Returns changes that are applied, then one for each reason to reject a change (R16)."""
        researchers = [person.id for person in self.researchers]
        marketers = [person.id for person in self.marketers]
        unknown = {"skuId": UNKNOWN_SKU}
        return [
            *(self._assign(person.id, {"AUDIO": ()}) for person in self.lawyers + self.mergers),
            *(self._assign(person.id, E3, ["E1"]) for person in self.sellers_who_swap),
            self._assign("u9999", E3),  # UserNotFound
            self._user(marketers[0], "licenses.changed", addLicenses=[unknown]),  # R21
            self._assign(marketers[1], {"EMS": ("NO_SUCH_PLAN",)}),  # InvalidDisabledPlan
            self._assign(marketers[2], {}, ["E3"]),  # InheritedLicense
            self._assign(marketers[3], {}, ["WPA"]),  # NotAssigned
            self._assign(self.nowhere.id, {"EMS": ()}),  # InvalidUsageLocation
            self._assign(self.in_china.id, {"PHONE": ()}),  # ProhibitedInUsageLocationViolation
            self._assign(researchers[0], {"E1": ()}),  # MutuallyExclusiveViolation
            self._assign(self.contractor.id, {"AUDIO": ()}),  # DependencyViolation
            self._assign(self.duplicates[3].id, {"EXO2": ()}),  # UniquenessViolation
            self._assign(researchers[1], {SCARCE: ()}),  # CountViolation
            self._assign(researchers[2], {}),  # NoChange
        ]

    def _moves(self) -> list[Record]:
        contested = [*self.lawyer_with_alias.addresses, "smtp:press@contoso.example"]
        deleted = [self.owners[1], *self.leavers]  # R18: an address goes to its next claimant
        return [
            # R11: their audio conferencing depends on the licence of the group that they leave.
            *(self._leave(lawyer.id, "legal") for lawyer in self.lawyers[:4]),
            # R14
            *(self._user(p.id, "user.upserted", usageLocation="CN") for p in self.emigrants),
            # A conflict ends, without interruption of service.
            *(self._leave(person.id, person.department) for person in self.promoted),
            *(self._join(person.id, "finance") for person in self.movers),
            *(self._leave(person.id, "procurement") for person in self.movers),
            *(self._user(person.id, "user.deleted") for person in deleted),
            self._user(self.lawyer_with_alias.id, "user.upserted", proxyAddresses=contested),
            self._user(self.duplicates[0].id, "user.reprocess"),
        ]

    def _endings(self) -> list[Record]:
        return [
            self._group("merger-team", "group.deleted"),  # R13
            self._group("e5-pilot", "group.deleted"),
            self._leave(self.lawyer_with_alias.id, "legal"),  # R11, R19
        ]

    def _seats(self) -> list[Record]:
        """Gives seats to some waiting users (R9), and takes none away by reducing units (R15)."""
        return [self._buy(SCARCE, self.units[SCARCE] + 5), self._buy("EXO2", 20, warning=5)]

    def _still_true(self, onboarding: list[Record]) -> list[Record]:
        """Returns repeated events of users without later events (R24)."""
        changed = [*self.movers, *self.promoted, *self.lawyers, self.lawyer_with_alias]
        changed += [*self.owners, *self.leavers, *self.emigrants]
        keys = {f"{TENANT}/{person.id}".encode() for person in changed}
        return [record for record in onboarding if record[1] not in keys][:500]

    def _bad_input(self) -> list[Record]:
        key = f"{TENANT}/u0001".encode()
        topic, _, value = self._join("u0002", "choir")
        return [
            ("user-changes", key, b'{"type": "user.upserted", "id": '),
            self._user("u0001", "user.exploded"),
            self._user("u0001", "membership.added"),
            (topic, key, value),  # the key of another user
            ("group-changes", f"{TENANT}/choir".encode(), b"[1, 2, 3]"),
        ]


def _change(add: Licenses, remove: Iterable[str]) -> dict[str, Any]:
    """Returns the members of ``licenses.changed``; an unknown plan name stays a name."""
    added = []
    for name, disabled in add.items():
        event = product(name)
        ids = {plan["servicePlanName"]: plan["servicePlanId"] for plan in event["servicePlans"]}
        plans = [ids.get(plan, plan) for plan in disabled]
        added.append({"skuId": event["skuId"], "disabledPlans": plans})
    return {"addLicenses": added, "removeLicenses": [product(name)["skuId"] for name in remove]}
