"""One partition of the engine: five machines over one configuration and one unit of work.

The way of an event: :meth:`PartitionMachine.handle` gives a batch to its topic's machine, which
applies the events and marks what changed in the unit of work; at the end of the batch the users are
evaluated, their seats are requested, and rows and records go to the effects, which
:meth:`PartitionMachine.drain_effects` hands to the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from engine.domain.effects import Effects
from engine.domain.events import Delivered
from engine.domain.limits import DEFAULT_LIMITS, Limits
from engine.domain.partitioner import partition_of
from engine.machines import fan_out
from engine.machines.address_machine import AddressMachine
from engine.machines.catalog_machine import CatalogMachine
from engine.machines.group_machine import GroupMachine
from engine.machines.product_machine import ProductMachine
from engine.machines.unit_of_work import UnitOfWork
from engine.machines.user_machine import UserMachine
from engine.state import formats, message_codecs, row_codecs
from engine.state.configuration import Configuration
from engine.state.formats import FORMAT_KEY, FORMAT_TABLE

Batch = Sequence[Delivered]
IN_FLIGHT_LIMIT = 1000
"""Users in flight above which the caller should take in fewer user events."""


class BatchResult(NamedTuple):
    """The result of a batch. ``misrouted``: offsets of events that belong to another partition.

    They were not applied: the producer used another partitioner.
    """

    misrouted: Sequence[int]


class PartitionMachine:
    """The deterministic machine whose log is its lock (architecture).

    Life: ``load`` every row (``freeze_configuration`` before users' rows saves memory), ``start``,
    then ``handle`` batches in the order of each topic's log, ``run_background`` between them, and
    ``drain_effects`` for each transaction.

    ``suppress_output``: users are neither published nor written to rows, for dry runs. ``limits``:
    the same in all partitions.
    """

    def __init__(
        self,
        number: int,
        partitions: int,
        suppress_output: bool = False,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self.effects = Effects()
        self.work = UnitOfWork()
        where = lru_cache(maxsize=65536)(lambda key: partition_of(key, partitions))
        self.configuration = Configuration(number, partitions, where, limits)
        self.users = UserMachine(self.configuration, self.effects, self.work, suppress_output)
        self.groups = GroupMachine(self.configuration, self.effects)
        self.products = ProductMachine(self.configuration, self.effects, partitions)
        self.addresses = AddressMachine(self.effects, limits, self.configuration.batch_readers)
        self.catalog = CatalogMachine(self.configuration, self.effects)
        self._handlers: dict[str, Callable[[Any], Sequence[int] | None]] = {
            "user-changes": self.users.changes,
            "group-changes": self.groups.changes,
            "catalog": self.catalog.products,
            "tenants": self.catalog.tenant_settings,
            "subscriptions": self.products.subscriptions,
            message_codecs.CONFIGURATION: self._configure,
            message_codecs.SEAT_REQUESTS: self.products.requests,
            message_codecs.SEAT_GRANTS: self.users.grants,
            message_codecs.GROUP_REPORTS: self.groups.reports,
            message_codecs.ADDRESS_CLAIMS: self.addresses.handle,
            message_codecs.ADDRESS_VERDICTS: self.users.verdicts,
        }
        self._prepared = False
        self._loaders: dict[str, Callable[[str, str, Any], None]] = {
            FORMAT_TABLE: self._load_format,
            row_codecs.PRODUCTS: self.configuration.load,
            row_codecs.TENANTS: self.configuration.load,
            row_codecs.GROUPS: self.configuration.load,
            row_codecs.CATALOG_EVENTS: self.catalog.load,
            row_codecs.TENANT_SETTINGS: self.catalog.load,
            row_codecs.USERS: self.users.restore.load,
            row_codecs.PLAN_SETS: self.users.restore.load,
            row_codecs.LEASES: lambda _, key, row: self.users.allocator.load(key, row),
            row_codecs.JOBS: lambda _, key, row: self.users.fan_out.load(key, row),
            row_codecs.GROUP_STATES: lambda _, key, row: self.groups.load(key, row),
            row_codecs.SEAT_BUDGETS: lambda _, key, row: self.products.load(key, row),
            row_codecs.ADDRESS_CLAIMS: self.addresses.load,
            row_codecs.CLAIMS: self.addresses.load,
            row_codecs.OWNER_CHANGES: self.addresses.load,
        }
        self._format = formats.FIRST_FORMAT  # of the rows that were loaded

    def load(self, table: str, key: str, row: Any) -> None:
        """Takes one restored row; the format row comes first, the order of others does not matter.

        Raises:
            NewerFormatError: a later release has written the rows.
        """
        self._loaders[table](table, key, row)

    def _load_format(self, _table: str, _key: str, row: int) -> None:
        formats.check_row_format(row)
        self._format = row

    def freeze_configuration(self) -> None:
        """Completes products and groups when all rows but users' are loaded.

        Users' rows are then taken over one by one, instead of being kept until the start.
        """
        if not self._prepared:
            self._prepared = True
            self.configuration.start()
            self.users.fan_out.freeze_configuration()
            self.users.restore.prepare()

    def start(self) -> None:
        """Builds the indexes when all rows are loaded, and queues what is to be reported again."""
        self.freeze_configuration()
        if self._format < formats.ROW_FORMAT:
            self.users.allocator.report_all()
        self.users.start()
        self.products.start()
        self.addresses.start()
        if self._format < formats.ROW_FORMAT:
            self._format = formats.ROW_FORMAT
            self.effects.rows[FORMAT_TABLE, FORMAT_KEY] = formats.ROW_FORMAT

    def handle(self, topic: str, batch: Batch) -> BatchResult:
        """Applies a batch of one topic (short name); events of internal topics are decoded JSON."""
        return BatchResult(self._handlers[topic](batch) or ())

    def _configure(self, batch: Batch) -> None:
        for message, _, _, _ in batch:
            decoded = message_codecs.decode_configuration(message)
            self.users.configured(decoded)
            if decoded.kind == fan_out.PRODUCT:
                self.groups.product_defined()
                self.products.product_defined(row_codecs.product_key(decoded.row))

    def run_background(self, limit: int) -> bool:
        """Evaluates up to ``limit`` users of the fan-outs, and tells as many who owns an address.

        Returns True while there are more.
        """
        self.addresses.notify(limit)
        return self.users.run_background(limit) or self.addresses.has_unnotified

    @property
    def has_background_work(self) -> bool:
        """True while a fan-out has users left to evaluate, or an address users to be told."""
        return self.users.fan_out.has_scans or self.addresses.has_unnotified

    @property
    def is_backpressured(self) -> bool:
        """True while so many users are in flight that more user events should wait."""
        return len(self.users.allocator.in_flight) > IN_FLIGHT_LIMIT

    @property
    def has_unreported_changes(self) -> bool:
        """True if :meth:`flush` has something to send."""
        return bool(
            self.work.groups_to_report
            or self.work.unreported_leases
            or self.products.pending_publication
            or self.groups.pending_publication
        )

    def flush(self) -> None:
        """Sends the reports and counters that are coalesced; to be called a few times a second."""
        self.users.flush()
        self.products.flush()
        self.groups.flush()

    def drain_effects(self) -> Effects:
        """Returns the effects since the last call."""
        drained = Effects()
        drained.rows, drained.records = self.effects.rows, self.effects.records
        self.effects.rows, self.effects.records = {}, []
        return drained

    @property
    def counters(self) -> dict[str, int]:
        """The counts of the metrics, since this partition was opened here."""
        users = self.users
        return {
            "evaluations": users.evaluator.evaluations,
            "memo_hits": users.evaluator.hits,
            "published": users.applier.published,
            "ignored_memberships": users.ignored,
            "duplicates": users.duplicates
            + self.groups.duplicates
            + self.products.duplicates
            + self.catalog.duplicates,
        }
