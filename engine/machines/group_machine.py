"""The group machine: groups and their licences, and how far the partitions are with them.

A change is checked (R20, R21), gets the next version, and goes as the group's whole configuration
to every partition. The partitions report absolute numbers with the version they have done; the
status is their sum, and complete when all have done the current version.
"""

from __future__ import annotations

from typing import Any

from engine.documents.audit import audit, listed
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
from engine.domain.model import timestamp
from engine.domain.state_counter import StateCounter
from engine.domain.vocabulary import GroupProcessingState
from engine.rules.direct_change import (
    NO_CHANGE,
    Rejection,
    check_disabled_plans,
    check_group_prerequisites,
    replace_all,
)
from engine.state.configuration import Configuration
from engine.state.message_codecs import (
    CONFIGURATION,
    ConfigurationMessage,
    decode_group_report,
    encode_configuration,
)
from engine.state.row_codecs import (
    GROUP_STATES,
    GroupStateRow,
    decode_group_state,
    encode_group,
    encode_group_state,
)

Licenses = tuple[tuple[str, tuple[str, ...]], ...]
Removed = tuple[str, ...] | None
"""The products to remove; None for a whole list (R28)."""


class GroupState:
    """One group. ``parts``: partition -> [version, members, licensed, with errors, errors].

    ``deferred``: changes that wait for a product, as [event id, add, remove, at]; ``remove`` of a
    whole list (R28) is None: what ``add`` does not name. ``promised``: what is due when a version
    is done everywhere, as [version, kind, event id].
    """

    __slots__ = (
        "at", "cause", "deferred", "deleted", "group", "licenses", "name", "parts", "promised",
        "published", "seen_fingerprints", "tenant", "version",
    )  # fmt: skip

    def __init__(self, tenant: str, group: str) -> None:
        self.tenant = tenant
        self.group = group
        self.name: str | None = None
        self.deleted = False
        self.licenses: dict[str, list[str]] = {}
        self.version = 0
        self.deferred: list[list[Any]] = []
        self.parts: dict[str, list[Any]] = {}
        self.promised: list[list[Any]] = []
        self.published: dict[str, Any] | None = None
        self.seen_fingerprints = b""
        self.at = 0
        self.cause = ""

    @property
    def key(self) -> str:
        """The key of its row: tenant/group."""
        return f"{self.tenant}/{self.group}"

    def row(self) -> list[Any]:
        """Returns the row of ``group-state``."""
        # By position, in the order of the fields: by name it takes twice as long.
        return encode_group_state(
            GroupStateRow(
                self.name,
                self.deleted,
                self.licenses,
                self.version,
                self.deferred,
                self.parts,
                self.promised,
                self.published,
                self.seen_fingerprints,
                self.at,
                self.cause,
            )
        )

    @classmethod
    def load(cls, key: str, row: list[Any]) -> GroupState:
        """Returns the group that a row of ``group-state`` persists."""
        state = cls(*key.split("/", 1))
        found = decode_group_state(row)
        state.name = found.display_name
        state.deleted = found.deleted
        state.licenses = found.licenses
        state.version = found.version
        state.deferred = found.deferred
        state.parts = found.reports
        state.promised = found.pending_completions
        state.published = found.published
        state.seen_fingerprints = found.seen_fingerprints
        state.at = found.timestamp_ms
        state.cause = found.caused_by
        return state

    def done(self, partitions: int) -> int:
        """Returns the version that all partitions have applied."""
        if len(self.parts) < partitions:
            return 0
        return min(int(part[0]) for part in self.parts.values())

    def progress(self, partitions: int) -> str:
        """Returns the ``licenseProcessingState`` that the partitions' reports make."""
        if self.version <= self.done(partitions):
            return GroupProcessingState.COMPLETE.value
        if any(part[0] >= self.version for part in self.parts.values()):
            return GroupProcessingState.IN_PROGRESS.value
        return GroupProcessingState.QUEUED.value

    def undefined(self, configuration: Configuration) -> list[str]:
        """Returns the undefined products that deferred changes name (R21)."""
        named = {
            sku for _, add, remove, _ in self.deferred for sku in (*dict(add), *(remove or ()))
        }
        return sorted(named - configuration.products.keys())


