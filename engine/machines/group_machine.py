"""The group machine: groups and their licences, and how far the partitions are with them.

A change is checked (R20, R21), gets the next version, and goes as the group's whole configuration
to every partition. The partitions report absolute numbers with the version they have done; the
status is their sum, and complete when all have done the current version.
"""

from __future__ import annotations

from typing import Any, Final

from engine.documents.audit import application_result, audit, listed
from engine.documents.results import result
from engine.domain.deduplication import check_and_add
from engine.domain.effects import Effects
from engine.domain.events import (
    ABSENT,
    CODES,
    Delivered,
    GroupDeleted,
    GroupLicensesChanged,
    GroupLicensesSet,
    GroupReprocess,
    GroupUpserted,
)
from engine.domain.messages import Rejection, limit_exceeded
from engine.domain.model import timestamp
from engine.domain.state_counter import StateCounter
from engine.domain.vocabulary import processing_state
from engine.machines.group_rules import change_rule, check_rule, names_rule
from engine.rules.direct_change import (
    NO_CHANGE,
    check_disabled_plans,
    check_group_prerequisites,
    replace_all,
)
from engine.state.configuration import Configuration
from engine.state.deferred_changes import exceeds_limit
from engine.state.group_state import GroupState
from engine.state.message_codecs import (
    CONFIGURATION,
    ConfigurationMessage,
    decode_group_report,
    encode_configuration,
)
from engine.state.row_codecs import GROUP_STATES, encode_group

Licenses = tuple[tuple[str, tuple[str, ...]], ...]
REPROCESS: Final = "reprocess"
FINISH: Final = "finish"
Removed = tuple[str, ...] | None
"""The products to remove; None for a whole list (R28)."""


