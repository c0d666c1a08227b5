"""R27 in the user machine: what attributes, rules and snapshots do to memberships."""

from __future__ import annotations

from typing import Any

from engine.domain import events as ev
from engine.domain.effects import Effects
from engine.domain.events import ABSENT
from engine.machines import rule_walks, user_snapshot
from engine.machines.fan_out import GROUP, Job
from engine.machines.rule_members import RuleMembers, kept_memberships
from engine.machines.unit_of_work import UnitOfWork
from engine.machines.user_evaluations import UserEvaluations
from engine.state.configuration import Configuration
from engine.state.row_codecs import decode_group
from engine.state.tenant_state import User
from engine.state.user_row_codecs import OptionalUserFacts


class RuledUsers(UserEvaluations):
    """The part of the user machine that knows membership rules."""

    def __init__(
        self,
        configuration: Configuration,
        effects: Effects,
        work: UnitOfWork,
        suppress_output: bool = False,
    ) -> None:
        super().__init__(configuration, effects, work, suppress_output)
        self.rule_members = RuleMembers(configuration, self.applier)

    # -- rules
    def _group(
        self, tenant_id: str, id: str, row: list[Any], timestamp_ms: int, caused_by: str
    ) -> None:
        """Takes a group's configuration: its members are to be evaluated again (R9)."""
        tenant = self.configuration.tenant(tenant_id)
        group = decode_group(row)
        known = tenant.groups.get(id)
        before = known.version if known is not None else 0
        if known is not None and before >= group.version:
            return
        walks = rule_walks.receive_group(self.configuration, self.effects, tenant, id, group)
        if walks or tenant.membership(id).user_count or self.fan_out.has(tenant_id, id):
            self.fan_out.begin(GROUP, tenant_id, id, group.version, before, timestamp_ms, caused_by)
        if walks:
            self.fan_out.begin_walk(tenant_id, id)
        self.work.change_group(tenant, id, timestamp_ms)

    def _visit(self, user: User, job: Job) -> bool:
        """Applies a changed rule to a user; True if the user is to be evaluated."""
        moved = self.rule_members.apply_rule(user, job.id, job.timestamp_ms)
        if moved:
            self.work.dirty_users[user] = None
        return user.known and (moved or user.belongs(job.id))

    def _apply_rules_first(self, user: User) -> None:
        """Applies the rules whose fan-out may not have reached the user, before its next event."""
        rules = user.tenant.rules
        if rules is None or not rules.walking:
            return
        for group in sorted(rules.walking):
            job = self.fan_out.job_of(user.tenant.id, group)
            if self.rule_members.apply_rule(user, group, job.timestamp_ms):
                self.work.dirty_users[user] = None
                self._fact_changed(user, job.timestamp_ms, job.caused_by)

    # -- facts
    def _apply_attributes(
        self,
        user: User,
        event: ev.UserUpserted,
        given: tuple[Any, ...],
        was_known: bool,
        timestamp_ms: int,
        offset: int,
    ) -> bool:
        """Patches the attributes, and evaluates the rules; True if a membership changed.

        ``given``: the other facts before the event.
        """
        if event.attributes is ABSENT and user.tenant.rules is None:
            return False
        changed, rejection = self.rule_members.patch(user, event, given)
        if rejection is not None:
            self.direct_changes.reject_fact(user, event.id, rejection)
        if not was_known:
            return self.rule_members.update_all(user, timestamp_ms, offset)
        return bool(changed) and self.rule_members.update(user, changed, timestamp_ms, offset)

    def _replace_memberships(
        self, user: User, event: ev.UserSnapshot, timestamp_ms: int, offset: int
    ) -> None:
        """Replaces the memberships by events; those that rules made follow from the facts."""
        known, kept = user.memberships(), kept_memberships(user)
        since = {**known, **{group: bytes.fromhex(text) for group, text in kept.items()}}
        listed = user_snapshot.memberships(event, since, timestamp_ms, offset)
        ruled = {group for group in listed if self.rule_members.is_ruled(user, group)}
        facts = {group: listed[group].hex() for group in listed if group in ruled}
        user.set_optional_fact(OptionalUserFacts.KEPT_MEMBERSHIPS, facts or None)
        wanted = {group: listed[group] for group in listed if group not in ruled}
        for group in user.rule_groups:
            wanted[group] = known[group]
        for group in known.keys() - wanted.keys():
            user.leave(group)
            self.applier.left(user, group, timestamp_ms)
        joined = [group for group in wanted if group not in known]
        user.set_memberships(wanted)
        for group in joined:
            self.applier.joined(user, group, timestamp_ms)