class GroupMachine:
    """Group changes and partitions' reports in; configuration, status, results and audit out."""

    def __init__(self, configuration: Configuration, effects: Effects) -> None:
        self.configuration = configuration
        self.effects = effects
        self.groups: dict[str, GroupState] = {}
        self.changed: set[str] = set()
        self.unpublished: set[str] = set()
        self.duplicates = 0
        self.statuses = StateCounter()  # groups by their published state
        self.with_errors = 0

    def load(self, key: str, row: list[Any]) -> None:
        """Takes one restored row of ``group-state``."""
        state = self.groups[key] = GroupState.load(key, row)
        self._count({}, state.published or {})
        self.unpublished.add(key)

    def _of(self, tenant: str, group: str) -> GroupState:
        key = f"{tenant}/{group}"
        self.changed.add(key)
        if key not in self.groups:
            self.groups[key] = GroupState(tenant, group)
        return self.groups[key]

    # -- input
    def changes(self, batch: list[Delivered]) -> list[int]:
        """Applies a batch of ``group-changes``; returns the offsets that belong elsewhere."""
        misrouted: list[int] = []
        for event, at, offset, source in batch:
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
            self._apply(state, event, at)
        self._settle()
        return misrouted

    def _apply(self, state: GroupState, event: object, at: int) -> None:
        if isinstance(event, GroupLicensesChanged):
            self._change_licenses(state, event.id, event.add, event.remove, at)
        elif isinstance(event, GroupLicensesSet):
            self._change_licenses(state, event.id, event.licenses, None, at)
        elif isinstance(event, GroupUpserted):
            self._upsert(state, event, at)
        elif isinstance(event, GroupDeleted):
            self._delete(state, event, at)
        elif isinstance(event, GroupReprocess):
            state.promised.append([state.version + 1, "reprocess", event.id])
            self._audit(state, "Trigger group license recalculation", at, event.id)
            self._send(state, at, event.id)
        else:
            raise TypeError(f"not a group event: {event!r}")

    def _upsert(self, state: GroupState, event: GroupUpserted, at: int) -> None:
        self._stamp(state, at, event.id)
        if event.display_name is not ABSENT:
            state.name = event.display_name  # type: ignore[assignment]
        state.deleted = False
        if state.version:
            self._send(state, at, event.id)  # R9: every event about a group

    def _delete(self, state: GroupState, event: GroupDeleted, at: int) -> None:
        self._stamp(state, at, event.id)
        self._audit(state, "Delete group", at, event.id)
        for id, *_ in state.deferred:
            message = "The group was deleted before every product of the change was defined."
            self._result(state, id, "rejected", Rejection("GroupDeleted", None, (), message))
        state.deferred = []
        state.licenses = {}
        state.deleted = True
        self._send(state, at, event.id)

    # -- R20, R21: licence changes
    def _change_licenses(
        self, state: GroupState, id: str, add: Licenses, remove: Removed, at: int
    ) -> None:
        self._stamp(state, at, id)
        if self.configuration.defined([*dict(add), *(remove or ())]):
            self._carry_out(state, id, add, remove, at)
        else:
            state.deferred.append([id, add, remove, at])
            self._result(state, id, "deferred")

    def _carry_out(
        self, state: GroupState, id: str, add: Licenses, remove: Removed, at: int
    ) -> None:
        if remove is None:
            add, remove = replace_all(state.licenses, add)
        if not add and not remove:
            self._result(state, id, "rejected", NO_CHANGE)
            return
        wanted = {sku: off for sku, off in state.licenses.items() if sku not in remove}
        wanted |= {sku: list(off) for sku, off in add}
        products = self.configuration.products
        rejection = check_disabled_plans(products, add)
        rejection = rejection or check_group_prerequisites(products, wanted)
        if rejection:
            self._result(state, id, "rejected", rejection)
            self._audit(state, "Set group license", at, id, rejection)
            return
        old, state.licenses = state.licenses, wanted
        self._result(state, id, "applied")
        self._audit(state, "Set group license", at, id, None, (listed(old), listed(wanted)))
        state.deleted = state.deleted and not wanted
        self._audit(state, "Start applying group based license to users", at, id)
        state.promised.append([state.version + 1, "finish", id])
        self._send(state, at, id)

    def product_defined(self) -> None:
        """R21: what was deferred is carried out when every product it names is defined."""
        for state in [state for state in self.groups.values() if state.deferred]:
            waiting, state.deferred = state.deferred, []
            for id, add, remove, at in waiting:
                if self.configuration.defined([*dict(add), *(remove or ())]):
                    licenses = tuple((sku, tuple(off)) for sku, off in add)
                    removed = None if remove is None else tuple(remove)
                    self._carry_out(state, id, licenses, removed, at)
                else:
                    state.deferred.append([id, add, remove, at])
            self.changed.add(state.key)
        self._settle()

    # -- the partitions
    def _send(self, state: GroupState, at: int, cause: str) -> None:
        self._stamp(state, at, cause)
        state.version += 1
        message = encode_configuration(
            ConfigurationMessage(
                kind="group",
                tenant=state.tenant,
                group=state.group,
                row=encode_group(state.version, state.licenses, state.deleted),
                timestamp_ms=state.at,
                caused_by=cause,
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
            if part != state.parts.get(str(report.partition)):
                state.parts[str(report.partition)] = part
                state.at = max(state.at, report.timestamp_ms)
        self._settle(at_once=False)

    def _settle(self, at_once: bool = True) -> None:
        """``at_once``: of groups that nobody waits for, the status can also go with the others'."""
        for key in sorted(self.changed):
            state = self.groups[key]
            if at_once or state.promised:
                self._keep_promises(state)
                self._publish(state)
            else:
                self.unpublished.add(key)
            self.effects.rows[GROUP_STATES, key] = state.row()
        self.changed.clear()

    def flush(self) -> None:
        """Publishes the statuses that have changed."""
        for key in sorted(self.unpublished):
            state = self.groups[key]
            if self._publish(state):
                self.effects.rows[GROUP_STATES, key] = state.row()
        self.unpublished.clear()

    def _publish(self, state: GroupState) -> bool:
        status = self._status(state)
        if status == state.published:
            return False
        self._count(state.published or {}, status)
        state.published = status
        value = status | {"updatedAt": timestamp(state.at)}
        self.effects.emit("group-status", state.key, value)
        return True

    def _count(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        was, now = old.get("licenseProcessingState"), new.get("licenseProcessingState")
        self.statuses.move((was,) if was else (), (now,) if now else ())
        self.with_errors += bool(new.get("membersWithErrors")) - bool(old.get("membersWithErrors"))

    def _keep_promises(self, state: GroupState) -> None:
        done = state.done(self.configuration.partitions)
        for promise in [p for p in state.promised if p[0] <= done]:
            state.promised.remove(promise)
            _, kind, id = promise
            if kind == "reprocess":
                self._result(state, id, "applied")
            else:
                members, licensed, with_errors, _ = self._sums(state)
                self._audit(
                    state,
                    "Finish applying group based license to users",
                    state.at,
                    id,
                    reason=f"{licensed} of {members} users licensed, {with_errors} with errors",
                )

    # -- output
    @staticmethod
    def _sums(state: GroupState) -> tuple[int, int, int, dict[str, int]]:
        members = licensed = with_errors = 0
        errors: dict[str, int] = {}
        for _, m, l, w, found in state.parts.values():  # noqa: E741
            members, licensed, with_errors = members + m, licensed + l, with_errors + w
            for error, users in found.items():
                errors[error] = errors.get(error, 0) + users
        return members, licensed, with_errors, dict(sorted(errors.items()))

    def _status(self, state: GroupState) -> dict[str, Any]:
        members, licensed, with_errors, errors = self._sums(state)
        return {
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

    @staticmethod
    def _stamp(state: GroupState, at: int, cause: str) -> None:
        state.at = max(state.at, at)
        state.cause = cause

    def _result(
        self, state: GroupState, id: str, status: str, why: Rejection | None = None
    ) -> None:
        value = result(id, {"tenant": state.tenant, "group": state.group}, status, why)
        self.effects.emit("results", state.key, value)

    def _audit(
        self,
        state: GroupState,
        activity: str,
        at: int,
        cause: str,
        why: Rejection | None = None,
        licenses: tuple[Any, Any] | None = None,
        reason: str = "",
    ) -> None:
        changed = [("AssignedLicense", *licenses)] if licenses else []
        value = audit(
            state.tenant, ("Group", state.group), activity, at, cause, changed,
            f"{why.error}: {why.message}" if why else reason, failed=why is not None,
        )  # fmt: skip
        self.effects.emit("audit", state.key, value)
