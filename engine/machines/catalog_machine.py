"""The catalog machine: product definitions and tenant settings, sent on to every partition."""

from __future__ import annotations

from typing import Any, Final

from engine.domain.deduplication import check_and_add
from engine.domain.effects import Effects
from engine.domain.events import ABSENT, CODES, Delivered, ProductDefined, TenantUpdated
from engine.state.configuration import Configuration
from engine.state.message_codecs import CONFIGURATION, ConfigurationMessage, encode_configuration
from engine.state.row_codecs import (
    CATALOG_EVENTS,
    TENANT_SETTINGS,
    TenantSettingsRow,
    decode_fingerprints,
    decode_tenant_settings,
    encode_fingerprints,
    encode_product,
    encode_tenant,
    encode_tenant_settings,
    with_optional,
)

NEW_TENANT: Final = TenantSettingsRow(None, True, True, b"")


class CatalogMachine:
    """Keeps of each product and tenant only which events were applied, and a tenant's settings."""

    def __init__(self, configuration: Configuration, effects: Effects) -> None:
        self.configuration = configuration
        self.effects = effects
        self.seen_fingerprints: dict[str, bytes] = {}
        self.tenants: dict[str, TenantSettingsRow] = {}
        self.duplicates = 0

    def load(self, table: str, key: str, row: Any) -> None:
        """Takes one restored row."""
        if table == CATALOG_EVENTS:
            self.seen_fingerprints[key] = decode_fingerprints(row)
        else:
            self.tenants[key] = decode_tenant_settings(row)

    def products(self, batch: list[Delivered]) -> list[int]:
        """Applies a batch of ``catalog``; returns the offsets that belong elsewhere."""
        misrouted: list[int] = []
        for event, timestamp_ms, offset, source in batch:
            assert isinstance(event, ProductDefined)
            if event.sku not in self.seen_fingerprints and not self.configuration.owns(event.sku):
                misrouted.append(offset)
                continue
            seen = check_and_add(
                self.seen_fingerprints.get(event.sku, b""), CODES[ProductDefined], event.id, source
            )
            if seen is None:
                self.duplicates += 1
                continue
            self.seen_fingerprints[event.sku] = seen
            self.effects.rows[CATALOG_EVENTS, event.sku] = encode_fingerprints(seen)
            row = encode_product(event.sku, event.part_number, event.display_name, event.plans)
            self._send(
                event.sku, ConfigurationMessage("product", "", "", row, timestamp_ms, event.id)
            )
        return misrouted

    def tenant_settings(self, batch: list[Delivered]) -> list[int]:
        """Applies a batch of ``tenants``; returns the offsets that belong elsewhere."""
        misrouted: list[int] = []
        for event, timestamp_ms, offset, source in batch:
            assert isinstance(event, TenantUpdated)
            known = event.tenant in self.tenants
            if not known and not self.configuration.owns(event.tenant):
                misrouted.append(offset)
                continue
            location, automatic, convert, seen, facts = self.tenants.get(event.tenant, NEW_TENANT)
            remembered = check_and_add(seen, CODES[TenantUpdated], event.id, source)
            if remembered is None:
                self.duplicates += 1
                continue
            if event.usage_location is not ABSENT:
                location = event.usage_location  # type: ignore[assignment]
            if event.seat_retry is not ABSENT:
                automatic = event.seat_retry == "automatic"
            if event.on_group_deletion is not ABSENT:
                convert = event.on_group_deletion == "convert"
            if event.initial_domain is not ABSENT:
                facts = with_optional(facts, "initialDomain", event.initial_domain)
            settings = TenantSettingsRow(location, automatic, convert, remembered, facts)
            self.tenants[event.tenant] = settings
            self.effects.rows[TENANT_SETTINGS, event.tenant] = encode_tenant_settings(settings)
            row = encode_tenant(location, automatic, convert, facts)
            self._send(
                event.tenant,
                ConfigurationMessage("tenant", event.tenant, "", row, timestamp_ms, event.id),
            )
        return misrouted

    def _send(self, key: str, message: ConfigurationMessage) -> None:
        encoded = encode_configuration(message)
        for p in range(self.configuration.partitions):
            self.effects.emit(CONFIGURATION, key, encoded, p)
