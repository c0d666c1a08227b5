"""Records of the ``results`` topic: the answer to one requested change."""

from __future__ import annotations

from typing import Any

from engine.domain.messages import Rejection


def result(id: str, target: dict[str, str], status: str, why: Rejection | None) -> dict[str, Any]:
    """A record of ``results`` (contract, section 3)."""
    value: dict[str, Any] = {"causedBy": id, **target, "status": status}
    if why is not None:
        value |= {"error": why.error, "skuId": why.sku, "message": why.message}
        value["details"] = dict(why.details)
    return value


def restoration_result(
    id: str, tenant: str, user: str, not_restored: tuple[Rejection, ...]
) -> dict[str, Any]:
    """The record of ``results`` of an event that restored a user (R22).

    It is applied, whatever became of the licences that were direct; ``details.notRestored`` names
    those that cannot be given, in skuId order.
    """
    value: dict[str, Any] = {"causedBy": id, "tenant": tenant, "user": user, "status": "applied"}
    if not_restored:
        value["message"] = " ".join(
            ["Restored without these direct licences.", *(why.message for why in not_restored)]
        )
        value["details"] = {
            "notRestored": [
                {"skuId": why.sku, "error": why.error, "message": why.message}
                for why in not_restored
            ]
        }
    return value
