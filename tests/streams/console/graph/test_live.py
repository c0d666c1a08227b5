"""Graph's calls on a real broker with a worker: changes answer with their outcome, and tokens of
delta queries outlive the console's process."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx2
import pytest

from streams.runtime.deadline import Deadline
from tests.streams.console.browser import console_process
from tests.support.kafka import Kafka
from tests.support.system import Events, System

pytestmark = pytest.mark.kafka
E3 = "6fd2c87f-b296-42f0-b197-1e91e994b900"
ANN = {
    "accountEnabled": True,
    "displayName": "Ann",
    "mailNickname": "ann",
    "userPrincipalName": "ann@contoso.example",
    "usageLocation": "US",
    "passwordProfile": {"password": "of Ann"},
}
SALES = {"displayName": "Sales", "mailEnabled": False, "mailNickname": "s", "securityEnabled": True}


def call(url: str, method: str, path: str, body: Any = None, status: int = 200) -> Any:
    address = path if path.startswith("http") else f"{url}/contoso/v1.0/{path}"
    answer = httpx2.request(method, address, json=body, timeout=30)
    assert answer.status_code == status, answer.text
    return answer.json() if answer.content else None


def states_of_ann(url: str) -> list[str]:
    """Returns Ann's states once there are any: members follow after a group's change."""
    deadline = Deadline(60)
    while True:
        found = call(url, "GET", "users/ann@contoso.example")["licenseAssignmentStates"]
        if found or deadline.has_passed:
            return [each["state"] for each in found]
        time.sleep(0.1)


def test_changes_and_delta_queries_across_a_restart(kafka: Kafka, tmp_path: Path) -> None:
    """Each answer shows what its call did; the second console goes on where the first one ended."""
    system, make = System(kafka.bootstrap, partitions=2), Events()
    try:
        system.worker()
        system.publish([make.product(E3), make.seats(E3, 1)])
        system.settle()
        with console_process(system.env, tmp_path) as (url, _):
            ann = call(url, "POST", "users", ANN, 201)
            group = call(url, "POST", "groups", SALES, 201)
            address = {"@odata.id": f"https://graph.microsoft.com/v1.0/users/{ann['id']}"}
            call(url, "POST", f"groups/{group['id']}/members/$ref", address, 204)
            added = {"addLicenses": [{"skuId": E3, "disabledPlans": []}], "removeLicenses": []}
            call(url, "POST", f"groups/{group['id']}/assignLicense", added, 202)
            assert states_of_ann(url) == ["Active"]
            first = call(url, "GET", "users/delta")
            assert [each["id"] for each in first["value"]] == [ann["id"]]
        link = first["@odata.deltaLink"].removeprefix(url)
        with console_process(system.env, tmp_path) as (url, _):
            assert call(url, "GET", url + link)["value"] == []
            call(url, "PATCH", f"users/{ann['id']}", {"displayName": "Ann II"}, 204)
            changed = call(url, "GET", url + link)["value"]
            assert [each["displayName"] for each in changed] == ["Ann II"]
            call(url, "DELETE", f"users/{ann['id']}", status=204)
            restored = call(url, "POST", f"directory/deletedItems/{ann['id']}/restore")
            assert [x["skuId"] for x in restored["assignedLicenses"]] == [E3]
            audit = httpx2.get(f"{url}/v1/tenants/contoso/audit?$top=999").json()["value"]
            sent = [each["activity"] for each in audit if each["initiatedBy"] != "Seatflow"]
            assert len(sent) == 7
    finally:
        system.close()
