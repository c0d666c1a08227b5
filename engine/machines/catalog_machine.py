"""The catalogue machine: product definitions and tenant settings, sent on to every partition."""

from __future__ import annotations

from typing import Any

from engine.domain.deduplication import remember
from engine.domain.effects import Effects
from engine.domain.events import ABSENT, Delivered, ProductDefined, TenantUpdated
from engine.state.configuration import Configuration, product_row

PRODUCT_TABLE, TENANT_TABLE = "catalogue", "tenant-settings"


class CatalogueMachine:
    """Keeps of each product and tenant only which events were applied, and a tenant's settings."""

    def __init__(self, configuration: Configuration, effects: Effects) -> None:
        self.configuration = configuration
        self.effects = effects
        self.seen: dict[str, bytes] = {}
        self.tenants: dict[str, list[Any]] = {}
        self.duplicates = 0

    def load(self, table: str, key: str, row: Any) -> None:
        if table == PRODUCT_TABLE:
            self.seen[key] = bytes.fromhex(row)
        else:
            self.tenants[key] = row

    def products(self, batch: list[Delivered]) -> None:
        for event, at, offset, source in batch:
            assert isinstance(event, ProductDefined)
            if event.sku not in self.seen and not self.configuration.mine(event.sku, offset):
                continue
            seen = remember(self.seen.get(event.sku, b""), "product", event.id, source)
            if seen is None:
                self.duplicates += 1
                continue
            self.seen[event.sku] = seen
            self.effects.rows[PRODUCT_TABLE, event.sku] = seen.hex()
            row = product_row(event.sku, event.part_number, event.display_name, event.plans)
            self._send(event.sku, {"kind": "product", "row": row, "at": at, "causedBy": event.id})

    def tenant_settings(self, batch: list[Delivered]) -> None:
        for event, at, offset, source in batch:
            assert isinstance(event, TenantUpdated)
            known = event.tenant in self.tenants
            if not known and not self.configuration.mine(event.tenant, offset):
                continue
            location, automatic, convert, seen = self.tenants.get(
                event.tenant, [None, True, True, ""]
            )
            remembered = remember(bytes.fromhex(seen), "tenant", event.id, source)
            if remembered is None:
                self.duplicates += 1
                continue
            if event.usage_location is not ABSENT:
                location = event.usage_location
            if event.seat_retry is not ABSENT:
                automatic = event.seat_retry == "automatic"
            if event.on_group_deletion is not ABSENT:
                convert = event.on_group_deletion == "convert"
            row = [location, automatic, convert, remembered.hex()]
            self.tenants[event.tenant] = row
            self.effects.rows[TENANT_TABLE, event.tenant] = row
            message = {"kind": "tenant", "tenant": event.tenant, "row": row[:3], "at": at}
            self._send(event.tenant, message | {"causedBy": event.id})

    def _send(self, key: str, message: dict[str, Any]) -> None:
        for p in range(self.configuration.partitions):
            self.effects.emit("internal.configuration", key, message, p)
