"""Feeds: rows become records or problems; publishing keeps each key's order."""

import json
import tracemalloc
from collections import defaultdict
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from aiokafka.partitioner import murmur2
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from streams.bench.workload import bench_configuration, bench_demand, bench_onboarding
from streams.ingest import (
    FeedError,
    FeedItem,
    FeedProblem,
    events_from_catalog,
    events_from_jsonl,
    partition_of,
    publish,
)
from tests.support.kafka import Kafka, create_topics, read_topic

SHARED = Path(__file__).resolve().parents[4] / "shared"
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="no shared data beside the checkout")
quiet = Console(file=StringIO())


def event(kind: str, **members: Any) -> dict[str, Any]:
    return {"type": kind, "id": "e1", "time": "2026-11-24T08:00:00Z", **members}


def written(path: Path, *lines: Any) -> Path:
    rows = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    path.write_bytes(b"\n".join(rows) + b"\n")
    return path


def items(path: Path) -> list[FeedItem | FeedProblem]:
    return list(events_from_jsonl(path))


def problems(path: Path) -> list[tuple[int, str]]:
    return [(each.line, each.reason) for each in items(path) if isinstance(each, FeedProblem)]


# --- JSON Lines -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "topic", "key"),
    [
        (event("user.upserted", tenant="t", user="u"), "user-changes", b"t/u"),
        (event("user.deleted", tenant="t", user="u"), "user-changes", b"t/u"),
        (event("membership.added", tenant="t", user="u", group="g"), "user-changes", b"t/u"),
        (event("membership.removed", tenant="t", user="u", group="g"), "user-changes", b"t/u"),
        (event("user.reprocess", tenant="t", user="u"), "user-changes", b"t/u"),
        (event("licenses.changed", tenant="t", user="u"), "user-changes", b"t/u"),
        (event("licenses.changed", tenant="t", group="g"), "group-changes", b"t/g"),
        (event("group.upserted", tenant="t", group="g"), "group-changes", b"t/g"),
        (event("group.deleted", tenant="t", group="g"), "group-changes", b"t/g"),
        (event("group.reprocess", tenant="t", group="g"), "group-changes", b"t/g"),
        (event("product.defined", skuId="s", servicePlans=[]), "catalog", b"s"),
        (
            event("subscription.updated", tenant="t", skuId="s", prepaidUnits={"enabled": 1}),
            "subscriptions",
            b"t/s",
        ),
        (event("tenant.updated", tenant="t"), "tenants", b"t"),
    ],
)
def test_topic_and_key_follow_from_the_event(
    tmp_path: Path, body: dict[str, Any], topic: str, key: bytes
) -> None:
    expected = FeedItem(topic, key, json.dumps(body).encode())
    assert items(written(tmp_path / "f", body)) == [expected]


def test_a_structured_cloud_event_finds_its_topic(tmp_path: Path) -> None:
    data = {"tenant": "t", "group": "g"}
    body = {"specversion": "1.0", "source": "/hr", "type": "group.deleted", "id": "1", "data": data}
    [item] = items(written(tmp_path / "f", body))
    assert isinstance(item, FeedItem)
    assert (item.topic, item.key) == ("group-changes", b"t/g")


