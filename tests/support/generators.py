"""Random input: the simulator's tenants as records of the contract, and one user's random facts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from engine.domain import events as ev
from engine.domain.limits import DEFAULT_LIMITS, Limits
from engine.domain.model import ServicePlan, Tenant, timestamp
from engine.machines.user_evaluator import UserEvaluator
from engine.rules.outcome import Outcome
from engine.simulation.simulated_broker import Broker
from engine.simulation.workload import Input, Tenants
from engine.state.configuration import Configuration
from engine.state.tenant_state import User, order_key
from tests.checkers import Record
from tests.spec import facts as spec_facts
from tests.spec import licensing as spec
from tests.spec.events import read_product

Json = dict[str, Any]


def inputs(seed: int, events: int) -> list[Input]:
    """Returns the input of one or two small tenants."""
    return Tenants(Random(seed), events).inputs


def records(broker: Broker) -> list[Record]:
    """Returns all published records, inputs and outputs, in the order of their visibility."""
    offsets: dict[tuple[str, int], int] = {}
    found = []
    for topic, p, key, value in broker.journal:
        offset = offsets[topic, p] = offsets.get((topic, p), -1) + 1
        document = contract_json(value) if isinstance(value, tuple) else value
        found.append(Record(topic, p, offset, key, document))
    return found


# ---- events in the JSON of the input events (contract section 2)


def contract_json(event: Any) -> Json:
    kind, body = BODIES[type(event)](event)
    members = {"type": kind, "id": event.id, "time": "2026-11-24T08:00:00Z", **body}
    if hasattr(event, "tenant"):
        members["tenant"] = event.tenant
    return {name: value for name, value in members.items() if value is not ev.ABSENT}


def _licenses(target: str) -> Callable[[Any], tuple[str, Json]]:
    def body(event: ev.LicensesChanged) -> tuple[str, Json]:
        add = [{"skuId": sku, "disabledPlans": list(off)} for sku, off in event.add]
        return "licenses.changed", {
            target: event[2],
            "addLicenses": add,
            "removeLicenses": list(event.remove),
        }

    return body


def _whole_list(target: str) -> Callable[[Any], tuple[str, Json]]:
    def body(event: ev.LicensesSet) -> tuple[str, Json]:
        licenses = [{"skuId": sku, "disabledPlans": list(off)} for sku, off in event.licenses]
        return "licenses.set", {target: event[2], "licenses": licenses}

    return body


def _user(event: ev.UserUpserted) -> tuple[str, Json]:
    addresses = event.proxy_addresses
    return "user.upserted", {
        "user": event.user,
        "userPrincipalName": event.user_principal_name,
        "usageLocation": event.usage_location,
        "mail": event.mail,
        "proxyAddresses": list(addresses) if isinstance(addresses, tuple) else addresses,
        "mailNickname": event.mail_nickname,
        "attributes": _attributes(event.attributes),
    }


def _attributes(attributes: Any) -> Any:
    if not isinstance(attributes, tuple):
        return attributes
    return {name: list(v) if isinstance(v, tuple) else v for name, v in attributes}


def _snapshot(event: ev.UserSnapshot) -> tuple[str, Json]:
    return "user.snapshot", {
        "user": event.user,
        "userPrincipalName": event.user_principal_name,
        "usageLocation": event.usage_location,
        "mail": event.mail,
        "proxyAddresses": list(event.proxy_addresses),
        "mailNickname": event.mail_nickname,
        "attributes": _attributes(event.attributes),
        "memberships": [
            {"group": group, "since": _moment(since)} for group, since in event.memberships
        ],
        "licenseAssignmentStates": [
            {
                "skuId": sku,
                "assignedByGroup": group or None,
                "disabledPlans": list(off),
                "state": "Active",
                "since": _moment(since),
            }
            for sku, group, off, since in event.licenses
        ],
    }


def _moment(since: int | None) -> str | None:
    return None if since is None else timestamp(since)


def _membership(kind: str) -> Callable[[Any], tuple[str, Json]]:
    return lambda event: (kind, {"user": event.user, "group": event.group})


def _bare(kind: str, member: str) -> Callable[[Any], tuple[str, Json]]:
    return lambda event: (kind, {member: getattr(event, member)})


def _product(event: ev.ProductDefined) -> tuple[str, Json]:
    return "product.defined", {
        "skuId": event.sku,
        "skuPartNumber": event.part_number,
        "displayName": event.display_name,
        "servicePlans": [_plan(plan) for plan in event.plans],
    }


def _plan(plan: ServicePlan) -> Json:
    return {
        "servicePlanId": plan.id,
        "servicePlanName": plan.name,
        "appliesTo": plan.applies_to,
        "exclusiveSets": list(plan.exclusive_sets),
        "requires": [list(any_of) for any_of in plan.requires],
        "prohibitedLocations": list(plan.prohibited_locations),
        "mailEnabled": plan.mail_enabled,
    }


def _subscription(event: ev.SubscriptionUpdated) -> tuple[str, Json]:
    units = {
        "enabled": event.enabled,
        "warning": event.warning,
        "suspended": event.suspended,
        "lockedOut": event.locked_out,
    }
    return "subscription.updated", {"skuId": event.sku, "prepaidUnits": units}


def _tenant(event: ev.TenantUpdated) -> tuple[str, Json]:
    return "tenant.updated", {
        "usageLocation": event.usage_location,
        "initialDomain": event.initial_domain,
        "policies": {"seatRetry": event.seat_retry, "onGroupDeletion": event.on_group_deletion},
    }


BODIES: dict[type, Callable[[Any], tuple[str, Json]]] = {
    ev.UserUpserted: _user,
    ev.UserDeleted: lambda e: ("user.deleted", {"user": e.user, "restorable": e.restorable}),
    ev.UserSnapshot: _snapshot,
    ev.MembershipAdded: _membership("membership.added"),
    ev.MembershipRemoved: _membership("membership.removed"),
    ev.UserLicensesChanged: _licenses("user"),
    ev.UserLicensesSet: _whole_list("user"),
    ev.UserReprocess: _bare("user.reprocess", "user"),
    ev.GroupUpserted: lambda e: (
        "group.upserted",
        {
            "group": e.group,
            "displayName": e.display_name,
            "membershipRule": e.membership_rule,
            "membershipRuleProcessingState": e.processing_state,
        },
    ),
    ev.GroupDeleted: _bare("group.deleted", "group"),
    ev.GroupLicensesChanged: _licenses("group"),
    ev.GroupLicensesSet: _whole_list("group"),
    ev.GroupReprocess: _bare("group.reprocess", "group"),
    ev.ProductDefined: _product,
    ev.SubscriptionUpdated: _subscription,
    ev.SubscriptionDeleted: lambda e: ("subscription.deleted", {"skuId": e.sku}),
    ev.TenantUpdated: _tenant,
}


# ---- one user, fact by fact

SKUS = ("s0", "s1", "s2", "s3")
GROUPS = ("g0", "g1", "g2")
PLANS = tuple(f"p{i}" for i in range(6))


class Walk:
    """A user of the engine and the same user of the oracle, through random changes of facts."""

    def __init__(
        self,
        random: Random,
        skus: Sequence[str] = SKUS,
        groups: Sequence[str] = GROUPS,
        plans: Sequence[str] = PLANS,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self.random = random
        self.skus, self.group_ids, self.plans = skus, groups, plans
        self.configuration = Configuration(0, 1, lambda key: 0, limits)
        self.tenant = self.configuration.tenant("t")
        self.evaluator = UserEvaluator(self.configuration)
        self.user = User(self.tenant, "u")
        self.user.known = True
        self.products: dict[str, spec_facts.Product] = {}
        self.groups: dict[str, spec_facts.Group] = {}
        self.entries: tuple[spec_facts.Entry, ...] = ()
        self.convert = random.random() < 0.5
        self.denied: frozenset[str] = frozenset()
        self.off: frozenset[str] = frozenset()
        self.count = 0
        self.tenant.settings = Tenant("US", True, self.convert)
        for sku in self.skus:
            self.define(sku)
        for group in self.group_ids:
            self.license(group)

    def define(self, sku: str) -> None:
        r = self.random
        plans = tuple(self.plan(id) for id in r.sample(self.plans, r.randint(1, 3)))
        event = ev.ProductDefined("e", sku, sku.upper(), sku, plans)
        self.products[sku] = read_product(contract_json(event))
        members = [
            (p.id, p.name, p.applies_to, p.exclusive_sets, p.requires, p.prohibited_locations,
             p.mail_enabled)
            for p in plans
        ]  # fmt: skip
        self.configuration.define([sku, sku.upper(), sku, members])
        self.evaluator.clear_memo()

    def plan(self, id: str) -> ServicePlan:
        r = self.random
        return ServicePlan(
            id,
            id.upper(),
            "Company" if r.random() < 0.07 else "User",
            (r.choice("xy"),) if r.random() < 0.25 else (),
            (tuple(sorted(r.sample(self.plans, 2))),) if r.random() < 0.2 else (),
            ("CN",) if r.random() < 0.15 else (),
            r.random() < 0.25,
        )

    def license(self, group: str, deleted: bool = False) -> None:
        r = self.random
        skus = [] if deleted else r.sample(self.skus, r.randint(0, 3))
        licenses = {sku: tuple(r.sample(self.plans, r.choice((0, 0, 1, 2)))) for sku in skus}
        self.count += 1
        self.tenant.groups[group] = self.configuration.group(self.count, licenses, deleted)
        wanted = {sku: frozenset(off) for sku, off in licenses.items()}
        self.groups[group] = spec_facts.Group(wanted, deleted)

    def change_a_fact(self) -> None:
        r = self.random
        change = r.randrange(13)
        if change < 4:
            group = r.choice(self.group_ids)
            self.count += 1
            if not self.user.leave(group):
                self.user.join(group, order_key(self.count, 0))
        elif change < 7:
            self.license(r.choice(self.group_ids), deleted=r.random() < 0.2)
        elif change == 7:
            self.define(r.choice(self.skus))
        elif change == 8:
            self.user.location = r.choice(("US", "CN", None))
        elif change == 9:
            pending = self.user.ensure_pending_work()
            pending.duplicates = {} if pending.duplicates else {"smtp:a@x": "v"}
        elif change == 10:
            self.off = frozenset(r.sample(self.skus, r.choice((0, 1, 2))))
            self.tenant.products_off = self.off
        else:
            self.denied = frozenset(r.sample(self.skus, r.choice((0, 1, 2))))

    def step(self) -> tuple[Outcome, Outcome, spec_facts.Outcome]:
        """Returns the previous outcome, the present one and the oracle's."""
        before = self.user.outcome
        decision = self.evaluator.evaluate(self.user, self.denied)
        now = decision.outcome
        self.user.outcome, self.user.paths = now, decision.paths[: now.path_count - 1]
        evaluation = spec.evaluate(self.facts())
        self.entries = evaluation.entries
        return before, now, evaluation

    def facts(self) -> spec_facts.EvaluationInput:
        return spec_facts.EvaluationInput(
            products=self.products,
            groups=self.groups,
            memberships=self.user.groups,
            entries=self.entries,
            location=self.user.location,
            tenant_location="US",
            on_group_deletion="convert" if self.convert else "error",
            duplicate=self.user.duplicate is not None,
            denied=self.denied,
            off=self.off,
            most_groups=self.configuration.limits.licensed_groups,
            most_assignments=self.configuration.limits.assignments,
        )

    def path(self, slot: int) -> str | None:
        return self.user.path(slot) if slot else None
