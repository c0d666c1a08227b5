"""The state of a group at its owner: its licences, and how far the partitions are with them."""

from __future__ import annotations

from typing import Any

from engine.domain.vocabulary import GroupProcessingState
from engine.state.configuration import Configuration
from engine.state.row_codecs import (
    MEMBERSHIP_RULE,
    GroupStateRow,
    OptionalFacts,
    decode_group_state,
    encode_group_state,
)


class GroupState:
    """One group: its licences, and what the partitions have reported of it.

    ``partition_reports``: partition -> [version, members, licensed, with errors, errors].
    ``deferred``: changes that wait for a product, as [event id, add, remove, timestamp_ms];
    ``remove`` is None for a whole list (R28): all that ``add`` does not name.
    ``pending_completions``: events to complete when all partitions have applied a version, as
    [version, kind, event id]. ``rule``: its membership rule (R27) as the row has it, or None.
    """

    __slots__ = (
        "caused_by", "deferred", "deleted", "group", "licenses", "name", "partition_reports",
        "pending_completions", "published", "rule", "seen_fingerprints", "tenant", "timestamp_ms",
        "version",
    )  # fmt: skip

    def __init__(self, tenant: str, group: str) -> None:
        self.tenant = tenant
        self.group = group
        self.name: str | None = None
        self.deleted = False
        self.licenses: dict[str, list[str]] = {}
        self.version = 0
        self.deferred: list[list[Any]] = []
        self.partition_reports: dict[str, list[Any]] = {}
        self.pending_completions: list[list[Any]] = []
        self.published: dict[str, Any] | None = None
        self.rule: list[Any] | None = None
        self.seen_fingerprints = b""
        self.timestamp_ms = 0
        self.caused_by = ""

    @property
    def key(self) -> str:
        """The key of its row: tenant/group."""
        return f"{self.tenant}/{self.group}"

    def optional_facts(self) -> OptionalFacts:
        """Returns what the partitions are sent of the group beside its licences."""
        return None if self.rule is None else {MEMBERSHIP_RULE: self.rule}

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
                self.partition_reports,
                self.pending_completions,
                self.published,
                self.seen_fingerprints,
                self.timestamp_ms,
                self.caused_by,
                self.optional_facts(),
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
        state.partition_reports = found.reports
        state.pending_completions = found.pending_completions
        state.published = found.published
        state.seen_fingerprints = found.seen_fingerprints
        state.timestamp_ms = found.timestamp_ms
        state.caused_by = found.caused_by
        state.rule = (found.optional_facts or {}).get(MEMBERSHIP_RULE)
        return state

    def done(self, partitions: int) -> int:
        """Returns the version that all partitions have applied."""
        if len(self.partition_reports) < partitions:
            return 0
        return min(int(part[0]) for part in self.partition_reports.values())

    def progress(self, partitions: int) -> str:
        """Returns the ``licenseProcessingState`` that the partitions' reports make."""
        if self.version <= self.done(partitions):
            return GroupProcessingState.COMPLETE.value
        if any(part[0] >= self.version for part in self.partition_reports.values()):
            return GroupProcessingState.IN_PROGRESS.value
        return GroupProcessingState.QUEUED.value

    def undefined(self, configuration: Configuration) -> list[str]:
        """Returns the undefined products that deferred changes name (R21)."""
        named = {
            sku for _, add, remove, _ in self.deferred for sku in (*dict(add), *(remove or ()))
        }
        return sorted(named - configuration.products.keys())