class GroupMachine:
    """Group changes and partitions' reports in; configuration, status, results and audit out."""

    def __init__(self, configuration: Configuration, effects: Effects) -> None:
        self.configuration = configuration
        self.effects = effects
        self.groups: dict[str, GroupState] = {}
        self.dirty: set[str] = set()
        self.pending_publication: set[str] = set()
        self.duplicates = 0
        self.statuses = StateCounter()  # groups by their published state
        self.with_errors = 0

    def load(self, key: str, row: list[Any]) -> None:
        """Takes one restored row of ``group-state``."""
        state = self.groups[key] = GroupState.load(key, row)
        self._count({}, state.published or {})
        self.pending_publication.add(key)

    def _of(self, tenant: str, group: str) -> GroupState:
        key = f"{tenant}/{group}"
        self.dirty.add(key)
        if key not in self.groups:
            self.groups[key] = GroupState(tenant, group)
        return self.groups[key]

    # -- input
    def changes(self, batch: list[Delivered]) -> list[int]:
        """Applies a batch of ``group-changes``; returns the offsets that belong elsewhere."""
        misrouted: list[int] = []
        for event, timestamp_ms, offset, source in batch:
            tenant, group = event.tenant, event[2]
            key = f"{tenant}/{group}"
            if key not in self.groups and not self.configuration.owns(key):
                misrouted.append(offset)
                continue
            state = self._of(tenant, group)
            seen = check_and_add(state.seen_fingerprints, CODES[type(event)], event.id, source)
            if seen is None:
                self.duplicates += 1
                continue
            state.seen_fingerprints = seen
            self._apply(state, event, timestamp_ms, offset)
        self._settle()
        return misrouted

    def _apply(self, state: GroupState, event: object, timestamp_ms: int, offset: int) -> None:
        if isinstance(event, GroupLicensesChanged):
            self._change_licenses(state, event.id, event.add, event.remove, timestamp_ms)
        elif isinstance(event, GroupLicensesSet):
            self._change_licenses(state, event.id, event.licenses, None, timestamp_ms)
        elif isinstance(event, GroupUpserted):
            self._upsert(state, event, timestamp_ms, offset)
        elif isinstance(event, GroupDeleted):
            self._delete(state, event, timestamp_ms)
        elif isinstance(event, GroupReprocess):
            self._reprocess(state, event, timestamp_ms)
        else:
            raise TypeError(f"not a group event: {event!r}")

    def _reprocess(self, state: GroupState, event: GroupReprocess, timestamp_ms: int) -> None:
        maximum = self.configuration.limits.group_completions
        under_way = sum([1 for _, kind, _ in state.pending_completions if kind == REPROCESS])
        if under_way >= maximum:
            why = limit_exceeded("reprocesses of a group under way", maximum, under_way + 1)
            self._result(state, event.id, "rejected", why)
            return
        state.pending_completions.append([state.version + 1, REPROCESS, event.id])
        self._audit(state, "Trigger group license recalculation", timestamp_ms, event.id)
        self._send(state, timestamp_ms, event.id)

    def _upsert(
        self, state: GroupState, event: GroupUpserted, timestamp_ms: int, offset: int
    ) -> None:
        self._stamp(state, timestamp_ms, event.id)
        had_rule = state.rule is not None
        if names_rule(event):
            rejection = check_rule(event)
            if rejection is not None:
                self._result(state, event.id, "rejected", rejection)
                return
            change_rule(state, event, timestamp_ms, offset)
            self._result(state, event.id, "applied")
        if event.display_name is not ABSENT:
            state.name = event.display_name  # type: ignore[assignment]
        state.deleted = False
        if state.version or had_rule or state.rule is not None:
            self._send(state, timestamp_ms, event.id)  # R9: every event about a group

    def _delete(self, state: GroupState, event: GroupDeleted, timestamp_ms: int) -> None:
        self._stamp(state, timestamp_ms, event.id)
        self._audit(state, "Delete group", timestamp_ms, event.id)
        for id, *_ in state.deferred:
            message = "The group was deleted before every product of the change was defined."
            self._reject(state, id, Rejection("GroupDeleted", None, (), message), timestamp_ms)
        state.deferred = []
        state.licenses = {}
        state.deleted = True
        self._send(state, timestamp_ms, event.id)

    # -- R20, R21: licence changes
    def _change_licenses(
        self, state: GroupState, id: str, add: Licenses, remove: Removed, timestamp_ms: int
    ) -> None:
        self._stamp(state, timestamp_ms, id)
        if self.configuration.defined([*dict(add), *(remove or ())]):
            self._carry_out(state, id, add, remove, timestamp_ms)
            return
        change: list[Any] = [id, add, remove, timestamp_ms]
        rejection = exceeds_limit(self.configuration.limits, state.deferred, change)
        if rejection:
            self._reject(state, id, rejection, timestamp_ms)
        else:
            state.deferred.append(change)
            self._result(state, id, "deferred")

    def _carry_out(
        self, state: GroupState, id: str, add: Licenses, remove: Removed, timestamp_ms: int
    ) -> None:
        if remove is None:
            add, remove = replace_all(state.licenses, add)
        if not add and not remove:
            self._reject(state, id, NO_CHANGE, timestamp_ms)
            return
        wanted = {sku: off for sku, off in state.licenses.items() if sku not in remove}
        wanted |= {sku: list(off) for sku, off in add}
        products = self.configuration.products
        maximum = self.configuration.limits.products
        rejection: Rejection | None = None
        if len(wanted) > max(maximum, len(state.licenses)):
            rejection = limit_exceeded("products of a group", maximum, len(wanted))
        rejection = rejection or check_disabled_plans(products, add)
        rejection = rejection or check_group_prerequisites(products, wanted)
        if rejection:
            self._reject(state, id, rejection, timestamp_ms)
            return
        old, state.licenses = state.licenses, wanted
        self._result(state, id, "applied")
        self._audit(
            state, "Set group license", timestamp_ms, id, None, (listed(old), listed(wanted))
        )
        state.deleted = state.deleted and not wanted
        self._audit(state, "Start applying group based license to users", timestamp_ms, id)
        self._finish_later(state, id)
        self._send(state, timestamp_ms, id)

    def _finish_later(self, state: GroupState, id: str) -> None:
        """Notes that the end of a change goes to the audit log, of the latest changes only."""
        state.pending_completions.append([state.version + 1, FINISH, id])
        finishes = [each for each in state.pending_completions if each[1] == FINISH]
        if len(finishes) > self.configuration.limits.group_completions:
            state.pending_completions.remove(finishes[0])

    def product_defined(self) -> None:
        """R21: what was deferred is carried out when every product it names is defined."""
        for state in [state for state in self.groups.values() if state.deferred]:
            waiting, state.deferred = state.deferred, []
            for id, add, remove, timestamp_ms in waiting:
                if self.configuration.defined([*dict(add), *(remove or ())]):
                    licenses = tuple((sku, tuple(off)) for sku, off in add)
                    removed = None if remove is None else tuple(remove)
                    self._carry_out(state, id, licenses, removed, timestamp_ms)
                else:
                    state.deferred.append([id, add, remove, timestamp_ms])
            self.dirty.add(state.key)
        self._settle()

    # -- the partitions
    def _send(self, state: GroupState, timestamp_ms: int, caused_by: str) -> None:
        self._stamp(state, timestamp_ms, caused_by)
        state.version += 1
        message = encode_configuration(
            ConfigurationMessage(
                kind="group",
                tenant=state.tenant,
                group=state.group,
                row=encode_group(
                    state.version, state.licenses, state.deleted, state.optional_facts()
                ),
                timestamp_ms=state.timestamp_ms,
                caused_by=caused_by,
            )
        )
        for p in range(self.configuration.partitions):
            self.effects.emit(CONFIGURATION, state.key, message, p)

    def reports(self, batch: list[Delivered]) -> None:
        """Applies a batch of the partitions' reports."""
        for message, _, _, _ in batch:
            report = decode_group_report(message)
            state = self._of(report.tenant, report.group)
            part = [
                report.version, report.members, report.licensed, report.with_errors, report.errors,
            ]  # fmt: skip
            if part != state.partition_reports.get(str(report.partition)):
                state.partition_reports[str(report.partition)] = part
                state.timestamp_ms = max(state.timestamp_ms, report.timestamp_ms)
        self._settle(publish_all=False)

    def _settle(self, publish_all: bool = True) -> None:
        """Writes the changed groups; ``publish_all``: publishes the status of each immediately.

        Otherwise the status of a group without pending completions waits for the next flush.
        """
        for key in sorted(self.dirty):
            state = self.groups[key]
            if publish_all or state.pending_completions:
                self._complete_pending(state)
                self._publish(state)
            else:
                self.pending_publication.add(key)
            self.effects.rows[GROUP_STATES, key] = state.row()
        self.dirty.clear()

    def flush(self) -> None:
        """Publishes the statuses that have changed."""
        for key in sorted(self.pending_publication):
            state = self.groups[key]
            if self._publish(state):
                self.effects.rows[GROUP_STATES, key] = state.row()
        self.pending_publication.clear()

    def _publish(self, state: GroupState) -> bool:
        status = self._status(state)
        if status == state.published:
            return False
        self._count(state.published or {}, status)
        state.published = status
        value = status | {"updatedAt": timestamp(state.timestamp_ms)}
        self.effects.emit("group-status", state.key, value)
        return True

    def _count(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        old_state, new_state = old.get("licenseProcessingState"), new.get("licenseProcessingState")
        self.statuses.move((old_state,) if old_state else (), (new_state,) if new_state else ())
        self.with_errors += bool(new.get("membersWithErrors")) - bool(old.get("membersWithErrors"))

    def _complete_pending(self, state: GroupState) -> None:
        done = state.done(self.configuration.partitions)
        for completion in [p for p in state.pending_completions if p[0] <= done]:
            state.pending_completions.remove(completion)
            _, kind, id = completion
            if kind == REPROCESS:
                self._result(state, id, "applied")
            else:
                _, licensed, with_errors, _ = self._sums(state)
                self._audit(
                    state,
                    "Finish applying group based license to users",
                    state.timestamp_ms,
                    id,
                    reason=application_result(licensed, with_errors),
                )

    # -- output
    @staticmethod
    def _sums(state: GroupState) -> tuple[int, int, int, dict[str, int]]:
        members = licensed = with_errors = 0
        errors: dict[str, int] = {}
        for _, m, l, w, found in state.partition_reports.values():  # noqa: E741
            members, licensed, with_errors = members + m, licensed + l, with_errors + w
            for error, users in found.items():
                errors[error] = errors.get(error, 0) + users
        return members, licensed, with_errors, dict(sorted(errors.items()))

    def _status(self, state: GroupState) -> dict[str, Any]:
        members, licensed, with_errors, errors = self._sums(state)
        status = {
            "tenant": state.tenant,
            "group": state.group,
            "displayName": state.name,
            "deleted": state.deleted,
            "licenseProcessingState": state.progress(self.configuration.partitions),
            "assignedLicenses": listed(state.licenses),
            "deferred": state.undefined(self.configuration),
            "members": members,
            "membersLicensed": licensed,
            "membersWithErrors": with_errors,
            "errors": errors,
        }
        if state.rule is not None:
            status["membershipRule"] = state.rule[0]
            status["membershipRuleProcessingState"] = processing_state(state.rule[1])
        return status

    @staticmethod
    def _stamp(state: GroupState, timestamp_ms: int, caused_by: str) -> None:
        state.timestamp_ms = max(state.timestamp_ms, timestamp_ms)
        state.caused_by = caused_by

    def _result(
        self, state: GroupState, id: str, status: str, why: Rejection | None = None
    ) -> None:
        value = result(id, {"tenant": state.tenant, "group": state.group}, status, why)
        self.effects.emit("results", state.key, value)

    def _reject(self, state: GroupState, id: str, rejection: Rejection, timestamp_ms: int) -> None:
        """Answers a licence change that is not made; the audit log has it as a failure."""
        self._result(state, id, "rejected", rejection)
        self._audit(state, "Set group license", timestamp_ms, id, rejection)

    def _audit(
        self,
        state: GroupState,
        activity: str,
        timestamp_ms: int,
        caused_by: str,
        why: Rejection | None = None,
        licenses: tuple[Any, Any] | None = None,
        reason: str = "",
    ) -> None:
        changed = [("AssignedLicense", *licenses)] if licenses else []
        value = audit(
            state.tenant, ("Group", state.group), activity, timestamp_ms, caused_by, changed,
            f"{why.error}: {why.message}" if why else reason, failed=why is not None,
        )  # fmt: skip
        self.effects.emit("audit", state.key, value)
