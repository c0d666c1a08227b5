"""Rows that earlier releases wrote are restored by this one, which writes the same rows again."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from engine.domain.effects import as_json
from engine.domain.events import CODES, Delivered
from engine.partition_machine import PartitionMachine
from engine.state import formats, message_codecs, row_codecs
from engine.state.formats import FORMAT_KEY, FORMAT_TABLE, NewerFormatError
from engine.state.user_mail import mail_facts

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "rows"
FILES = sorted(GOLDEN.glob("v*/*.jsonl"))
Rows = dict[tuple[str, str], Any]


def golden(path: Path) -> tuple[dict[str, int], Rows]:
    """Returns the description and the rows of a file."""
    first, *lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return first, {(table, key): row for table, key, row in lines if table != FORMAT_TABLE}


def format_of(path: Path) -> int:
    """Returns the format of the rows in a file."""
    return int(path.parent.name.removeprefix("v"))


def loaded(path: Path) -> tuple[PartitionMachine, Rows]:
    """Returns a machine that has loaded the rows, but is not started, and the rows."""
    first, rows = golden(path)
    machine = PartitionMachine(first["partition"], first["partitions"])
    if format_of(path) > formats.FIRST_FORMAT:
        machine.load(FORMAT_TABLE, FORMAT_KEY, format_of(path))
    places = list(rows)
    random.Random(7).shuffle(places)
    for table, key in places:
        machine.load(table, key, json.loads(json.dumps(rows[table, key])))
    return machine, rows


def rows_of_addresses(machine: PartitionMachine) -> Rows:
    """Returns the rows of the claims of addresses, as either format has them."""
    found: Rows = {}
    for key, claims in machine.addresses.claims.items():
        ordered = [claims] if isinstance(claims, tuple) else [claims.owner, *claims.others]
        if key in machine.addresses._in_one_row:  # as format 1 has them
            found[row_codecs.ADDRESS_CLAIMS, key] = row_codecs.encode_address_claims(ordered)
            continue
        tenant_id, address = key.split("/", 1)
        for n, claim in enumerate(ordered):
            place = row_codecs.CLAIMS, f"{tenant_id}/{claim.user}/{address}"
            found[place] = row_codecs.encode_claim(claim, n == 0)
    for key, change in machine.addresses._owner_changes.items():
        found[row_codecs.OWNER_CHANGES, key] = [*change]
    return found


def rows_of(machine: PartitionMachine) -> Rows:
    """Returns the state of a machine as it would be written."""
    found: Rows = {}
    configuration = machine.configuration
    for sku, product in configuration.products.items():
        plans = tuple(product.plans.values())
        row = row_codecs.encode_product(sku, product.part_number, product.name, plans)
        found[row_codecs.PRODUCTS, sku] = row
    for sku, seen in machine.catalog.seen_fingerprints.items():
        found[row_codecs.CATALOG_EVENTS, sku] = row_codecs.encode_fingerprints(seen)
    for id, settings in machine.catalog.tenants.items():
        found[row_codecs.TENANT_SETTINGS, id] = row_codecs.encode_tenant_settings(settings)
    for tenant in configuration.tenants.values():
        given = tenant.settings
        facts = {"initialDomain": given.initial_domain} if given.initial_domain else None
        row = row_codecs.encode_tenant(given.location, given.automatic, given.convert, facts)
        found[row_codecs.TENANTS, tenant.id] = row
        for id, group in tenant.groups.items():
            row = row_codecs.encode_group(group.version, group.licenses, group.deleted)
            found[row_codecs.GROUPS, f"{tenant.id}/{id}"] = row
        for sku, lease in tenant.leases.items():
            found[row_codecs.LEASES, f"{tenant.id}/{sku}"] = lease.row()
        for id, user in tenant.users.items():
            found[row_codecs.USERS, f"{tenant.id}/{id}"] = user.row(mail_facts(user))
    for key, job in machine.users.fan_out.jobs.items():
        found[row_codecs.JOBS, key] = job.row()
    for key, state in machine.groups.groups.items():
        found[row_codecs.GROUP_STATES, key] = state.row()
    for key, seats in machine.products.budgets.items():
        found[row_codecs.SEAT_BUDGETS, key] = seats.row()
    found.update(rows_of_addresses(machine))
    return {place: json.loads(as_json(row)) for place, row in found.items()}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_rows_are_restored_and_written_again(path: Path) -> None:
    machine, rows = loaded(path)
    machine.freeze_configuration()
    machine.users.restore.start()
    again = rows_of(machine)
    for place, row in rows.items():
        if place[0] != row_codecs.PLAN_SETS:  # written once, for the users' rows that name them
            if place[0] == row_codecs.USERS and format_of(path) == formats.FIRST_FORMAT:
                row[5] = None  # the assigned primary address of format 1 is computed now (R19)
            assert again[place] == row, place
    default = row_codecs.encode_tenant(None, True, True)
    for place in again.keys() - rows.keys():
        assert (place[0], again[place]) == (row_codecs.TENANTS, default), place


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_restored_partition_starts_and_works(path: Path) -> None:
    machine, rows = loaded(path)
    machine.start()
    while machine.run_background(100):
        pass
    machine.flush()
    written = machine.drain_effects().rows.get((FORMAT_TABLE, FORMAT_KEY))
    assert written == (None if format_of(path) == formats.ROW_FORMAT else formats.ROW_FORMAT)
    assert {key for table, key in rows if table == row_codecs.USERS} == {
        f"{tenant.id}/{id}"
        for tenant in machine.configuration.tenants.values()
        for id in tenant.users
    }


def test_the_golden_rows_have_every_table_and_every_optional_part() -> None:
    rows = [(table, row) for path in FILES for (table, _), row in golden(path)[1].items()]
    assert {table for table, _ in rows} == {
        "products", "tenants", "groups", "catalogue", "tenant-settings", "users", "plans",
        "leases", "jobs", "group-state", "seats", "addresses", "claims", "owner-changes",
    }  # fmt: skip
    pending = [row[14] for table, row in rows if table == "users" and row[14]]
    for part in range(9):
        assert any(work[part] for work in pending), part
    assert {event[0] for work in pending for event in work[3]} <= set(CODES.values())
    assert any(row[4] for table, row in rows if table == "group-state")
    assert any(row[8] for table, row in rows if table == "jobs")
    assert any(row[4] and row[5] for table, row in rows if table == "seats")


def test_the_golden_rows_of_format_2_have_every_optional_fact() -> None:
    found: dict[str, set[str]] = {}
    for path in FILES:
        for (table, _), row in golden(path)[1].items() if format_of(path) == 2 else ():
            if isinstance(row, list) and row and isinstance(row[-1], dict):
                found.setdefault(table, set()).update(row[-1])
    assert found["users"] == {
        "adoption", "derivedClaims", "effectiveUsageLocation", "mailNickname", "publishedNickname",
        "recycleBin", "restoration", "routingAddress", "ungivenClaims",
    }  # fmt: skip
    assert {"adopted", "off"} <= found["leases"]
    assert found["tenants"] == found["tenant-settings"] == {"initialDomain"}
    assert "deleted" in found["seats"]
    assert "baseLocation" in found["jobs"]


# -- formats
def test_a_later_format_of_rows_is_refused() -> None:
    machine = PartitionMachine(0, 1)
    later = formats.ROW_FORMAT + 1
    with pytest.raises(NewerFormatError, match=f"rows of format {later}, and this release reads"):
        machine.load(FORMAT_TABLE, FORMAT_KEY, later)


@pytest.mark.parametrize(
    "topic",
    [
        "internal.configuration", "internal.seat-requests", "internal.seat-grants",
        "internal.group-reports", "internal.address-claims", "internal.address-verdicts",
    ],
)  # fmt: skip
def test_a_later_format_of_a_message_is_refused(topic: str) -> None:
    machine = PartitionMachine(0, 1)
    machine.start()
    later = formats.MESSAGE_FORMAT + 1
    message = {"format": later}
    with pytest.raises(NewerFormatError, match=rf"{topic} holds a message of format {later}"):
        machine.handle(topic, [Delivered(message, 0, 0)])


def test_the_format_row_is_written_where_it_is_lower(monkeypatch: pytest.MonkeyPatch) -> None:
    for found, wanted in ((None, 3), (1, 3), (2, 3), (3, None)):
        monkeypatch.setattr(formats, "ROW_FORMAT", 3)
        machine = PartitionMachine(0, 1)
        if found is not None:
            machine.load(FORMAT_TABLE, FORMAT_KEY, found)
        machine.start()
        assert machine.drain_effects().rows.get((FORMAT_TABLE, FORMAT_KEY)) == wanted


def test_messages_have_a_format_and_a_missing_one_is_the_first() -> None:
    verdict = message_codecs.AddressVerdictMessage("t", "smtp:a", "ann", "bob", 3, 5, "e")
    message = message_codecs.encode_address_verdict(verdict)
    assert message.pop("format") == formats.FIRST_FORMAT  # earlier releases read it
    assert message_codecs.decode_address_verdict(message) == verdict
