"""The evaluation of users in their tenants, with the line for seats and the claims of addresses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tests.spec import documents, mail
from tests.spec.adoption import adopt, ready
from tests.spec.facts import COUNT, EvaluationInput, Product, held
from tests.spec.licensing import evaluate
from tests.spec.limits import Limits
from tests.spec.tenants import At, Json, Tenant, User, note_since

NO_OTHER = Limits()


class Evaluations:
    """The state of a system, and what every event about users ends with."""

    def __init__(self, limits: Limits = NO_OTHER) -> None:
        self.limits = limits
        self.products: dict[str, Product] = {}
        self.part_numbers: dict[str, str | None] = {}
        self.tenants: dict[str, Tenant] = {}
        self.deferred: list[tuple[str, Json]] = []
        self.seen: set[tuple[object, ...]] = set()
        self.unfinished: list[Json] = []  # changes of groups that this event applied
        self.cause: Json = {}  # the event that is being applied
        self.log: list[tuple[str, str, Json | None]] = []  # topic, key, value as published
        self.latest: dict[str, dict[str, Json | None]] = {}  # topic -> key -> value

    def emit(self, topic: str, key: str, value: Json | None) -> None:
        self.log.append((topic, key, value))
        self.latest.setdefault(topic, {})[key] = value

    def tenant(self, event: Json) -> Tenant:
        return self.tenants.setdefault(event["tenant"], Tenant(event["tenant"]))

    def _adopt_late(self, tenant: Tenant, user: User) -> frozenset[str]:
        """R25: adopts what waited for its product or its group; returns the seats it brings."""
        late, left = [], []
        for one in user.to_adopt:
            now = ready(one, self.products, tenant.groups, tenant.licensed, user.memberships)
            if now:
                late.append(one)
            elif now is False:
                left.append(one)
        user.to_adopt = left
        before = user.entries
        user.entries = adopt(before, late, self.products)
        return held(user.entries)

    def _claim(self, tenant: Tenant, name: str, brought: bool = False) -> None:
        """R18: claims what the user has or would have, before a mail plan; releases the rest."""
        user = tenant.users[name]
        wanted = brought or mail.mail_wanted(user, self.products, tenant.groups)
        claimed = mail.claimed_addresses(user, name, tenant.domain, tenant.book, wanted)
        tenant.affected |= tenant.book.hold(name, claimed)

    def _claim_first(self, tenant: Tenant, name: str, facts: dict[str, Any]) -> None:
        """R18: claims what an evaluation would bring, before it is made."""
        user = tenant.users[name]
        present = {a for a, users in tenant.book.claims.items() if name in users}
        tenant.book.hold(name, present | set(map(mail.plain_address, mail.given_addresses(user))))
        before, user.entries = user.entries, evaluate(self._facts(tenant, name, **facts)).entries
        self._claim(tenant, name)
        user.entries = before

    def _tell_affected(self, tenant: Tenant, at: At) -> None:
        """R18: when an address is released, the former duplicates are re-evaluated."""
        while tenant.affected:
            name = min(tenant.affected)
            tenant.affected.remove(name)
            if name in tenant.users:
                self._evaluate(tenant, name, at, retry=False)
                self._serve_waiting(tenant, at)

    def _facts(
        self,
        tenant: Tenant,
        name: str,
        *,
        retry: bool = True,
        seats_before: frozenset[str] | None = None,
    ) -> EvaluationInput:
        user = tenant.users[name]
        denied = {sku for sku in self.products if tenant.available(sku) <= 0}
        if tenant.seat_retry == "manual" and not retry:
            denied |= {sku for sku, line in tenant.waiting.items() if name in line}
        return EvaluationInput(
            products=self.products,
            groups=tenant.groups,
            memberships=tuple(sorted(user.memberships, key=lambda g: (user.memberships[g], g))),
            entries=user.entries,
            location=user.location,
            tenant_location=tenant.location,
            on_group_deletion=tenant.on_group_deletion,
            duplicate=tenant.book.shared(name) is not None,
            denied=frozenset(denied),
            held=seats_before,
            off=tenant.off(),
            most_groups=self.limits.licensed_groups,
            most_assignments=self.limits.assignments,
        )

    def _evaluate(
        self,
        tenant: Tenant,
        name: str,
        at: At,
        *,
        retry: bool = True,
        seats_before: frozenset[str] | None = None,
    ) -> None:
        user = tenant.users[name]
        if not user.known:
            return
        if user.to_adopt:
            before = held(user.entries) if seats_before is None else seats_before
            seats_before = before | self._adopt_late(tenant, user)
        self._claim_first(tenant, name, {"retry": retry, "seats_before": seats_before})
        result = evaluate(self._facts(tenant, name, retry=retry, seats_before=seats_before))
        user.entries, user.states = result.entries, result.states
        lacked = {s.sku for s in result.states if s.error == COUNT}
        for sku in lacked:
            tenant.waiting.setdefault(sku, {}).setdefault(name, at)
        for sku, line in tenant.waiting.items():
            if sku not in lacked:
                line.pop(name, None)
        note_since(user, at)
        self._claim(tenant, name)
        user.routing = mail.made_routing(user, name, self.products, tenant.domain, tenant.book)
        documents.publish_user(self, tenant, name, at)

    def _evaluate_all(
        self, tenant: Tenant, names: Iterable[str], at: At, *, retry: bool = True
    ) -> None:
        """R8: the longest waiting user is first, then by user id; freed seats go immediately.

        Users who bring a seat (R25) are before those who ask for one.
        """
        lines = list(tenant.waiting.values())
        first = {n: min((line[n] for line in lines if n in line), default=at) for n in names}
        users = tenant.users
        for name in sorted(first, key=lambda n: (not users[n].to_adopt, first[n], n)):
            self._evaluate(tenant, name, at, retry=retry)
            self._serve_waiting(tenant, at)
        self._serve_waiting(tenant, at)
        self._tell_affected(tenant, at)

    def _serve_waiting(self, tenant: Tenant, at: At) -> None:
        """R9: with automatic retry no unit is free while somebody waits for it."""
        while tenant.seat_retry == "automatic":
            free = [s for s, line in tenant.waiting.items() if line and tenant.available(s) > 0]
            if not free:
                return
            line = tenant.waiting[min(free)]
            name = min(line, key=lambda n: (line[n], n))
            self._evaluate(tenant, name, at)
            assert name not in line, "a free unit was refused"
