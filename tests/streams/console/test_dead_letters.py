"""Dead letters in the pages: listed by code, mended, previewed and sent again."""

from __future__ import annotations

import html
import re
from typing import Any

import orjson

from streams.console.read_model import queries
from streams.console.read_model.input_projections import apply
from streams.ingest.dead_letters import Letter, letter_of
from tests.streams.console.conftest import Console
from tests.streams.console.guarded import HTML, csrf_of, guarded, log_in
from tests.streams.console.local import Rec
from tests.support.system import Events

__all__ = ["guarded"]

BAD = {"type": "membership.added", "id": "hr-7", "tenant": "contoso", "user": "ann", "group": 7}
REASON = b"group is 7; it must be an id"


class Letters:
    """The topic of dead letters. ``kept``: place -> record; what is not in it has expired."""

    def __init__(self) -> None:
        self.kept: dict[str, Rec] = {}

    async def read(self, place: str) -> Letter | None:
        record = self.kept.get(place)
        return letter_of(record, "licensing.") if record else None


def put(console: Console, value: bytes, **headers: bytes) -> Letters:
    """A dead letter in the topic and in the read model."""
    given = {"dlq.topic": b"licensing.user-changes", "dlq.partition": b"1", "dlq.offset": b"42",
             "dlq.reason": REASON, "dlq.code": b"bad_member"}  # fmt: skip
    record = Rec(b"contoso/ann", value, 1_795_500_000_000, 3, [*given.items(), *headers.items()], 2)
    letters = Letters()
    letters.kept["2@3"] = record
    dispatcher: Any = console.service.dispatcher
    dispatcher.letters = letters
    apply(console.world.applier, "dead-letters", [record])
    return letters


def staffed(console: Console) -> None:
    make = Events(run="start")
    console.world.publish([make.product("e3"), make.seats("e3", 2), make.license("sales", "e3")])
    console.world.publish([make.user("ann", displayName="Ann")])


def text(page: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


def send(console: Console, path: str, **fields: str) -> Any:
    fields["csrf"] = csrf_of(console, "/dead-letters/1")
    return console.client.post(path, data=fields, headers=HTML)


def test_a_letter_is_mended_and_sent_again(console: Console) -> None:
    """From the list to its content, to the outcome, to the user whom it is about."""
    staffed(console)
    put(console, orjson.dumps(BAD))
    listed = console.client.get("/dead-letters?code=bad_member", headers=HTML).text
    assert REASON.decode() in listed
    assert "No dead letter matches" in console.client.get("/dead-letters?code=not_json").text
    page = console.client.get("/dead-letters/1", headers=HTML).text
    assert "a member, or an attribute of the CloudEvent, is missing or malformed" in text(page)
    assert html.escape(orjson.dumps(BAD).decode(), quote=True).replace("&quot;", "&#34;") in page
    again = send(console, "/dead-letters/1/preview", value=orjson.dumps(BAD).decode())
    assert again.status_code == 400
    assert "It would be a dead letter again: group" in text(again.text)
    mended = orjson.dumps({**BAD, "group": "sales"}).decode()
    before = console.world.said
    shown = send(console, "/dead-letters/1/preview", value=mended, key="contoso/ann")
    assert "Send membership.added of ann in contoso to user-changes" in text(shown.text)
    assert "gains it" in text(shown.text)
    assert console.world.said == before
    done = send(console, "/dead-letters/1", value=mended, key="contoso/ann")
    assert done.url.path == "/t/contoso/users/ann"
    assert "Applied." in text(done.text)
    found = queries.user(console.service.store.read_connection(), "contoso", "ann")
    assert found is not None
    assert [each["skuId"] for each in found["assignedLicenses"]] == ["e3"]
    caused = console.client.get("/v1/tenants/contoso/audit?causedBy=hr-7").json()["value"]
    (record,) = (r for r in caused if r["activity"] == "Request resending of a dead letter")
    assert record["modifiedProperties"][0]["oldValue"] == "2@3"


def test_a_cloud_event_keeps_its_headers(console: Console) -> None:
    staffed(console)
    value = orjson.dumps({"tenant": "contoso", "user": "ann", "group": "sales"})
    put(console, value, ce_id=b"9", ce_type=b"membership.added", ce_specversion=b"1.0")
    done = send(console, "/dead-letters/1", value=value.decode(), key="contoso/ann")
    assert done.status_code == 200
    producer: Any = console.service.dispatcher.producer
    sent = next(record for record in producer.sent if record.topic == "user-changes")
    assert dict(sent.headers)["ce_id"] == b"9"


def test_a_letter_that_has_expired_says_so(console: Console) -> None:
    put(console, b"{").kept.clear()
    page = console.client.get("/dead-letters/1", headers=HTML)
    assert "is not in its topic any more" in page.text
    assert console.client.get("/dead-letters/9", headers=HTML).status_code == 404


def test_dead_letters_need_a_token_for_all_tenants(guarded: Console) -> None:
    """In the list, on the page of one, and in its forms."""
    put(guarded, orjson.dumps(BAD))
    log_in(guarded, "ann-token")
    for path in ("/dead-letters", "/dead-letters/1"):
        assert guarded.client.get(path, headers=HTML).status_code == 403
    fields = {"csrf": "x", "value": "{}"}
    assert guarded.client.post("/dead-letters/1", data=fields).status_code == 403


def test_a_form_without_its_token_sends_nothing(guarded: Console) -> None:
    put(guarded, orjson.dumps(BAD))
    log_in(guarded, "zoe-token")
    before = guarded.world.said
    for path in ("/dead-letters/1", "/dead-letters/1/preview"):
        answer = guarded.client.post(path, data={"csrf": "x", "value": "{}"})
        assert answer.status_code == 403
    assert guarded.world.said == before
