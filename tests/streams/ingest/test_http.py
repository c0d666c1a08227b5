"""The receiver from outside: SCIM, Entra's habits, uploads, notifications, CloudEvents, Kafka."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent
from scim2_client.engines.httpx2 import SyncSCIMClient
from scim2_tester import Status, check_server

from streams.ingest.http.sources import load_sources
from streams.runtime.errors import WorkerError
from streams.runtime.settings import load_settings
from tests.streams.ingest.receiver import OTHER, SOURCES, TOKEN, MemoryWriter, receiving
from tests.streams.ingest.test_scim import ENTRA, GROUP, MESSAGE, USER
from tests.support.kafka import Kafka
from tests.support.system import ROOT, Events, running

Receiving = tuple[httpx2.Client, MemoryWriter]


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiving]:
    with receiving(tmp_path) as found:
        yield found


def create(client: httpx2.Client, kind: str, **body: Any) -> dict[str, Any]:
    schema = USER if kind == "Users" else GROUP
    response = client.post(f"/scim/v2/{kind}", json={"schemas": [schema], **body})
    assert response.status_code == 201, response.text
    return dict(response.json())


def patch(client: httpx2.Client, path: str, *operations: Any) -> httpx2.Response:
    body = {"schemas": [MESSAGE + "PatchOp"], "Operations": list(operations)}
    return client.patch(f"/scim/v2/{path}", json=body)


def test_the_conformance_checks_of_scim2_tester(receiver: Receiving) -> None:
    client, _ = receiver
    with httpx2.Client(base_url=f"{client.base_url}/scim/v2", headers=client.headers) as scim:
        results = check_server(SyncSCIMClient(scim))
    assert len(results) > 100
    failed = [f"{each.title}: {each.reason}" for each in results if each.status != Status.SUCCESS]
    # It takes an add to several values (RFC 7644, 3.5.2.1) for a replacement.
    assert not [each for each in failed if "proxyAddresses' was not added" not in each]


def test_users_and_groups_become_events(receiver: Receiving) -> None:
    client, writer = receiver
    user = create(
        client,
        "Users",
        userName="Ann@x.example",
        displayName="Ann",
        password="never to be kept",
        **{ENTRA: {"usageLocation": "DE"}},
    )
    assert user["id"] == "ann@x.example"
    guid = "5b9b0bbe-63f4-4e4a-9bb2-0c0d9d3f8a11"
    group = create(
        client, "Groups", displayName="Sales", externalId=guid, members=[{"value": user["id"]}]
    )
    assert group["id"] == guid
    assert writer.events() == [
        {
            "type": "user.upserted",
            "user": "ann@x.example",
            "userPrincipalName": "Ann@x.example",
            "displayName": "Ann",
            "usageLocation": "DE",
        },
        {"type": "group.upserted", "group": guid, "displayName": "Sales"},
        {"type": "membership.added", "user": "ann@x.example", "group": guid},
    ]
    assert b"never to be kept" not in b"".join(writer.remembered().values())

    patch(client, f"Users/{user['id']}", {"op": "Replace", "path": "active", "value": "False"})
    assert writer.events() == []
    patch(client, f"Users/{user['id']}", {"op": "Remove", "path": "displayName"})
    assert writer.events() == [
        {"type": "user.upserted", "user": "ann@x.example", "displayName": None}
    ]
    body = {"schemas": [GROUP], "displayName": "Sales", "members": [{"value": "u2"}]}
    assert client.put(f"/scim/v2/Groups/{guid}", json=body).status_code == 200
    assert writer.events() == [
        {"type": "membership.added", "user": "u2", "group": guid},
        {"type": "membership.removed", "user": "ann@x.example", "group": guid},
    ]
    assert client.delete(f"/scim/v2/Users/{user['id']}").status_code == 204
    assert client.delete(f"/scim/v2/Groups/{guid}").status_code == 204
    assert [each["type"] for each in writer.events()] == ["user.deleted", "group.deleted"]
    assert writer.remembered() == {}


def test_members_as_entra_sends_them(receiver: Receiving) -> None:
    client, writer = receiver
    group = create(client, "Groups", displayName="G")["id"]
    writer.events()
    users = [{"value": f"u{n}"} for n in range(3)]
    for some in (users, users[:1]):
        add = {"op": "Add", "path": "members", "value": some}
        assert patch(client, f"Groups/{group}", add).status_code == 204
    remove = {"op": "Remove", "path": "members", "value": [{"value": "u1"}]}
    assert patch(client, f"Groups/{group}", remove).status_code == 204
    by_filter = {"op": "remove", "path": 'members[value eq "u2"]'}
    assert patch(client, f"Groups/{group}", by_filter).status_code == 204
    assert [(e["type"], e["user"]) for e in writer.events()] == [
        ("membership.added", "u0"),
        ("membership.added", "u1"),
        ("membership.added", "u2"),
        ("membership.removed", "u1"),
        ("membership.removed", "u2"),
    ]
    everybody = {"op": "remove", "path": "members"}
    assert patch(client, f"Groups/{group}", everybody).is_success
    assert [e["user"] for e in writer.events()] == ["u0"]
    assert patch(client, "Groups/absent", remove).status_code == 404
    found = client.get("/scim/v2/Groups", params={"filter": 'displayName eq "g"'}).json()
    assert found["totalResults"] == 1
    patch(client, f"Groups/{group}", {"op": "Add", "path": "members", "value": users})
    without = {"excludedAttributes": "members"}
    assert "members" not in client.get(f"/scim/v2/Groups/{group}", params=without).json()
    listed = client.get(f"/scim/v2/Groups/{group}").json()["members"]
    assert listed[0]["$ref"].endswith("/scim/v2/Users/u0")
    is_member = {"filter": f'id eq "{group}" and members eq "u2"'}
    assert client.get("/scim/v2/Groups", params=is_member).json()["totalResults"] == 1


def test_a_bulk_request_with_references_and_a_bad_operation(receiver: Receiving) -> None:
    client, writer = receiver
    ann = {"schemas": [USER], "userName": "ann@x.example"}
    bad = {"schemas": [USER], "userName": "x" * 2000}
    group = {"schemas": [GROUP], "displayName": "G", "members": [{"value": "bulkId:a"}]}
    operations = [
        {"method": "POST", "bulkId": "a", "path": "/Users", "data": ann},
        {"method": "POST", "bulkId": "b", "path": "/Users", "data": bad},
        {"method": "POST", "bulkId": "g", "path": "/Groups", "data": group},
    ]
    body = {"schemas": [MESSAGE + "BulkRequest"], "Operations": operations}
    answer = client.post("/scim/v2/Bulk", json=body)
    assert [each["status"] for each in answer.json()["Operations"]] == ["201", "400", "201"]
    assert [each["type"] for each in writer.events()] == [
        "user.upserted",
        "group.upserted",
        "membership.added",
    ]


def test_what_it_remembers_makes_the_next_receiver_go_on(tmp_path: Path) -> None:
    with receiving(tmp_path) as (client, writer):
        user = create(client, "Users", userName="ann@x.example", externalId="7")
        group = create(client, "Groups", displayName="G", members=[{"value": user["id"]}])
    with receiving(tmp_path, writer.remembered()) as (client, writer):
        again = client.post("/scim/v2/Users", json={"schemas": [USER], "userName": "Ann@x.example"})
        assert again.status_code == 409
        known = client.get(f"/scim/v2/Groups/{group['id']}").json()
        assert [each["value"] for each in known["members"]] == [user["id"]]
        patch(client, f"Users/{user['id']}", {"op": "add", "path": "displayName", "value": "A"})
        assert writer.events() == [
            {"type": "user.upserted", "user": user["id"], "displayName": "A"}
        ]


def test_entras_bulk_upload(receiver: Receiving) -> None:
    client, writer = receiver

    def upload(*people: dict[str, Any]) -> list[dict[str, Any]]:
        operations = [
            {"method": "POST", "bulkId": str(n), "path": "/Users", "data": {"schemas": [USER], **p}}
            for n, p in enumerate(people)
        ]
        body = {"schemas": [MESSAGE + "BulkRequest"], "Operations": operations}
        path = "/servicePrincipals/1/synchronization/jobs/2/bulkUpload"
        answer = client.post(path, json=body, headers={"Content-Type": "application/scim+json"})
        assert answer.status_code == 202
        return list(client.get(answer.headers["location"]).json()["results"])

    ann = {"userName": "ann@x.example", "externalId": "7", "displayName": "Ann"}
    assert [each["status"] for each in upload(ann, {"displayName": "nobody"})] == [201, 400]
    assert [each["status"] for each in upload(ann | {"userName": "anne@x.example"})] == [200]
    assert writer.events() == [
        {
            "type": "user.upserted",
            "user": "ann@x.example",
            "userPrincipalName": "ann@x.example",
            "displayName": "Ann",
        },
        {
            "type": "user.upserted",
            "user": "ann@x.example",
            "userPrincipalName": "anne@x.example",
        },
    ]
    assert client.post("/bulkUpload", content=b"{}").status_code == 400


def test_graph_notifications(receiver: Receiving, tmp_path: Path) -> None:
    client, writer = receiver
    client.headers.pop("authorization")
    handshake = client.post("/graph/notifications", params={"validationToken": "a b&<c>"})
    assert (handshake.status_code, handshake.text) == (200, "a b&<c>")
    assert handshake.headers["content-type"].startswith("text/plain")

    def notification(
        change: str, kind: str, id: str, state: str = "a-secret-of-contoso"
    ) -> dict[str, Any]:
        data = {"@odata.type": f"#Microsoft.Graph.{kind}", "id": id}
        return {
            "id": "n1",
            "clientState": state,
            "changeType": change,
            "resource": f"{kind}s/{id}",
            "resourceData": data,
        }

    value = [
        notification("deleted", "User", "u1"),
        notification("deleted", "Group", "g1"),
        notification("updated", "User", "u2"),
    ]
    assert client.post("/graph/notifications", json={"value": value}).status_code == 202
    assert writer.events() == [
        {"type": "user.deleted", "user": "u1"},
        {"type": "group.deleted", "group": "g1"},
    ]
    [look] = (tmp_path / "changes.jsonl").read_text().splitlines()
    assert json.loads(look) == {
        "tenant": "contoso",
        "change": "updated",
        "resource": "Users/u2",
        "id": "u2",
    }
    forged = {"value": [notification("deleted", "User", "u3", "guessed")]}
    assert client.post("/graph/notifications", json=forged).status_code == 401
    assert client.post("/graph/notifications", json={}).status_code == 400
    assert writer.events() == []


def cloud_event(**members: Any) -> CloudEvent:
    attributes = {"type": "user.deleted", "source": "/hr", "id": "1"}
    return CloudEvent(attributes, {"tenant": "contoso", "user": "u1", **members})


def test_cloud_events_as_the_sdk_sends_them(receiver: Receiving) -> None:
    client, writer = receiver
    for message in (to_binary_event(cloud_event()), to_structured_event(cloud_event())):
        answer = client.post("/events", content=message.body, headers=dict(message.headers))
        assert answer.status_code == 204, answer.text
    body = to_structured_event(cloud_event()).body
    batch = {"Content-Type": "application/cloudevents-batch+json"}
    text = body if isinstance(body, str) else body.decode()
    assert client.post("/events", content=f"[{text}]".encode(), headers=batch).is_success
    assert [record.key for record in writer.records] == ["contoso/u1"] * 3
    assert {json.loads(record.value or b"")["source"] for record in writer.records} == {"/hr"}
    plain = {"type": "user.deleted", "id": "1", "tenant": "contoso", "user": "u2"}
    assert client.post("/events", json=plain).status_code == 204
    for body, status in (
        (plain | {"tenant": "fabrikam"}, 403),
        ({"type": "product.defined", "id": "1", "skuId": "s", "servicePlans": []}, 403),
        (plain | {"user": ""}, 400),
    ):
        assert client.post("/events", json=body).status_code == status
    assert client.post("/events", content=b"{").status_code == 400
    assert len(writer.records) == 4


def test_tokens_are_of_a_source_and_a_tenant(receiver: Receiving) -> None:
    client, _ = receiver
    create(client, "Users", userName="ann@x.example")
    upload: dict[str, Any] = {"schemas": [], "Operations": []}
    client.headers["authorization"] = f"Bearer {OTHER}"
    assert client.get("/scim/v2/Users").status_code == 403
    assert client.post("/bulkUpload", json=upload).status_code == 202
    assert client.post("/events", json={}).status_code == 403
    for wrong in ("Bearer wrong", f"Basic {TOKEN}", ""):
        client.headers["authorization"] = wrong
        answer = client.get("/scim/v2/Users")
        assert answer.status_code == 401
        assert "Bearer" in answer.headers["www-authenticate"]
        assert client.post("/events", json={}).status_code == 401
    assert client.get("/scim/v2/ServiceProviderConfig").status_code == 200
    assert client.get("/healthz").text == "ok"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no \\[\\[source\\]\\]"),
        ("[[source]]\nname='a'", "tenant"),
        ("[[source]]\nname='a'\ntenant='t'\ntoken='short'", "16 characters"),
        (SOURCES + SOURCES, "same token"),
        (SOURCES.replace('"upload"', '"everything"'), "everything"),
        ("nonsense", "TOML"),
    ],
)
def test_a_file_of_sources_that_cannot_be_used(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(WorkerError, match=words):
        load_sources(tmp_path / "s.toml")


@pytest.mark.usefixtures("kafka")
def test_it_answers_when_kafka_has_the_events_and_goes_on_after_a_kill(
    kafka: Kafka, tmp_path: Path
) -> None:
    (tmp_path / "sources.toml").write_text(SOURCES)
    make = Events()
    with running(kafka.bootstrap) as system:
        env = {**os.environ, **system.env}
        command = [sys.executable, "-m", "streams", "receive", "--port", "0", "--sources"]

        def start() -> tuple[subprocess.Popen[str], httpx2.Client]:
            process = subprocess.Popen(
                [*command, str(tmp_path / "sources.toml")],
                cwd=ROOT,
                env=env,
                stdout=subprocess.PIPE,
                text=True,
            )
            assert process.stdout is not None
            found = re.search(r"http://\S+/", process.stdout.readline())
            assert found is not None
            headers = {"Authorization": f"Bearer {TOKEN}"}
            return process, httpx2.Client(base_url=found[0], headers=headers, timeout=20)

        process, client = start()
        user = create(client, "Users", userName="ann@x.example", **{ENTRA: {"usageLocation": "US"}})
        group = create(client, "Groups", displayName="G", members=[{"value": user["id"]}])
        process.kill()
        process.wait()
        # What was answered is in Kafka, and the next receiver knows it.
        kinds = [json.loads(r.value or b"")["type"] for r in system.records("user-changes")]
        assert kinds == ["user.upserted", "membership.added"]
        process, client = start()
        assert client.get(f"/scim/v2/Groups/{group['id']}").json()["members"]
        system.worker()
        system.publish([make.product("e3"), make.seats("e3", 1)])
        system.publish([make.license(group["id"], "e3")])
        system.settle()
        assert len(system.outcome()["user-licenses"]) == 1
        assert client.delete(f"/scim/v2/Users/{user['id']}").status_code == 204
        system.settle()
        seats = system.outcome()["product-seats"]
        assert [each["consumedUnits"] for each in seats.values()] == [0]
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=15) == 0


def test_many_requests_share_a_transaction() -> None:
    from streams.ingest.http.transactional_writer import Record, Writer

    class Counting(Writer):
        def __init__(self) -> None:
            super().__init__(load_settings())
            self.batches: list[int] = []

        async def _write(self, batch: list[Record]) -> None:
            self.batches.append(len(batch))
            await asyncio.sleep(0.01)
            if any(record.key == "poison" for record in batch):
                raise OSError("no broker")

    async def run() -> None:
        writer = Counting()
        task = asyncio.create_task(writer._run())
        records = [Record("user-changes", f"t/u{n}", b"") for n in range(100)]
        await asyncio.gather(*(writer.wait_committed(writer.add([record])) for record in records))
        assert sum(writer.batches) == 100
        assert len(writer.batches) < 5
        with pytest.raises(WorkerError):
            await writer.wait_committed(writer.add([Record("user-changes", "poison", b"")]))
        assert writer.failed.is_set()
        await task

    asyncio.run(run())
