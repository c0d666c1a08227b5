"""Restores users from their rows and rebuilds what follows from them."""

from __future__ import annotations

from typing import Any, Final

from engine.domain.model import Entry, GroupLicenses, PlanSet
from engine.machines.direct_changes import DirectChanges
from engine.machines.evaluation_limits import exceeds_limits, restored_parts
from engine.machines.outcome_applier import OutcomeApplier
from engine.rules.outcome import EMPTY_OUTCOME, Outcome
from engine.state.configuration import Configuration
from engine.state.pending_work import PendingWork
from engine.state.row_codecs import PLAN_SETS, PlanSetRow, decode_plan_set
from engine.state.tenant_state import User
from engine.state.user_mail import restore_mail_facts
from engine.state.user_row_codecs import (
    EntryRow,
    OptionalUserFacts,
    decode_entries,
    decode_problem,
    decode_user,
    tuples,
)

NOTHING_MORE: Final[tuple[Any, ...]] = ()


class UserRestore:
    """Restores users from rows that come in any order.

    Rows of users are kept until :meth:`prepare`, later ones are applied immediately. Equal strings
    and outcomes become one object, as among users who were evaluated.
    """

    def __init__(
        self, configuration: Configuration, applier: OutcomeApplier, direct_changes: DirectChanges
    ) -> None:
        self.configuration = configuration
        self.applier = applier
        self.work = applier.work
        self.direct_changes = direct_changes
        self._plan_rows: dict[str, PlanSetRow] = {}
        self._rows: list[tuple[str, Any]] = []
        self._prepared = False
        self._shared: dict[str | None, Any] = {}
        self._entries: dict[str, tuple[Entry, ...]] = {"": ()}
        self._outcomes: dict[tuple[Any, ...], Outcome] = {}

    def load(self, table: str, key: str, row: Any) -> None:
        """Takes one restored row."""
        if table == PLAN_SETS:
            self._plan_rows[key] = decode_plan_set(row)
        elif self._prepared:
            self._user(key, row)
        else:
            self._rows.append((key, row))

    def prepare(self) -> None:
        """Marks the configuration and the plan sets as complete."""
        self._prepared = True

    def start(self) -> None:
        """Restores the users kept so far, and marks every group to be reported again."""
        self.prepare()
        for key, row in self._rows:
            self._user(key, row)
        self._rows, self._shared, self._outcomes = [], {}, {}
        for tenant in self.configuration.tenants.values():
            for group in tenant.groups:
                self.work.change_group(tenant, group, 0)

    def _user(self, key: str, row: list[Any]) -> None:
        tenant_id, id = key.split("/", 1)
        tenant = self.configuration.tenant(tenant_id)
        user = User(tenant, id)
        (
            user.known, location, user.upn, user.mail, addresses, _, groups, user.member_since,
            paths, entries, problems, sinces, user.revision, user.seen_fingerprints, pending,
            facts,
        ) = decode_user(row)  # fmt: skip
        user.location = self._shared.setdefault(location, location)
        user.addresses = tuple(addresses) if addresses else ()
        user.groups = self._ids(groups)
        user.paths = user.groups if paths is groups else self._ids(paths)
        user.state_since_ms = tuple(sinces) if isinstance(sinces, list) else sinces
        user.pending_work = PendingWork.of_row(pending) if pending is not None else None
        others = dict(facts) if facts else {}
        implied = location or tenant.base_location
        user.published_location = others.pop(OptionalUserFacts.PUBLISHED_LOCATION, implied)
        restore_mail_facts(user, others)
        attributes = others.pop(OptionalUserFacts.ATTRIBUTES, None)
        user.attributes = self.configuration.attributes.of(attributes or {})
        user.rule_groups = self._ids(others.pop(OptionalUserFacts.RULE_GROUPS, []))
        user.optional_facts = others or None
        user.outcome = self._outcome(user, entries, problems)
        tenant.users[id] = user
        self._count(user)

    def _ids(self, ids: list[str]) -> tuple[str, ...]:
        shared = self._shared
        return tuple([shared.setdefault(id, id) for id in ids])

    def _outcome(self, user: User, entries: str, problems: list[Any]) -> Outcome:
        if not entries and not problems:
            return EMPTY_OUTCOME
        asked = self._asked(user)
        content = (entries, tuples(problems) if problems else NOTHING_MORE, asked)
        outcome = self._outcomes.get(content)
        if outcome is None:
            if entries not in self._entries:
                self._entries[entries] = tuple(map(self._entry, decode_entries(entries)))
            trouble = tuple([decode_problem(problem) for problem in problems])
            outcome = Outcome(self._entries[entries], trouble, asked)
            if exceeds_limits(self.configuration, user):
                parts = restored_parts(self.configuration, asked, outcome)
                return Outcome(self._entries[entries], trouble, parts)
            self._outcomes[content] = outcome
        return outcome

    def _entry(self, row: EntryRow) -> Entry:
        return Entry(
            row.path_index,
            row.admission_order,
            self._plan_set(row.plan_set_key),
            row.disabled_plans,
        )

    @staticmethod
    def _asked(user: User) -> tuple[GroupLicenses | None, ...]:
        groups, asked = user.tenant.groups, []
        for path in user.paths:
            group = groups.get(path)
            there = group is not None and (user.paths is user.groups or path in user.groups)
            asked.append(group.license_set if group is not None and there else None)
        return tuple(asked)

    def _plan_set(self, key: str) -> PlanSet:
        plans = self.applier.plans
        found = plans.get(key)
        if found is None:
            row = self._plan_rows[key]
            product = self.configuration.products[row.sku]
            enabled = frozenset(row.enabled_plans)
            found = product.enabling(enabled)
            if found.key != key:  # the catalogue has changed since: R12 is still to be applied
                found = PlanSet(product, enabled, row.disabled_plans)
                found.product = None
            plans[key] = found
        return found

    def _count(self, user: User) -> None:
        """Indexes and counters that follow from the users."""
        applier, tenant, groups = self.applier, user.tenant, user.groups
        stats = user.outcome.group_stats
        for slot, group in enumerate(groups):
            membership = self.work.change_group(tenant, group, 0)
            membership.users.append(user)
            membership.user_count += 1
            if user.known:
                membership.members += 1
            if user.paths is groups:
                membership.add_stats(stats[slot], 1)
        if user.paths is not groups:
            for slot, group in enumerate(user.paths):
                membership = self.work.change_group(tenant, group, 0)
                membership.add_stats(stats[slot], 1)
                if group not in groups and group not in user.paths[:slot]:
                    membership.add(user)
        if user.outcome.errors:
            applier.count_errors(EMPTY_OUTCOME, user.outcome)
        if user.optional_facts is not None and OptionalUserFacts.ADOPTION in user.optional_facts:
            applier.adopting[user] = None
        if user.pending_work is not None and user.pending_work.deferred_changes:
            self.direct_changes.users_with_deferred[user] = None
