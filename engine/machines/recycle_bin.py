"""R22: users in the directory's recycle bin, and what a restored one is given again.

A user who is deleted restorably is unknown, with its facts kept: memberships count again, and the
direct licences are asked for again, when the directory sends the user again.
"""

from __future__ import annotations

from typing import Any

from engine.domain.messages import Products
from engine.domain.model import DIRECT
from engine.state.tenant_state import User
from engine.state.user_row_codecs import OptionalUserFacts

DirectLicenses = list[Any]
"""Direct licences in skuId order, each as [skuId, disabled plans]."""


def direct_licenses(user: User, products: Products) -> DirectLicenses:
    """Returns the direct licences of a known user.

    Those of a snapshot under way count; those of undefined products do not.
    """
    optional = user.optional_facts or {}
    snapshot, adopted = optional.get(OptionalUserFacts.ADOPTION, (False, ()))
    direct: dict[str, Any] = {}
    if not snapshot:
        direct = {e.plans.sku: e.disabled_plans for e in user.outcome.entries if not e.path_index}
    for sku, group, disabled, _ in adopted:
        if snapshot and group == DIRECT and sku in products:
            direct.setdefault(sku, disabled)
    return [[sku, list(disabled or ())] for sku, disabled in sorted(direct.items())]


def begin_restoration(user: User, event_id: str) -> None:
    """Has the direct licences of a user who leaves the bin asked for by the next evaluation."""
    if user.optional_facts is None:
        return
    direct = user.optional_facts.get(OptionalUserFacts.RECYCLE_BIN)
    user.set_optional_fact(OptionalUserFacts.RECYCLE_BIN, None)
    if direct:
        user.set_optional_fact(OptionalUserFacts.RESTORATION, [event_id, direct])
