"""Records of the ``audit`` topic, with the names of Entra's audit log."""

from __future__ import annotations

from typing import Any

from engine.domain.model import timestamp


def listed(licenses: dict[str, list[str]]) -> list[dict[str, Any]]:
    """Licences in the form of Graph's ``assignedLicenses``."""
    return [{"skuId": sku, "disabledPlans": sorted(off)} for sku, off in sorted(licenses.items())]


def application_result(licensed: int, with_errors: int) -> str:
    """Returns the result text of ``Finish applying …``, in the words of Entra's audit log."""
    return (
        f"Users successfully assigned licenses: {licensed},"
        f" Users for whom license assignment failed: {with_errors}."
    )


def audit(
    tenant: str,
    target: tuple[str, str],
    activity: str,
    at: int,
    cause: str,
    changed: list[tuple[str, Any, Any]],
    reason: str,
    failed: bool,
) -> dict[str, Any]:
    """A record of ``audit``, with Entra's names."""
    kind, id = target
    return {
        "time": timestamp(at),
        "tenant": tenant,
        "activity": activity,
        "category": "UserManagement" if kind == "User" else "GroupManagement",
        "target": {"type": kind, "id": id},
        "initiatedBy": "Seatflow",
        "result": "failure" if failed else "success",
        "resultReason": reason,
        "modifiedProperties": [
            {"name": name, "oldValue": old, "newValue": new} for name, old, new in changed
        ],
        "causedBy": cause,
    }
