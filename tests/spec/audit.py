"""Section 3 of `contract.md`: the records of `audit`, and which of them a change is due."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Json = dict[str, Any]

CHANGE_USER = "Change user license"
SET_GROUP = "Set group license"
START = "Start applying group based license to users"
FINISH = "Finish applying group based license to users"
RECALCULATION = "Trigger group license recalculation"
DELETE_GROUP = "Delete group"
CONCURRENCY = "LicenseAssignmentAttributeConcurrencyException"
CATEGORY = {
    CHANGE_USER: "UserManagement",
    CONCURRENCY: "UserManagement",
    SET_GROUP: "GroupManagement",
    START: "GroupManagement",
    FINISH: "GroupManagement",
    RECALCULATION: "GroupManagement",
    DELETE_GROUP: "GroupManagement",
}
TARGET = {"UserManagement": "User", "GroupManagement": "Group"}


def record(
    activity: str,
    key: str,
    caused_by: str,
    *,
    changed: tuple[object, object] | None = None,
    reason: str = "",
    failed: bool = False,
) -> Json:
    """Returns an audit record of the user or group with this key, without its time.

    `changed`: the old and new `assignedLicenses`.
    """
    tenant, _, id = key.partition("/")
    category = CATEGORY[activity]
    properties: list[Json] = []
    if changed is not None:
        old, new = changed
        properties.append({"name": "AssignedLicense", "oldValue": old, "newValue": new})
    return {
        "tenant": tenant,
        "activity": activity,
        "category": category,
        "target": {"type": TARGET[category], "id": id},
        "initiatedBy": "Seatflow",
        "result": "failure" if failed else "success",
        "resultReason": reason,
        "modifiedProperties": properties,
        "causedBy": caused_by,
    }


def assigned_licenses(licenses: Mapping[str, Iterable[str]]) -> list[Json]:
    """Returns a group's licences (skuId -> disabled plans) in Graph's form."""
    return [{"skuId": sku, "disabledPlans": sorted(off)} for sku, off in sorted(licenses.items())]


def counts(licensed: int, in_error: int) -> str:
    """Returns the result text of `Finish …`, in Entra's words."""
    return (
        f"Users successfully assigned licenses: {licensed},"
        f" Users for whom license assignment failed: {in_error}."
    )


def rejection(error: str, message: str) -> str:
    return f"{error}: {message}"


def new_errors(old: Json | None, new: Json | None) -> list[Json]:
    """Returns the states in error that the user did not have, or had otherwise."""
    before = [_without_since(s) for s in old["licenseAssignmentStates"]] if old else []
    states = new["licenseAssignmentStates"] if new else []
    return [s for s in states if s["error"] != "None" and _without_since(s) not in before]


def _without_since(state: Json) -> Json:
    return {name: value for name, value in state.items() if name != "since"}


def user_change(
    key: str, old: Json | None, new: Json | None, caused_by: str, errors: Iterable[Json]
) -> Json | None:
    """Returns the record due when a user is published, None if there is none.

    `old`, `new`: the `user-licenses` records before and now; `errors`: states that are in error
    now and were not before.
    """
    before = old["assignedLicenses"] if old else []
    after = new["assignedLicenses"] if new else []
    reasons = sorted({rejection(s["error"], s["message"]) for s in errors})
    if before == after and not reasons:
        return None
    changed = None if before == after else (before, after)
    reason = "; ".join(reasons)
    return record(CHANGE_USER, key, caused_by, changed=changed, reason=reason, failed=bool(reasons))