def test_bad_rows_are_told_with_their_line_and_the_rest_goes_on(tmp_path: Path) -> None:
    good = event("user.deleted", tenant="t", user="u")
    path = written(
        tmp_path / "f",
        b"not json",
        good,
        b"[1]",
        event("user.exploded", tenant="t", user="u"),
        event("membership.added", tenant="t", user="u"),
        event("user.deleted", tenant="t"),
        event("user.deleted", tenant="t", user="no spaces"),
        event("licenses.changed", tenant="t"),
        event("licenses.changed", tenant="t", user="u", group="g"),
        event("user.deleted", tenant="t", user="\ud800"),
        {"id": "e1"},
        good,
    )
    found = items(path)
    assert [type(each) is FeedItem for each in found] == [line in (2, 12) for line in range(1, 13)]
    told = dict(problems(path))
    assert list(told) == [1, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    for line, word in {
        1: "JSON",
        3: "object",
        4: "user.exploded",
        5: "group",
        6: "user",
        7: "no spaces",
        8: "neither",
        9: "both",
        11: "type",
    }.items():
        assert word in told[line]
        assert "\n" not in told[line]
    assert str(found[0]).startswith(f"{path}:1: ")


def test_blank_lines_line_ends_and_a_byte_order_mark_are_no_matter(tmp_path: Path) -> None:
    row = json.dumps(event("user.deleted", tenant="t", user="u")).encode()
    path = tmp_path / "f"
    path.write_bytes(b"\xef\xbb\xbf" + row + b"\r\n\r\n  \n" + row)
    expected = FeedItem("user-changes", b"t/u", row)
    assert items(path) == [expected, expected]


def test_an_endless_line_is_a_problem_not_a_memory_one(tmp_path: Path) -> None:
    good = json.dumps(event("user.deleted", tenant="t", user="u")).encode()
    path = tmp_path / "f"
    with path.open("wb") as file:
        file.write(good + b"\n")
        for _ in range(40):
            file.write(b"x" * (1 << 20))
        file.write(b"\n" + good + b"\n")
    tracemalloc.start()
    found = items(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [type(each) for each in found] == [FeedItem, FeedProblem, FeedItem]
    assert problems(path)[0][0] == 2
    assert peak < 12 << 20


def test_a_long_file_is_read_in_constant_memory_and_tells_how_far_it_is(tmp_path: Path) -> None:
    path = tmp_path / "f"
    with path.open("wb") as file:
        for _, _, value in bench_onboarding(30_000):
            file.write(value + b"\n")
    tracemalloc.start()
    feed = events_from_jsonl(path)
    count = sum(isinstance(each, FeedItem) for each in feed)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 90_000
    assert feed.total_bytes == feed.done_bytes == path.stat().st_size > 12 << 20
    assert peak < 8 << 20


@given(st.lists(st.binary(max_size=40)))
def test_whatever_a_line_holds_it_is_an_item_or_a_problem(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
) -> None:
    path = written(tmp_path_factory.mktemp("f") / "f", b"{}", *lines)
    for each in items(path):
        assert isinstance(each, (FeedItem, FeedProblem))


def test_a_missing_file_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(FeedError, match="No such file"):
        events_from_jsonl(tmp_path / "none")
    with pytest.raises(FeedError, match="No such file"):
        events_from_catalog(tmp_path / "none")


# --- Microsoft's table ----------------------------------------------------------------------

HEADER = (
    "Product_Display_Name,String_Id,GUID,Service_Plan_Name,Service_Plan_Id,"
    "Service_Plans_Included_Friendly_Names"
)
EXCHANGE = "efb87545-963c-4e0d-99df-69c6916d9eb0"


def defined(path: Path) -> list[dict[str, Any]]:
    """The products that a table defines, with the facts of the sample catalog."""
    found = events_from_catalog(path, facts="2022")
    return [json.loads(each.value) for each in found if type(each) is FeedItem]


@needs_shared
def test_the_real_table_gives_the_shared_catalogue() -> None:
    def said(event: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in event.items() if name not in ("id", "time")}

    table = SHARED / "data" / "microsoft-products-2025-12.csv"
    found = list(events_from_catalog(table, facts="2022"))
    assert [each for each in found if isinstance(each, FeedProblem)] == []
    events = [json.loads(each.value) for each in found if isinstance(each, FeedItem)]
    lines = (SHARED / "data" / "catalogue.jsonl").read_text().splitlines()
    assert [said(event) for event in events] == [said(json.loads(line)) for line in lines]
    assert len({event["id"] for event in events}) == len(events) == 569
    plans = {plan["servicePlanId"] for event in events for plan in event["servicePlans"]}
    assert len(plans) == 723


@needs_shared
def test_the_shared_catalogue_can_be_fed() -> None:
    assert problems(SHARED / "data" / "catalogue.jsonl") == []


def test_feeding_a_table_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"{HEADER}\nSuite,SUITE,s1,EXCHANGE,{EXCHANGE},Exchange\n")
    again = tmp_path / "copy.csv"
    again.write_bytes(path.read_bytes())
    assert list(events_from_catalog(path)) == list(events_from_catalog(again))
    path.write_text(path.read_text() + "Suite,SUITE,s1,OTHER,p2,Other\n")
    assert defined(path)[0]["id"] != defined(again)[0]["id"]


@pytest.mark.parametrize(
    "data",
    [
        f"\ufeff{HEADER}\r\n Caf\u00e9 ,SUITE\u00a0,S1,EXCHANGE , {EXCHANGE},x\r\n".encode(),
        f"???{HEADER}\nCaf\u00e9,SUITE,s1,EXCHANGE,{EXCHANGE.upper()},x\n".encode(),
        f"{HEADER}\nCaf\u00e9,SUITE,s1,EXCHANGE,{EXCHANGE},x\n\n,,,,,\n".encode("cp1252"),
        f'{HEADER}\n"Caf\u00e9",SUITE,s1,EXCHANGE,{EXCHANGE},"x, y"\n'.encode(),
        (
            f"{HEADER.lower()},More\nCaf\u00e9,SUITE,s1,EXCHANGE (old name),{EXCHANGE},x,y\n"
            f"Caf\u00e9,SUITE,s1,EXCHANGE,{EXCHANGE},x,y\n"
        ).encode(),
    ],
)
def test_habits_of_the_published_tables_are_read(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(data)
    [event] = defined(path)
    assert (event["skuId"], event["skuPartNumber"]) == ("s1", "SUITE")
    assert event["displayName"] == "Caf\u00e9"
    [plan] = event["servicePlans"]
    assert plan == {
        "servicePlanId": EXCHANGE,
        "servicePlanName": "EXCHANGE",
        "exclusiveSets": ["Exchange Online"],
        "mailEnabled": True,
    }


def test_bad_rows_of_a_table_are_told(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"{HEADER}\nSuite,SUITE,s1\nSuite,SUITE,,A,p1,x\nSuite,SUITE,s1,A,p1,x\n")
    found = list(events_from_catalog(path))
    told = [each for each in found if isinstance(each, FeedProblem)]
    assert [each.line for each in told] == [2, 3]
    assert "GUID is empty" in told[1].reason
    assert [event["skuId"] for event in defined(path)] == ["s1"]


def test_another_file_is_not_taken_for_the_table(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("Name,UPN\nAnn,ann@contoso.example\n")
    with pytest.raises(FeedError, match="first line must name the columns"):
        events_from_catalog(path)


# --- Publishing -----------------------------------------------------------------------------

GOOD = FeedItem("tenants", b"t", b'{"type":"tenant.updated","id":"e1","tenant":"t"}')
BAD = FeedProblem("f", 2, "broken")


@given(st.binary(max_size=400), st.integers(1, 128))
def test_keys_land_where_kafka_puts_them(key: bytes, partitions: int) -> None:
    assert partition_of(key, partitions) == (murmur2(key) & 0x7FFFFFFF) % partitions


async def test_a_dry_run_prints_what_would_be_sent() -> None:
    console = Console(file=StringIO(), width=40)
    result = await publish([GOOD, BAD, GOOD], "nowhere:1", "p.", dry_run=True, console=console)
    assert isinstance(console.file, StringIO)
    lines = console.file.getvalue().splitlines()
    assert lines == ["\t".join(("tenants", "t", GOOD.value.decode()))] * 2
    assert (result.events, result.bad_rows, result.problems) == (2, 1, [BAD])
    assert result.topics == {"tenants": 2}


async def test_strict_stops_at_the_first_bad_row() -> None:
    told: list[FeedProblem] = []
    result = await publish(
        [GOOD, BAD, GOOD],
        "nowhere:1",
        "p.",
        dry_run=True,
        strict=True,
        console=quiet,
        on_problem=told.append,
    )
    assert (result.events, result.stopped_at, told) == (1, BAD, [BAD])


async def test_without_a_broker_the_message_says_what_to_do() -> None:
    with pytest.raises(FeedError, match="seatflow broker"):
        await publish([GOOD], "127.0.0.1:1", "p.", console=quiet)


async def test_without_topics_the_message_says_what_to_do(kafka: Kafka, topic_prefix: str) -> None:
    with pytest.raises(FeedError, match="seatflow topics create"):
        await publish([GOOD], kafka.bootstrap, topic_prefix, console=quiet)


async def test_all_arrives_once_on_kafkas_partitions_in_the_order_of_each_key(
    kafka: Kafka, topic_prefix: str, tmp_path: Path
) -> None:
    names = ("user-changes", "group-changes", "catalog", "subscriptions", "tenants")
    await create_topics(kafka.bootstrap, *(topic_prefix + name for name in names), partitions=4)
    records = [*bench_configuration(bench_demand(3_000)), *bench_onboarding(3_000)]
    path = written(tmp_path / "f", *(value for _, _, value in _mixed(records)), b"broken")

    result = await publish(events_from_jsonl(path), kafka.bootstrap, topic_prefix, console=quiet)

    assert (result.events, result.bad_rows) == (len(records), 1)
    for name in names:
        sent: dict[bytes, list[bytes]] = defaultdict(list)
        for topic, key, value in records:
            if topic == name:
                sent[key].append(value)
        read: dict[bytes, list[bytes]] = defaultdict(list)
        for record in await read_topic(kafka.bootstrap, topic_prefix + name):
            assert record.key is not None
            assert record.value is not None
            assert record.partition == partition_of(record.key, 4)
            read[record.key].append(record.value)
        assert read == sent
        assert result.topics[name] == sum(map(len, sent.values()))


def _mixed(records: list[tuple[str, bytes, bytes]]) -> Iterator[tuple[str, bytes, bytes]]:
    """Topics in turns as far as they reach, each in its own order."""
    users = iter([record for record in records if record[0] == "user-changes"])
    for record in records:
        if record[0] != "user-changes":
            yield record
            yield next(users)
    yield from users
