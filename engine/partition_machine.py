"""One partition: five machines over one configuration, one set of rows, one stream of effects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from engine.domain.effects import Effects
from engine.domain.events import Delivered
from engine.domain.partitioner import partition_of
from engine.machines import fan_out
from engine.machines.address_machine import AddressMachine
from engine.machines.catalog_machine import CatalogueMachine
from engine.machines.group_machine import GroupMachine
from engine.machines.product_machine import ProductMachine
from engine.machines.user_machine import UserMachine
from engine.state import formats, message_codecs, row_codecs
from engine.state.configuration import Configuration
from engine.state.formats import FORMAT_KEY, FORMAT_TABLE

Batch = Sequence[Delivered]
CROWD = 1000


class PartitionMachine:
    """The deterministic machine whose log is its lock (architecture).

    Life: ``load`` every row (``prepare`` before users' rows saves memory), ``start``, then
    ``handle`` batches in the order of each topic's log,
    ``work`` off fan-outs between them, and ``take`` the effects of a transaction.
    """

    def __init__(self, number: int, partitions: int) -> None:
        self.effects = Effects()
        where = lru_cache(maxsize=65536)(lambda key: partition_of(key, partitions))
        self.configuration = Configuration(number, partitions, where)
        self.users = UserMachine(self.configuration, self.effects)
        self.groups = GroupMachine(self.configuration, self.effects)
        self.products = ProductMachine(self.configuration, self.effects, partitions)
        self.addresses = AddressMachine(self.effects)
        self.catalogue = CatalogueMachine(self.configuration, self.effects)
        self._handlers: dict[str, Callable[[Any], None]] = {
            "user-changes": self.users.changes,
            "group-changes": self.groups.changes,
            "catalog": self.catalogue.products,
            "tenants": self.catalogue.tenant_settings,
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
            row_codecs.CATALOG_EVENTS: self.catalogue.load,
            row_codecs.TENANT_SETTINGS: self.catalogue.load,
            row_codecs.USERS: self.users.restore.load,
            row_codecs.PLAN_SETS: self.users.restore.load,
            row_codecs.LEASES: lambda _, key, row: self.users.seating.load(key, row),
            row_codecs.JOBS: lambda _, key, row: self.users.fanout.load(key, row),
            row_codecs.GROUP_STATES: lambda _, key, row: self.groups.load(key, row),
            row_codecs.SEAT_BUDGETS: lambda _, key, row: self.products.load(key, row),
            row_codecs.ADDRESS_CLAIMS: lambda _, key, row: self.addresses.load(key, row),
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

    def prepare(self) -> None:
        """All rows but users' are loaded: from here on these need not be kept until the start."""
        if not self._prepared:
            self._prepared = True
            self.configuration.start()
            self.users.restore.prepare()

    def start(self) -> None:
        """All rows are loaded: builds the indexes, and queues what is to be reported again."""
        self.prepare()
        self.users.start()
        self.products.start()
        if self._format < formats.ROW_FORMAT:
            self._format = formats.ROW_FORMAT
            self.effects.rows[FORMAT_TABLE, FORMAT_KEY] = formats.ROW_FORMAT

    def handle(self, topic: str, batch: Batch) -> None:
        """A batch of one topic (short name); internal topics carry decoded JSON as events."""
        self.configuration.misplaced.clear()
        self._handlers[topic](batch)

    @property
    def misplaced(self) -> list[int]:
        """Offsets of the last batch whose keys belong to another partition: not applied."""
        return self.configuration.misplaced

    def _configure(self, batch: Batch) -> None:
        for message, _, _, _ in batch:
            decoded = message_codecs.decode_configuration(message)
            self.users.configured(decoded)
            if decoded.kind == fan_out.PRODUCT:
                self.groups.product_defined()
                self.products.product_defined(row_codecs.product_key(decoded.row))

    def work(self, limit: int) -> bool:
        """A slice of pending fan-outs, at most ``limit`` users; True while there is more."""
        return self.users.work(limit)

    @property
    def working(self) -> bool:
        return self.users.fanout.pending

    @property
    def crowded(self) -> bool:
        """Whether so many users are in flight that more are better taken in later."""
        return len(self.users.seating.flying) > CROWD

    @property
    def unreported(self) -> bool:
        """Whether :meth:`flush` has something to send."""
        users = self.users
        return bool(
            users.applier.unreported
            or users.seating.untold
            or self.products.unpublished
            or self.groups.unpublished
        )

    def flush(self) -> None:
        """Reports and counters that are coalesced: to be called a few times a second."""
        self.users.flush()
        self.products.flush()
        self.groups.flush()

    def take(self) -> Effects:
        """The effects since the last call."""
        taken = Effects()
        taken.rows, taken.records = self.effects.rows, self.effects.records
        self.effects.rows, self.effects.records = {}, []
        return taken

    @property
    def counters(self) -> dict[str, int]:
        """What the metrics count, since this partition was opened here."""
        users = self.users
        return {
            "evaluations": users.evaluator.evaluations,
            "memo_hits": users.evaluator.hits,
            "published": users.applier.published,
            "ignored_memberships": users.ignored,
            "duplicates": users.duplicates
            + self.groups.duplicates
            + self.products.duplicates
            + self.catalogue.duplicates,
        }
