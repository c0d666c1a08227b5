"""Records of the ``audit`` topic, with the names of Entra's audit log."""

from __future__ import annotations

from typing import Any

from engine.domain.model import timestamp


def listed(licenses: dict[str, list[str]]) -> list[dict[str, Any]]:
    """Licences in the form of Graph's ``assignedLicenses``."""
    return [{"skuId": sku, "disabledPlans": sorted(off)} for sku, off in sorted(licenses.items())]


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
