"""The page of persisted formats, made of the codecs."""

from __future__ import annotations

import inspect
from typing import Any

from engine.domain.events import CODES
from engine.state import (
    address_message_codecs,
    formats,
    message_codecs,
    row_codecs,
    seat_row_codecs,
    user_row_codecs,
)

HEAD = """# Formats of state and messages

Workers write two things for other workers: the rows of the changelog, and the messages between
partitions. Both stay readable for later releases, and a release refuses what a later one has
written ([guarantee 7](spec/contract.md)).

| | format that this release writes | reads |
|---|---|---|
| rows of the changelog | {rows} | 1 to {rows} |
| messages of `internal.*` topics | {messages} | 1 to {messages} |

- The format of a changelog is in its row `format|rows`: the highest format of any of its rows. A
  changelog without that row has format 1, and a worker writes the row in the first transaction of a
  partition whose format is lower than its own. Release 0.1 does not know the row and ends with an
  error where it meets it.
- The format of a message is its member `format`, that of its own layout; 1 if it is missing. Only
  the messages about addresses have a layout of format 2, with many entries. It is written to
  partitions that are known to read it, as their own messages say; so a rolling upgrade from a
  release that does not read it goes on without it, and needs no step of its own.
- A worker that finds a higher format ends with exit code 78 and one line that says what it found,
  what it reads, and that a later release has to run. Nothing is written.

## Raising a format

The checklist is at the constants in `engine/state/formats.py`. In short: the decoder goes on
reading every earlier layout, rows of the format left behind become golden data in
`tests/golden/rows/`, and the change log says that the upgrade goes one way.

## Rows

The key of a record is `table|key`; its value is JSON without names, with the fields in this order.
Two more rows have for each topic an offset: `applied|offsets` that of the next record to apply,
`attempted|offsets` what it was when the partition was last opened with a backlog.
Fingerprints (R24) and order keys (R8) are hexadecimal text. The field `optional_facts`, since
format 2, is a JSON object whose members are written only where they differ from their default; the
field is left out where there are none.

"""
ROWS: dict[str, type[Any]] = {
    row_codecs.PRODUCTS: row_codecs.ProductRow,
    "one of its service plans": row_codecs.ServicePlanRow,
    row_codecs.TENANTS: row_codecs.TenantRow,
    row_codecs.GROUPS: row_codecs.GroupRow,
    row_codecs.TENANT_SETTINGS: row_codecs.TenantSettingsRow,
    row_codecs.PLAN_SETS: row_codecs.PlanSetRow,
    row_codecs.LEASES: seat_row_codecs.LeaseRow,
    row_codecs.JOBS: row_codecs.JobRow,
    row_codecs.GROUP_STATES: row_codecs.GroupStateRow,
    row_codecs.SEAT_BUDGETS: seat_row_codecs.SeatBudgetRow,
    "one of its partition leases": seat_row_codecs.PartitionLeaseRow,
    row_codecs.ADDRESS_CLAIMS: row_codecs.AddressClaimRow,
    row_codecs.CLAIMS: row_codecs.ClaimRow,
    row_codecs.USERS: user_row_codecs.UserRow,
    "one of its entries": user_row_codecs.EntryRow,
    "its pending work": user_row_codecs.PendingWorkRow,
    "its seat request": user_row_codecs.SeatRequestRow,
}
MESSAGES: dict[str, type[Any]] = {
    message_codecs.CONFIGURATION: message_codecs.ConfigurationMessage,
    message_codecs.SEAT_REQUESTS: message_codecs.SeatRequestMessage,
    message_codecs.SEAT_GRANTS: message_codecs.SeatGrantMessage,
    message_codecs.GROUP_REPORTS: message_codecs.GroupReportMessage,
    message_codecs.ADDRESS_CLAIMS: message_codecs.AddressClaimMessage,
    message_codecs.ADDRESS_VERDICTS: message_codecs.AddressVerdictMessage,
}


ENTRIES: dict[str, type[Any]] = {
    message_codecs.ADDRESS_CLAIMS: address_message_codecs.ClaimEntryFields,
    message_codecs.ADDRESS_VERDICTS: address_message_codecs.VerdictEntryFields,
}
"""Of messages of format 2: the arrays in them."""


def formats_page() -> str:
    """Returns the page: formats, tables with their fields in order, messages, event codes."""
    text = HEAD.format(rows=formats.ROW_FORMAT, messages=formats.MESSAGE_FORMAT)
    for name, kind in ROWS.items():
        title = name if " " in name else f"`{name}`"
        text += f"### {title}\n\n{_fields(kind)}"
    text += f"### `{row_codecs.CATALOG_EVENTS}`\n\n"
    text += "Key skuId: the fingerprints of the product's applied events, as one text.\n\n"
    text += "## Messages\n\nEach has the member `format`, too: that of its layout.\n\n"
    for topic, kind in MESSAGES.items():
        text += f"### `{topic}`\n\n{_meaning(kind)}\n\n| member | field |\n|---|---|\n"
        pairs = zip(message_codecs.MEMBERS[topic], kind._fields, strict=True)
        text += "".join(f"| `{member}` | `{field}` |\n" for member, field in pairs) + "\n"
        if entry := ENTRIES.get(topic):
            text += f"In format 2 it has many entries, each an array. {_fields(entry)}"
    text += "## Codes of events\n\nThey are part of fingerprints and of deferred events.\n\n"
    text += "| event | code |\n|---|---|\n"
    return text + "".join(f"| {kind.__name__} | `{code}` |\n" for kind, code in CODES.items())


def _fields(kind: type[Any]) -> str:
    rows = "".join(f"| {n} | `{field}` |\n" for n, field in enumerate(kind._fields))
    return f"{_meaning(kind)}\n\n| field | name |\n|---|---|\n{rows}\n"


def _meaning(kind: type[Any]) -> str:
    """Returns the class's docstring without the markup of Sphinx."""
    text = inspect.getdoc(kind) or ""
    return text.replace(":class:`", "`").replace("``", "`")
