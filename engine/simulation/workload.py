"""Random small tenants: few users, few seats, and products that often conflict."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from engine.domain import events as ev
from engine.domain.model import ServicePlan
from engine.simulation.rule_workload import RuleWorkload

START = 1_700_000_000_000
COMPANY_PLAN_PERCENT = 8
WHOLE_LIST_PERCENT = 20
"""Of the licence changes that R28 makes of a whole list."""


class Input(NamedTuple):
    """One input record: topic, key, event and record timestamp."""

    topic: str
    key: str
    event: ev.InputEvent
    at: int

    def __str__(self) -> str:
        fields = [
            f"{name}={value!r}"
            for name, value in self.event._asdict().items()
            if value is not ev.ABSENT and name != "id"
        ]
        kind = type(self.event).__name__
        return f"{self.event.id} {kind}({', '.join(fields)}) to {self.topic} at {self.at - START}"


# Plans that need and exclude each other like the real ones do.
REALISTIC_PLANS = (
    ServicePlan("exchange1", "EXCHANGE_STANDARD", exclusive_sets=("exchange",), mail_enabled=True),
    ServicePlan(
        "exchange2", "EXCHANGE_ENTERPRISE", exclusive_sets=("exchange",), mail_enabled=True
    ),
    ServicePlan("skype", "SKYPE", prohibited_locations=("CN",)),
    ServicePlan("audio", "AUDIO", requires=(("skype",),)),
    ServicePlan("teams", "TEAMS", prohibited_locations=("CN", "RU")),
    ServicePlan("analytics", "ANALYTICS", requires=(("exchange1", "exchange2"),)),
    ServicePlan("directory", "DIRECTORY", applies_to="Company"),
    ServicePlan("ems", "EMS"),
)
REALISTIC_PRODUCTS = (
    ("audio", ("audio",)),
    ("e1", ("exchange1", "teams")),
    ("e3", ("exchange2", "teams", "directory")),
    ("e5", ("exchange2", "skype", "teams")),
    ("ems", ("ems",)),
    ("wpa", ("analytics",)),
)


class Tenants:
    """Generates the input events of one seed in order."""

    def __init__(self, random: Random, events: int) -> None:
        self.random = random
        self.at = START
        self.jitter = random.random() < 0.2
        self.inputs: list[Input] = []
        self.names = ["t"] if random.random() < 0.8 else ["t", "v"]
        self.users = [f"u{i}" for i in range(random.randint(3, 9))]
        self.groups = [f"g{i}" for i in range(random.randint(1, 4))]
        self.plans: dict[str, ServicePlan] = {}
        self.products: dict[str, list[str]] = {}
        self.retry = random.choice(("automatic", "automatic", "manual"))
        self.members: list[tuple[str, str, str]] = []
        self.rules = RuleWorkload(random)
        self._catalogue()
        self._begin()
        while len(self.inputs) < events:
            rule = self.rules.change(self.names, self.groups)
            if rule is not None:
                self._add("group-changes", f"{rule.tenant}/{rule.group}", rule)
            self._event()

    def _catalogue(self) -> None:
        r = self.random
        if r.random() < 0.5:
            self.plans = {plan.id: plan for plan in REALISTIC_PLANS}
            some = r.sample(REALISTIC_PRODUCTS, r.randint(2, 4))
            self.products = {sku: list(plans) for sku, plans in sorted(some)}
            return
        ids = [f"p{i}" for i in range(r.randint(3, 7))]
        self.plans = {id: self._plan(id, ids) for id in ids}
        for i in range(r.randint(2, 4)):
            self.products[f"s{i}"] = r.sample(ids, r.randint(1, min(3, len(ids))))

    def _plan(self, id: str, ids: list[str]) -> ServicePlan:
        r = self.random
        others = [other for other in ids if other != id]
        return ServicePlan(
            id,
            id.upper(),
            "Company" if r.randrange(100) < COMPANY_PLAN_PERCENT else "User",
            (r.choice("xy"),) if r.random() < 0.3 else (),
            (tuple(sorted(r.sample(others, r.randint(1, 2)))),) if r.random() < 0.25 else (),
            ("CN",) if r.random() < 0.2 else (),
            r.random() < 0.3,
        )

    def _begin(self) -> None:
        """Adds most tenants, products, subscriptions and group licences before the load."""
        r = self.random
        late = r.random() < 0.3
        for tenant in self.names:
            if r.random() < 0.8:
                self._tenant(tenant)
        for sku in self.products:
            if not (late and r.random() < 0.4):
                self._product(sku)
            for tenant in self.names:
                if r.random() < 0.8:
                    self._subscription(tenant, sku)
        for tenant in self.names:
            for group in self.groups:
                if r.random() < 0.7:
                    self._group_licenses(tenant, group)

    def _event(self) -> None:
        tenant = self.random.choice(self.names)
        kinds = (
            (self._user, 14),
            (self._join, 24),
            (self._leave, 9),
            (self._direct, 10),
            (self._user_reprocess, 2),
            (self._delete_user, 3),
            (self._snapshot, 4),
            (lambda t: self._group_licenses(t, self.random.choice(self.groups)), 12),
            (self._group_upserted, 2),
            (self._delete_group, 3),
            (self._group_reprocess, 2),
            (lambda t: self._subscription(t, self.random.choice([*self.products])), 10),
            (lambda _: self._product(self.random.choice([*self.products])), 5),
            (self._tenant, 3),
            (self._burst, 2),
        )
        make, _ = self.random.choices(kinds, [weight for _, weight in kinds])[0]
        make(tenant)

    def _add(self, topic: str, key: str, event: ev.InputEvent) -> None:
        self.at += self.random.choice((0, 0, 1, 1, 2, 7))
        at = self.at - self.random.randint(0, 9) if self.jitter else self.at
        self.inputs.append(Input(topic, key, event, at))

    @property
    def _id(self) -> str:
        return f"e{len(self.inputs)}"

    # -- users
    def _user(self, tenant: str, user: str | None = None) -> None:
        r = self.random
        user = user or r.choice(self.users)
        addresses: tuple[str, ...] | ev.Absent = ev.ABSENT
        if r.random() < 0.5:
            shared = r.choice(("smtp:shared@x", "SMTP:Shared@x"))
            pool = (f"SMTP:{user}@x", shared, "smtp:other@x")
            addresses = tuple(sorted(r.sample(pool, r.randint(0, 2))))
        self._add(
            "user-changes",
            f"{tenant}/{user}",
            ev.UserUpserted(
                self._id,
                tenant,
                user,
                self._principal_name(user) if r.random() < 0.8 else ev.ABSENT,
                r.choice(("US", "US", "CN", "RU", None)) if r.random() < 0.7 else ev.ABSENT,
                r.choice((None, f"{user}@mail", "Shared@x")) if r.random() < 0.1 else ev.ABSENT,
                addresses,
                r.choice((None, user, "nick", "nick")) if r.random() < 0.2 else ev.ABSENT,
                self.rules.attributes(),
            ),
        )

    def _principal_name(self, user: str) -> str | None:
        """Mostly one of the user's own, sometimes one that others have or are given."""
        other = self.random.choice((None, "shared@x", "Shared@x", "other@x", "nick@t.on"))
        return f"{user}@x" if self.random.random() < 0.7 else other

    def _join(self, tenant: str) -> None:
        user, group = self.random.choice(self.users), self.random.choice(self.groups)
        event = ev.MembershipAdded(self._id, tenant, user, group)
        self.members.append((tenant, user, group))
        self._add("user-changes", f"{tenant}/{user}", event)

    def _leave(self, tenant: str) -> None:
        user, group = self.random.choice(self.users), self.random.choice(self.groups)
        if self.members and self.random.random() < 0.8:
            tenant, user, group = self.random.choice(self.members)
        event = ev.MembershipRemoved(self._id, tenant, user, group)
        self._add("user-changes", f"{tenant}/{user}", event)

    def _burst(self, tenant: str) -> None:
        """Many join one group at the same moment."""
        group = self.random.choice(self.groups)
        for user in self.users:
            event = ev.MembershipAdded(self._id, tenant, user, group)
            self._add("user-changes", f"{tenant}/{user}", event)
            self.at -= 1
        for user in self.users:
            self._user(tenant, user)

    def _direct(self, tenant: str) -> None:
        user = self.random.choice(self.users)
        add, remove = self._change()
        event: ev.InputEvent = ev.UserLicensesChanged(self._id, tenant, user, add, remove)
        if self._whole_list():
            event = ev.UserLicensesSet(self._id, tenant, user, add)
        self._add("user-changes", f"{tenant}/{user}", event)

    def _user_reprocess(self, tenant: str) -> None:
        user = self.random.choice(self.users)
        self._add("user-changes", f"{tenant}/{user}", ev.UserReprocess(self._id, tenant, user))

    def _delete_user(self, tenant: str) -> None:
        user = self.random.choice(self.users)
        event = ev.UserDeleted(self._id, tenant, user, self.random.random() < 0.6)
        self._add("user-changes", f"{tenant}/{user}", event)

    def _snapshot(self, tenant: str) -> None:
        """R25: a user as another system knows it, with licences that no rule would admit."""
        r = self.random
        user = r.choice(self.users)
        groups = r.sample(self.groups, r.randint(0, min(2, len(self.groups))))
        paths = ["", *groups, *groups, r.choice(self.groups)]
        held = {}
        for _ in range(r.randint(0, 3)):
            sku, path = r.choice([*self.products]), r.choice(paths)
            held[sku, path] = (sku, path, self._some_plans(sku), self._moment())
        event = ev.UserSnapshot(
            self._id,
            tenant,
            user,
            self._principal_name(user) if r.random() < 0.8 else None,
            r.choice(("US", "US", "CN", None)),
            f"{user}@mail" if r.random() < 0.1 else None,
            (f"SMTP:{user}@x",) if r.random() < 0.3 else (),
            tuple((group, self._moment()) for group in groups),
            tuple(held.values()),
            r.choice((None, None, user, "nick")),
            self.rules.snapshot(),
        )
        self._add("user-changes", f"{tenant}/{user}", event)

    def _moment(self) -> int | None:
        """A moment before the load, or in it, or none."""
        return self.random.choice((None, START - 2000, START - 1000, self.at, self.at + 5000))

    # -- groups
    def _change(self) -> tuple[tuple[tuple[str, tuple[str, ...]], ...], tuple[str, ...]]:
        r = self.random
        skus = [*self.products]
        count = r.choice((0, 1, 1, 2, 3))
        add = tuple((sku, self._some_plans(sku)) for sku in r.sample(skus, min(count, len(skus))))
        named = {sku for sku, _ in add}
        remove = tuple(sku for sku in skus if sku not in named and r.random() < 0.25)
        return add, remove

    def _whole_list(self) -> bool:
        return self.random.randrange(100) < WHOLE_LIST_PERCENT

    def _some_plans(self, sku: str) -> tuple[str, ...]:
        r = self.random
        if r.random() < 0.6:
            return ()
        pool = self.products[sku] if r.random() < 0.95 else [*self.plans]
        return tuple(sorted(r.sample(pool, min(len(pool), 1))))

    def _group_licenses(self, tenant: str, group: str) -> None:
        add, remove = self._change()
        event: ev.InputEvent = ev.GroupLicensesChanged(self._id, tenant, group, add, remove)
        if self._whole_list():
            event = ev.GroupLicensesSet(self._id, tenant, group, add)
        self._add("group-changes", f"{tenant}/{group}", event)

    def _group_upserted(self, tenant: str) -> None:
        group = self.random.choice(self.groups)
        event = ev.GroupUpserted(self._id, tenant, group, group.upper())
        self._add("group-changes", f"{tenant}/{group}", event)

    def _delete_group(self, tenant: str) -> None:
        group = self.random.choice(self.groups)
        self._add("group-changes", f"{tenant}/{group}", ev.GroupDeleted(self._id, tenant, group))

    def _group_reprocess(self, tenant: str) -> None:
        group = self.random.choice(self.groups)
        self._add("group-changes", f"{tenant}/{group}", ev.GroupReprocess(self._id, tenant, group))

    # -- the rest
    def _product(self, sku: str) -> None:
        """A first definition, or one with a plan more, a plan less, or other facts of a plan."""
        r = self.random
        known = self.products[sku]
        if any(i.key == sku for i in self.inputs if i.topic == "catalog"):
            strange = [id for id in self.plans if id not in known]
            choice = r.random()
            if choice < 0.4 and strange:
                known.append(r.choice(strange))
            elif choice < 0.7 and len(known) > 1:
                known.remove(r.choice(known))
            else:
                changed = r.choice(known)
                self.plans[changed] = self._plan(changed, [*self.plans])
        plans = tuple(self.plans[id] for id in known)
        event = ev.ProductDefined(self._id, sku, sku.upper(), sku, plans)
        self._add("catalog", sku, event)

    def _subscription(self, tenant: str, sku: str) -> None:
        r = self.random
        event: ev.InputEvent = ev.SubscriptionUpdated(
            self._id,
            tenant,
            sku,
            r.choice((0, 0, 1, 1, 2, 3, 4, 20)),
            r.choice((0, 0, 0, 1)),
            r.choice((0, 0, 3)),
            r.choice((0, 0, 0, 2)),
        )
        if r.random() < 0.1:
            event = ev.SubscriptionDeleted(self._id, tenant, sku)
        self._add("subscriptions", f"{tenant}/{sku}", event)

    def _tenant(self, tenant: str) -> None:
        r = self.random
        retry = self.retry if r.random() < 0.9 else r.choice(("automatic", "manual"))
        deletion = r.choice(("convert", "error"))
        event = ev.TenantUpdated(
            self._id,
            tenant,
            r.choice(("US", "US", "US", "CN", None)),
            retry,
            deletion,
            r.choice((ev.ABSENT, ev.ABSENT, "t.on", "t.on", None)),
        )
        self._add("tenants", tenant, event)
