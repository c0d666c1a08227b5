"""SCIM requests in files as events, with the habits of Microsoft Entra."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from streams.ingest.scim import events_from_scim
from tests.streams.ingest.played import Played, events, told

MESSAGE = "urn:ietf:params:scim:api:messages:2.0:"
USER = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
ENTRA = "urn:ietf:params:scim:schemas:extension:Microsoft:Entra:2.0:User"


def written(path: Path, *documents: Any) -> Path:
    path.write_text("\n".join(json.dumps(each) for each in documents))
    return path


def patch(path: str, *operations: dict[str, Any], name: str = "Operations") -> dict[str, Any]:
    data = {"schemas": [MESSAGE + "PatchOp"], name: list(operations)}
    return {"method": "PATCH", "path": path, "data": data}


def bulk(*operations: dict[str, Any]) -> dict[str, Any]:
    return {"schemas": [MESSAGE + "BulkRequest"], "Operations": list(operations)}


def test_a_bulk_upload_of_a_personnel_system(tmp_path: Path) -> None:
    data = {
        "schemas": [USER, ENTERPRISE, "urn:contoso:employee"],
        "externalId": "701984",
        "userName": "ann@contoso.example",
        "displayName": "Ann",
        "active": "True",
        "addresses": [{"type": "home", "country": "FR"}, {"type": "work", "country": "de"}],
        "emails": [
            {"value": "private@x.example"},
            {"value": "ann@contoso.local", "primary": True},
        ],
        ENTERPRISE: {"employeeNumber": "7", "manager": {"value": "89607"}},
        "urn:contoso:employee": {"HireDate": "2026-01-01"},
    }
    request = bulk({"method": "POST", "bulkId": "701984", "path": "/Users", "data": data})
    request["failOnErrors"] = None
    assert events(events_from_scim(written(tmp_path / "f.json", request), "t")) == [
        {
            "type": "user.upserted",
            "user": "ann@contoso.example",
            "userPrincipalName": "ann@contoso.example",
            "displayName": "Ann",
            "usageLocation": "DE",
            "mail": "ann@contoso.local",
        }
    ]


def test_what_is_made_in_a_bulk_request_can_be_named_before(tmp_path: Path) -> None:
    group = {"schemas": [GROUP], "displayName": "Sales Team", "members": [{"value": "bulkId:a"}]}
    ann = {"schemas": [USER], "userName": "ann@x.example"}
    guid = "5b9b0bbe-63f4-4e4a-9bb2-0c0d9d3f8a11"
    bob = {"schemas": [USER], "userName": "bob@x.example", "externalId": guid}
    file = written(
        tmp_path / "f.json",
        bulk(
            {"method": "POST", "bulkId": "g", "path": "/Groups", "data": group},
            {"method": "POST", "bulkId": "a", "path": "/Users", "data": ann},
            {"method": "POST", "bulkId": "b", "path": "/users", "data": bob},
            patch("/Groups/g1", {"op": "add", "path": "members", "value": [{"value": "bulkId:b"}]}),
            patch("/Groups/g1", {"op": "add", "path": "members", "value": [{"value": "bulkId:z"}]}),
        ),
    )
    found = list(events_from_scim(file, "t"))
    made = events(item for item in found if hasattr(item, "key"))
    assert [each["type"] for each in made] == [
        "group.upserted",
        "membership.added",
        "user.upserted",
        "user.upserted",
        "membership.added",
    ]
    assert made[1] == {
        "type": "membership.added",
        "user": "ann@x.example",
        "group": "sales:20:team",
    }
    assert made[4]["user"] == guid  # the directory's object id is the best id
    [(_, reason)] = told(found)
    assert "operation 5" in reason
    assert "bulkId:z" in reason


def test_members_are_patched_as_the_rfc_and_as_entra_say_it(tmp_path: Path) -> None:
    file = written(
        tmp_path / "f.jsonl",
        patch(
            "/Groups/g",
            {"op": "Add", "path": "members", "value": [{"$ref": None, "value": "u1"}]},
            {"op": "Remove", "path": "members", "value": [{"value": "u2"}]},
            {"op": "remove", "path": 'members[value eq "u3"]'},
            {
                "op": "add",
                "value": {"members": [{"value": "u4"}, {"value": "g2", "type": "Group"}]},
            },
            {"op": "Replace", "path": "displayName", "value": "Sales"},
            {"op": "add", "path": "externalId", "value": "x"},
        ),
        patch(
            "Groups/g",
            {"op": "add", "path": f"{GROUP}:members", "value": {"value": "u5"}},
            name="operations",
        ),
    )
    assert events(events_from_scim(file, "t")) == [
        {"type": "membership.added", "user": "u1", "group": "g"},
        {"type": "membership.removed", "user": "u2", "group": "g"},
        {"type": "membership.removed", "user": "u3", "group": "g"},
        {"type": "membership.added", "user": "u4", "group": "g"},
        {"type": "group.upserted", "group": "g", "displayName": "Sales"},
        {"type": "membership.added", "user": "u5", "group": "g"},
    ]


@pytest.mark.parametrize(
    ("operations", "expected"),
    [
        ([{"op": "Replace", "path": "active", "value": "False"}], None),
        (
            [{"op": "Replace", "path": "userName", "value": "b@x.example"}],
            {"userPrincipalName": "b@x.example"},
        ),
        ([{"op": "Remove", "path": "displayName"}], {"displayName": None}),
        (
            [{"op": "Add", "path": 'emails[type eq "work"].value', "value": "b@x.example"}],
            {"mail": "b@x.example"},
        ),
        (
            [{"op": "replace", "path": 'addresses[type eq "work"].country', "value": "FR"}],
            {"usageLocation": "FR"},
        ),
        (
            [
                {"op": "add", "path": f"{ENTRA}:usageLocation", "value": "IT"},
                {"op": "add", "path": f"{ENTRA}:proxyAddresses", "value": ["SMTP:b@x.example"]},
            ],
            {"usageLocation": "IT", "proxyAddresses": ["SMTP:b@x.example"]},
        ),
        (
            [{"op": "replace", "value": {"displayName": "B", "name.givenName": "B", "title": "X"}}],
            {"displayName": "B"},
        ),
        ([{"op": "replace", "value": {ENTRA: {"usageLocation": "GB"}}}], {"usageLocation": "GB"}),
    ],
)
def test_a_patched_user_changes_only_in_what_is_named(
    tmp_path: Path, operations: list[dict[str, Any]], expected: dict[str, Any] | None
) -> None:
    file = written(tmp_path / "f.json", patch("/Users/u1", *operations))
    found = events(events_from_scim(file, "t"))
    wanted = [{"type": "user.upserted", "user": "u1", **expected}] if expected else []
    assert found == wanted


def test_lists_and_single_resources(tmp_path: Path) -> None:
    users = [{"schemas": [USER], "id": "u1", "userName": "ann@x.example"}]
    listed = {"schemas": [MESSAGE + "ListResponse"], "totalResults": 1, "Resources": users}
    group = {"schemas": [GROUP], "id": "g", "displayName": "G", "members": [{"value": "u1"}]}
    delete = {"method": "DELETE", "path": "/Groups/g"}
    file = written(tmp_path / "f.jsonl", listed, group, delete)
    assert [(each["type"], each.get("user")) for each in events(events_from_scim(file, "t"))] == [
        ("user.upserted", "u1"),
        ("group.upserted", None),
        ("membership.added", "u1"),
        ("group.deleted", None),
    ]


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (patch("/Groups/g", {"op": "replace", "path": "members", "value": []}), "seatflow receive"),
        (patch("/Groups/g", {"op": "remove", "path": "members"}), "seatflow receive"),
        (patch("/Groups/g", {"op": "remove", "path": 'members[display eq "A"]'}), "value eq"),
        (patch("/Groups/g", {"op": "add", "path": "members", "value": ["u1"]}), "member"),
        (patch("/Groups/g", {"op": "move", "path": "members"}), "move"),
        (patch("/Groups", {"op": "add", "path": "members", "value": []}), "must name"),
        (patch("/Devices/d", {"op": "add", "path": "x", "value": 1}), "/Users or /Groups"),
        (
            {"method": "PUT", "path": "/Groups/g", "data": {"displayName": "G", "members": []}},
            "PUT",
        ),
        ({"method": "POST", "path": "/Users", "data": {"displayName": "no name"}}, "userName"),
        ({"method": "GET", "path": "/Users/u"}, "method"),
        ({"method": "DELETE", "path": "/Users"}, "must name"),
        ({"id": "u1"}, "schemas"),
        ({"schemas": [USER], "id": "no spaces", "userName": "a@x.example"}, "no spaces"),
        ([1], "not a JSON object"),
    ],
)
def test_what_makes_no_event_is_told(tmp_path: Path, request_: Any, words: str) -> None:
    file = written(tmp_path / "f.json", request_)
    [(line, reason)] = told(events_from_scim(file, "t"))
    assert line == 1
    assert words in reason


def test_feeding_it_twice_changes_nothing(tmp_path: Path) -> None:
    ann = {"schemas": [USER], "userName": "ann@x.example", "id": "u1"}
    join = patch("/Groups/g", {"op": "Add", "path": "members", "value": [{"value": "u1"}]})
    file = written(tmp_path / "f.jsonl", {"method": "POST", "path": "/Users", "data": ann}, join)
    played = Played()
    assert played.feed(events_from_scim(file, "t"))
    assert played.feed(events_from_scim(file, "t")) == []


def test_local_mail_domains_need_the_patch_of_email_validator() -> None:
    """Guards streams/ingest/email_domains.py: fails if the library no longer has that list."""
    script = (
        "import email_validator; from pydantic import EmailStr, TypeAdapter, ValidationError\n"
        "check = TypeAdapter(EmailStr).validate_python\n"
        "try: check('ann@contoso.local'); raise SystemExit('accepted without the patch')\n"
        "except ValidationError: pass\n"
        "from streams.ingest.email_domains import allow_local_domains\n"
        "allow_local_domains(); allow_local_domains()\n"
        "assert check('ann@contoso.local') == 'ann@contoso.local'\n"
        "assert 'localhost' in email_validator.SPECIAL_USE_DOMAIN_NAMES\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
