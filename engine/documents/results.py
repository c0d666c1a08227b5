"""Records of the ``results`` topic: the answer to one requested change."""

from __future__ import annotations

from typing import Any

from engine.rules.direct_change import Rejection


def result(id: str, target: dict[str, str], status: str, why: Rejection | None) -> dict[str, Any]:
    """A record of ``results`` (contract, section 3)."""
    value: dict[str, Any] = {"causedBy": id, **target, "status": status}
    if why is not None:
        value |= {"error": why.error, "skuId": why.sku, "message": why.message}
        value["details"] = dict(why.details)
    return value
