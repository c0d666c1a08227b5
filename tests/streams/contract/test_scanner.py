"""The compiled short cut reads users' events as the plain reader does, or leaves them to it."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.domain import events as ev
from streams.bench.workload import bench_onboarding
from streams.contract.decoder import DECODERS, Headers, Rejected
from tests.support.contract_samples import ADDED, REMOVED, USER, USER_DELETED

DECODER = DECODERS["user-changes"]
pytestmark = pytest.mark.skipif(
    DECODER.scanner is None, reason="the short cut is there compiled only: make compile"
)


class Record(NamedTuple):
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    offset: int = 7
    timestamp: int = 1_800_000_000_123


def scanned(record: Record) -> Any:
    """Returns the event that the fast path reads; None if it leaves the record to the decoder."""
    batch: list[ev.Delivered] = []
    left: list[Record] = []
    DECODER.scanner.read_all([record], batch, left.append)
    assert len(batch) + len(left) == 1
    return batch[0] if batch else None


def assert_alike(record: Record) -> None:
    found = scanned(record)
    if found is not None:
        plain = DECODER(record.key, record.value, record.headers)
        assert not isinstance(plain, Rejected), plain
        assert found == ev.Delivered(plain[0], record.timestamp, record.offset, plain[1])
        assert type(found.event) is type(plain[0])


def encoded(body: dict[str, Any]) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


PLAIN = [USER, ADDED, REMOVED, USER_DELETED]
ids = st.sampled_from(
    ["u1", "g1", "contoso", "a" * 128, "a" * 129, "", "a b", "ä", "a/b", "A.b_c:d@e-f"]
)
texts = st.sampled_from(
    ["", "x", "y" * 1024, "z" * 1025, 'say "so"', "tab\there", "\x7f", "Zoë", "back\\"]
)
others = st.sampled_from(["US", "us", "USA", "user", "user.upserted", "membership.added", "1.0"])
lists = st.lists(texts | st.none(), max_size=3)
values = ids | texts | others | lists | st.none() | st.booleans() | st.integers() | st.text()
names = st.sampled_from(sorted({*USER, *ADDED, "specversion", "data", "extra"}))
keys = st.sampled_from([b"contoso/u1", b"contoso/u2", b"contoso", b"u1/contoso", b"", None])
headers = st.sampled_from([(), (), (), [("ce_type", b"user.deleted")], [("trace", None)]])


@pytest.mark.parametrize("body", PLAIN, ids=lambda body: str(body["type"]))
def test_it_reads_what_is_plain(body: dict[str, Any]) -> None:
    for value in (encoded(body), json.dumps(body).encode(), encoded(body) + b" "):
        record = Record(b"contoso/u1", value)
        assert scanned(record) is not None
        assert_alike(record)


def test_all_of_an_onboarding_is_plain() -> None:
    records = [Record(key, value) for _, key, value in bench_onboarding(20, 5)]
    assert all(scanned(record) for record in records)


@settings(max_examples=1500)
@given(
    st.sampled_from(PLAIN),
    st.dictionaries(names, values, max_size=3),
    st.sets(names, max_size=2),
    keys,
    headers,
    st.booleans(),
)
def test_members_of_any_kind(
    body: dict[str, Any],
    changed: dict[str, Any],
    dropped: set[str],
    key: bytes | None,
    headers: Headers,
    escaped: bool,
) -> None:
    body = {name: value for name, value in {**body, **changed}.items() if name not in dropped}
    text = json.dumps(body, ensure_ascii=escaped, separators=(",", ":"))
    assert_alike(Record(key, text.encode(errors="surrogatepass"), headers))


@settings(max_examples=1500)
@given(st.sampled_from(PLAIN), st.data())
def test_bytes_that_were_changed(body: dict[str, Any], data: st.DataObject) -> None:
    value = encoded(body)
    at = data.draw(st.integers(0, len(value)))
    cut = data.draw(st.integers(0, 4))
    new = data.draw(
        st.binary(max_size=3) | st.sampled_from([b'"', b"\\", b",", b"}", b"[]", b"\0"])
    )
    assert_alike(Record(b"contoso/u1", value[:at] + new + value[at + cut :]))


@given(st.none() | st.binary())
@example(b"")
@example(b"{")
@example(b"{}")
@example(b'{"')
@example(b'{"type"')
@example(b'{"mail":nul')
@example(b'{"proxyAddresses":["')
def test_any_bytes(value: bytes | None) -> None:
    assert_alike(Record(b"contoso/u1", value))


def test_a_member_given_twice_is_left_to_the_plain_reader() -> None:
    value = encoded(USER)[:-1] + b',"mail":"b@contoso.example"}'
    assert scanned(Record(b"contoso/u1", value)) is None


def test_ids_that_recur_are_one_string() -> None:
    one, two = (scanned(Record(b"contoso/u1", encoded(body))).event for body in (ADDED, REMOVED))
    plain: Any = DECODER(b"contoso/u1", encoded(ADDED))
    assert one.group is two.group is plain[0].group
    assert one.tenant is two.tenant is plain[0].tenant


def test_a_batch_keeps_its_order_whoever_reads() -> None:
    odd = {**USER, "displayName": "Zoë"}
    values = [encoded(USER), json.dumps(odd, ensure_ascii=False).encode(), b"{", encoded(ADDED)]
    records = [Record(b"contoso/u1", value, (), offset) for offset, value in enumerate(values)]
    batch, rejected = DECODER.decode_all(records)
    assert [delivered.offset for delivered in batch] == [0, 1, 3]
    assert [record.offset for record, _ in rejected] == [2]
