"""Representative inputs of a what-if question: a tenant's state, and the events that are tried."""

from __future__ import annotations

import json
from typing import Any

from tests.support.system import Event, Events

NOW_MS = 1_796_000_000_000


def _product(make: Events, sku: str, *plans: dict[str, Any]) -> Event:
    """A product whose service plans are given in full."""
    topic, key, value = make.product(sku)
    body = {**json.loads(value), "skuPartNumber": sku.upper(), "servicePlans": list(plans)}
    return topic, key, json.dumps(body).encode()


def state() -> list[list[Event]]:
    """A tenant in steps: four products, two of them short, groups, errors of most kinds."""
    make = Events()
    mail = {"servicePlanId": "mail", "mailEnabled": True, "exclusiveSets": ["mail"]}
    small = {"servicePlanId": "mail-small", "mailEnabled": True, "exclusiveSets": ["mail"]}
    files = {"servicePlanId": "files", "prohibitedLocations": ["CN"]}
    voice = {"servicePlanId": "voice", "requires": [["mail", "mail-small"]]}
    return [
        [
            _product(make, "e3", mail, files),
            _product(make, "f1", small),
            _product(make, "voice", voice),
            make.product("rare"),
        ],
        [
            make.tenant_settings(usageLocation="US"),
            make.seats("e3", 6),
            make.seats("f1", 9),
            make.seats("voice", 2),
            make.seats("rare", 1),
        ],
        [
            make.license("staff", "e3"),
            make.license("desk", "f1"),
            make.license("call", "f1", "voice"),
            make.license("few", "rare"),
        ],
        [
            make.user("ann", displayName="Ann", proxyAddresses=["SMTP:ann@contoso.com"]),
            make.user("bob", displayName="Bob"),
            make.user("cid", usageLocation="CN"),
            make.user("dan", proxyAddresses=["smtp:ann@contoso.com"]),
            make.user("eve"),
            make.user("fay"),
            make.user("gil"),
        ],
        [
            make.join("ann", "staff"),
            make.join("bob", "staff"),
            make.join("cid", "staff"),
            make.join("dan", "desk"),
            make.join("eve", "call"),
            make.join("bob", "few"),
            make.join("ann", "few"),
            make.assign("fay", "e3"),
            make.join("gil", "staff"),
            make.assign("gil", "voice"),
        ],
        [make.license("later", "undefined"), make.join("fay", "later")],
    ]


def trials() -> dict[str, list[dict[str, Any]]]:
    """Events by the name of the case, as a caller of the console would post them."""
    e3, f1 = {"skuId": "e3"}, {"skuId": "f1"}
    return {
        "joins_until_seats_are_short": [
            {"type": "user.upserted", "user": f"new{n}", "usageLocation": "US"} for n in range(3)
        ]
        + [{"type": "membership.added", "user": f"new{n}", "group": "staff"} for n in range(3)],
        "a_leaver_frees_seats": [{"type": "user.deleted", "user": "ann"}],
        "a_leaver_is_replaced": [
            {"type": "membership.removed", "user": "ann", "group": "staff"},
            {"type": "membership.added", "user": "eve", "group": "staff"},
        ],
        "direct_changes": [
            {"type": "licenses.changed", "user": "eve", "addLicenses": [e3]},
            {"type": "licenses.changed", "user": "cid", "addLicenses": [e3]},
            {"type": "licenses.changed", "user": "dan", "removeLicenses": ["f1"]},
            {"type": "licenses.changed", "user": "nobody", "addLicenses": [f1]},
            {"type": "licenses.changed", "user": "eve", "removeLicenses": ["e3"]},
        ],
        "a_group_changes_its_product": [
            {"type": "licenses.changed", "group": "staff", "addLicenses": [f1],
             "removeLicenses": ["e3"]},
        ],
        "a_group_is_deleted": [{"type": "group.deleted", "group": "staff"}],
        "fewer_units": [
            {"type": "subscription.updated", "skuId": "e3", "prepaidUnits": {"enabled": 1}},
            {"type": "membership.added", "user": "dan", "group": "staff"},
        ],
        "more_units": [
            {"type": "subscription.updated", "skuId": "rare", "prepaidUnits": {"enabled": 5}},
        ],
        "a_product_is_defined": [
            {"type": "product.defined", "skuId": "undefined",
             "servicePlans": [{"servicePlanId": "new"}]},
            {"type": "subscription.updated", "skuId": "undefined", "prepaidUnits": {"enabled": 1}},
        ],
        "a_location_and_an_address_change": [
            {"type": "user.upserted", "user": "cid", "usageLocation": "US"},
            {"type": "user.upserted", "user": "ann", "proxyAddresses": None},
            {"type": "tenant.updated", "usageLocation": "CN"},
        ],
        "another_policy": [
            {"type": "tenant.updated", "policies": {"onGroupDeletion": "error"}},
            {"type": "group.deleted", "group": "staff"},
        ],
        "retries": [
            {"type": "group.reprocess", "group": "staff"},
            {"type": "user.reprocess", "user": "ann"},
        ],
    }  # fmt: skip
