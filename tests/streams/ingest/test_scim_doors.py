"""The same SCIM requests in a file and to the receiver give the same events."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streams.ingest import FeedItem
from streams.ingest.scim import events_from_scim
from tests.streams.ingest.played import events, told
from tests.streams.ingest.receiver import receiving
from tests.streams.ingest.test_http import Receiving
from tests.streams.ingest.test_scim import ENTERPRISE, ENTRA, GROUP, MESSAGE, USER, patch

ID = "ann@x.example"
ANN = {
    "schemas": [USER],
    "userName": ID,
    "displayName": "Ann",
    "emails": [{"type": "work", "value": ID}],
    "addresses": [{"type": "work", "country": "FR", "locality": "Paris"}],
}
MADE = {
    "type": "user.upserted",
    "user": ID,
    "userPrincipalName": ID,
    "displayName": "Ann",
    "usageLocation": "FR",
    "mail": ID,
}
NAMELESS = {k: v for k, v in ANN.items() if k != "displayName"} | {"name": {"formatted": "Ann"}}
OF_ENTRA = {
    "usageLocation": "DE",
    "mailNickname": "ann",
    "proxyAddresses": ["SMTP:ann@x.example"],
}
ABROAD = ANN | {ENTRA: OF_ENTRA}
DE = {"usageLocation": "DE"}
WORK = 'addresses[type eq "work"]'


def post(user: dict[str, Any], kind: str = "Users") -> dict[str, Any]:
    return {"method": "POST", "path": f"/{kind}", "data": user}


def put(user: dict[str, Any]) -> dict[str, Any]:
    return {"method": "PUT", "path": f"/Users/{ID}", "data": user}


def change(*operations: dict[str, Any], to: str = f"/Users/{ID}") -> dict[str, Any]:
    return patch(to, *operations)


def add(path: str, value: Any) -> dict[str, Any]:
    return change({"op": "Add", "path": path, "value": value}, {"op": "add", **_DE})


def replace(path: str, value: Any) -> dict[str, Any]:
    return change({"op": "replace", "path": path, "value": value})


def remove(path: str) -> dict[str, Any]:
    return change({"op": "remove", "path": path})


def merge(**value: Any) -> dict[str, Any]:
    return change({"op": "replace", "value": value})


_DE = {"path": f"{WORK}.country", "value": "DE"}
UNUSED: list[tuple[str, Any]] = [
    (f"{ENTERPRISE}:manager", "2c2f6fb8-0000-4000-8000-c09c5a61c8a2"),
    (f"{ENTERPRISE}:manager", [{"$ref": "../Users/b", "value": "b"}]),
    (f"{ENTERPRISE}:manager.value", "b"),
    (f"{ENTERPRISE}:department", {"name": "Retail"}),
    ("urn:contoso:employee:hired", [1, 2]),
    ("phoneNumbers", "+49 30 1"),
    ('phoneNumbers[type eq "work"].value', 4930),
    ("photos", [{"value": "not a URL"}]),
    ("photos[primary eq true].value", "not a URL"),
    ("roles", "admin"),
    ("x509Certificates", [{"value": "a b"}]),
    ("title", ["Dr"]),
    ("profileUrl", 5),
    ("active", "maybe"),
    ("nickName", {"short": "A"}),
    ("name", "Ann A."),
    (f"{WORK}.streetAddress", 5),
    (f"{WORK}.nonsense", 5),
    ('emails[type eq "work"].display', {"a": 1}),
    ("nonsense", None),
]

# Requests after which Ann exists, the request, and what it changes of her.
TABLE: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any] | None]] = [
    # -- attributes that are not used
    *((f"add {path} {value}", ANN, add(path, value), DE) for path, value in UNUSED),
    (
        "Entra's flat form",
        ANN,
        merge(**{f"{ENTERPRISE}:manager": "2c2f6fb8", f"{WORK}.country": "DE", "title": 5}),
        DE,
    ),
    (
        "an extension as a whole",
        ANN,
        merge(**{ENTERPRISE: {"manager": "b"}, ENTRA: {"usageLocation": "DE", "x": 1}}),
        DE,
    ),
    ("an address of another shape", ANN, replace("addresses", "Lyon"), None),
    ("one address, not a list", ANN, replace("addresses", {"country": "DE", "region": 7}), DE),
    (
        "an address with a bad part",
        ANN,
        replace("addresses", [{"type": "work", "country": "DE", "streetAddress": 5}, "Lyon"]),
        DE,
    ),
    (
        "a whole user",
        ANN,
        put(ANN | {"phoneNumbers": "1", "name": "A", "displayName": "B"}),
        {"displayName": "B"},
    ),
    # -- a part never clears the whole
    ("a city", ANN, replace(f"{WORK}.locality", "Lyon"), None),
    ("a formatted address", ANN, replace(f"{WORK}.formatted", "3/14"), None),
    (
        "an address without country",
        ANN,
        replace("addresses", [{"type": "work", "locality": "L"}]),
        None,
    ),
    ("the same in a value", ANN, merge(addresses=[{"type": "work", "locality": "L"}]), None),
    ("a chosen address without country", ANN, replace(WORK, {"locality": "Lyon"}), None),
    ("parts of the name", NAMELESS, merge(**{"name.givenName": "I", "name.familyName": "B"}), None),
    ("a name without formatted", NAMELESS, replace("name", {"givenName": "Ida"}), None),
    ("a part of the name removed", NAMELESS, remove("name.familyName"), None),
    ("the formatted name", NAMELESS, replace("name.formatted", "Ida"), {"displayName": "Ida"}),
    ("the formatted name beside a display name", ANN, replace("name.formatted", "Ida"), None),
    ("the type of a mail address", ANN, replace('emails[type eq "work"].display', "x"), None),
    ("a second mail address", ANN, replace('emails[type eq "home"].value', "h@x.example"), None),
    # -- what is cleared
    ("display name removed", ANN, remove("displayName"), {"displayName": None}),
    ("display name null", ANN, replace("displayName", None), {"displayName": None}),
    ("country removed", ANN, remove(f"{WORK}.country"), {"usageLocation": None}),
    ("country null", ANN, replace(f"{WORK}.country", None), {"usageLocation": None}),
    ("addresses removed", ANN, remove("addresses"), {"usageLocation": None}),
    ("work address removed", ANN, remove(WORK), {"usageLocation": None}),
    ("another address removed", ANN, remove('addresses[type eq "home"]'), None),
    (
        "location removed, country remains",
        ABROAD,
        remove(f"{ENTRA}:usageLocation"),
        {"usageLocation": "FR"},
    ),
    (
        "extension removed",
        ABROAD,
        remove(ENTRA),
        {"usageLocation": "FR", "mailNickname": None, "proxyAddresses": None},
    ),
    (
        "a whole user without them",
        ABROAD,
        put({"schemas": [USER], "userName": ID, "displayName": "Ann"}),
        {"usageLocation": None, "mail": None, "mailNickname": None, "proxyAddresses": None},
    ),
    ("nickname", ANN, replace(f"{ENTRA}:mailNickname", "a"), {"mailNickname": "a"}),
    ("nickname removed", ABROAD, remove(f"{ENTRA}:mailNickname"), {"mailNickname": None}),
    # -- countries
    ("a country in small letters", ANN, replace(f"{WORK}.country", "de"), DE),
    ("a country where a location is", ABROAD, replace(f"{WORK}.country", "Italy"), None),
    ("nothing new", ANN, replace("displayName", "Ann"), None),
]


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiving]:
    with receiving(tmp_path_factory.mktemp("receiver")) as found:
        yield found


def by_file(folder: Path, *requests: dict[str, Any]) -> list[Any]:
    file = folder / "requests.jsonl"
    file.write_text("\n".join(json.dumps(each) for each in requests))
    return list(events_from_scim(file, "contoso"))


def by_http(receiver: Receiving, *requests: dict[str, Any]) -> tuple[list[int], list[Any]]:
    client, writer = receiver
    codes = []
    for one in requests:
        body = one.get("data")
        codes.append(client.request(one["method"], f"/scim/v2{one['path']}", json=body).status_code)
    found = writer.events()
    client.delete(f"/scim/v2/Users/{ID}")
    writer.events()
    return codes, found


@pytest.mark.parametrize(
    ("first", "request_", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_a_request_gives_the_same_events_by_both_doors(
    receiver: Receiving,
    tmp_path: Path,
    first: dict[str, Any],
    request_: dict[str, Any],
    expected: dict[str, Any] | None,
) -> None:
    made = MADE | (OF_ENTRA if first is ABROAD else {})
    change = [{"type": "user.upserted", "user": ID, **expected}] if expected else []
    codes, pushed = by_http(receiver, post(first), request_)
    assert codes[0] == 201
    assert codes[1] in (200, 204)
    assert pushed == [made, *change]
    assert events(by_file(tmp_path, post(first), request_)) == pushed


@pytest.mark.parametrize(
    "attributes",
    [
        {ENTERPRISE: {"manager": "boss", "department": "Retail"}},
        {ENTERPRISE: "Retail"},
        {"schemas": "User"},
        {"meta": 5, "photos": ["x"], "active": "maybe", "roles": {"a": 1}},
        {"phoneNumbers": [{"value": 5}], "nickName": [1], "name": "Ann"},
        {"addresses": [*ANN["addresses"], "Lyon", {"type": 5, "postalCode": 7}]},
        {"emails": [{"value": ID, "type": ["a"], "primary": "first", "display": 5}]},
    ],
)
def test_a_new_user_with_odd_attributes_is_made(
    receiver: Receiving, tmp_path: Path, attributes: dict[str, Any]
) -> None:
    codes, pushed = by_http(receiver, post(ANN | attributes))
    assert (codes, pushed) == ([201], [MADE])
    assert events(by_file(tmp_path, {**post(ANN | attributes)})) == pushed


@pytest.mark.parametrize(
    "request_",
    [
        post(ANN | {"userName": 5}),
        post(ANN | {"emails": "ann"}),
        post(ANN | {ENTRA: {"usageLocation": "Germany"}}),
        post({"displayName": "A", "members": ["u1"]}, "Groups"),
        replace("emails", [{"value": "no address"}]),
        replace(f"{ENTRA}:proxyAddresses", 5),
        replace(f"{ENTRA}:mailNickname", 5),
        replace(f"{WORK}.country", 5),
        replace("id", "other"),
    ],
)
def test_what_is_used_is_validated_by_both_doors(
    receiver: Receiving, tmp_path: Path, request_: dict[str, Any]
) -> None:
    first = [post(ANN)] if request_["method"] == "PATCH" else []
    codes, pushed = by_http(receiver, *first, request_)
    assert codes[-1] == 400
    found = by_file(tmp_path, *first, request_)
    assert [line for line, _ in told(found)] == [len(first) + 1]
    assert events(each for each in found if isinstance(each, FeedItem)) == pushed


@pytest.mark.parametrize("country", ["France", "FRA", "Deutschland"])
def test_a_country_that_is_a_name_is_told_and_clears_nothing(
    receiver: Receiving, tmp_path: Path, capfd: pytest.CaptureFixture[str], country: str
) -> None:
    named = [{"type": "work", "country": country}]
    for requests in (
        [post(ANN), replace(f"{WORK}.country", country)],
        [post(ANN), merge(addresses=named)],
        [post(ANN), put(ANN | {"addresses": named, "displayName": "B"})],
        [post(ANN | {"addresses": named})],
    ):
        codes, pushed = by_http(receiver, *requests)
        assert max(codes) < 300
        assert "usageLocation" not in pushed[-1] or pushed == [MADE]
        found = by_file(tmp_path, *requests)
        assert events(each for each in found if isinstance(each, FeedItem)) == pushed
        [(line, reason)] = told(found)
        assert line == len(requests)
        assert country in reason
        assert "two letters" in reason
    logged = capfd.readouterr()
    assert (logged.out + logged.err).count(f"the country is '{country}'") == 1


def test_members_by_both_doors(receiver: Receiving, tmp_path: Path) -> None:
    guid = "5B9B0BBE-63F4-4E4A-9BB2-0C0D9D3F8A11"
    group = {"schemas": [GROUP], "displayName": "Sales", "externalId": guid, "meta": "odd"}
    member = {"value": guid, "display": {"a": 1}, "$ref": 5, "type": "User"}
    requests = [
        post(group | {"members": [member]}, "Groups"),
        patch(
            f"/Groups/{guid.lower()}",
            {"op": "add", "path": "members", "value": [{"value": "u1", "type": 5}]},
            {"op": "remove", "path": f'members[value eq "{guid}"]'},
            {"op": "replace", "path": "nonsense", "value": []},
        ),
        patch(
            f"/Groups/{guid.lower()}",
            {"op": "replace", "value": {"id": guid, "displayName": "All", "externalId": guid}},
        ),
        {"method": "DELETE", "path": f"/Groups/{guid.lower()}"},
    ]
    codes, pushed = by_http(receiver, *requests)
    assert codes == [201, 204, 204, 204]
    assert events(by_file(tmp_path, *requests)) == pushed
    assert [(each["type"], each.get("user")) for each in pushed] == [
        ("group.upserted", None),
        ("membership.added", guid.lower()),
        ("membership.added", "u1"),
        ("membership.removed", guid.lower()),
        ("group.upserted", None),
        ("group.deleted", None),
    ]


def test_a_bulk_request_by_both_doors(receiver: Receiving, tmp_path: Path) -> None:
    client, writer = receiver
    bulk = {
        "schemas": [MESSAGE + "BulkRequest"],
        "Operations": [
            post(ANN | {ENTERPRISE: {"manager": "boss"}}) | {"bulkId": "a"},
            replace(f"{WORK}.locality", "Lyon"),
            add(f"{ENTERPRISE}:manager", "boss"),
        ],
    }
    answer = client.post("/scim/v2/Bulk", json=bulk).json()
    assert [each["status"] for each in answer["Operations"]] == ["201", "200", "200"]
    pushed = writer.events()
    assert pushed == [MADE, {"type": "user.upserted", "user": ID, **DE}]
    assert events(by_file(tmp_path, bulk)) == pushed


def test_a_file_says_nothing_of_what_a_request_does_not_name(tmp_path: Path) -> None:
    """A user whom the file did not create has facts from elsewhere, which stay."""
    work = {"schemas": [USER], "userName": ID}
    for request, expected in (
        (put(work), {"userPrincipalName": ID}),
        (remove(f"{WORK}.country"), {"usageLocation": None}),
        (remove('addresses[type eq "home"].country'), None),
        (remove("name.formatted"), None),
        (replace('emails[type eq "work"].primary', True), None),
        (merge(addresses=[{"type": "work", "locality": "Lyon"}]), None),
        (replace("name.formatted", "Ida"), {"displayName": "Ida"}),
    ):
        wanted = [{"type": "user.upserted", "user": ID, **expected}] if expected else []
        assert events(by_file(tmp_path, request)) == wanted


def test_a_file_goes_on_after_a_bad_request(tmp_path: Path) -> None:
    found = by_file(
        tmp_path,
        post(ANN | {"emails": [{"value": "no address"}]}),
        replace("emails", [{"value": "no address"}]),
        patch("/Users", {"op": "add", "path": "title", "value": "x"}),
        change({"op": "add", "path": "emails[", "value": "x"}),
        change({"op": "add", "path": 5, "value": "x"}),
        {"method": "PATCH", "path": f"/Users/{ID}", "data": {"Operations": 5}},
        {"method": "PATCH", "path": f"/Users/{ID}", "data": {"Operations": [5, None, {}]}},
        post(ANN),
    )
    assert [line for line, _ in told(found)] == [1, 2, 3, 4, 5, 6, 7]
    assert all(reason and "\n" not in reason for _, reason in told(found))
    assert events(each for each in found if isinstance(each, FeedItem)) == [MADE]
