"""The limits of what one object may have, as settings of the whole system (rules, *Limits*).

All workers must have the same limits: what they reject is part of the outcome.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits that the engine enforces; those of single members are the decoder's.

    - ``memberships``: direct memberships of a user.
    - ``licensed_groups``: groups through which a user is licensed, and ``assignments``: the
      licences, as (group, product) pairs, that they ask for together.
    - ``attributes`` of a user that rules can read (R27), and ``attribute_characters``: of all of
      their values together.
    - ``products``: products of a group, and those that a user has directly.
    - ``address_claims``: users who claim one address.
    - ``deferred_changes`` and ``deferred_bytes``: changes of one object that wait for a product
      (R21).
    - ``waiting_events``, also of ``deferred_bytes``: events of a user that wait for what is under
      way (R23).
    - ``group_completions``: reprocesses of a group, and changes of its licences, whose end is still
      to be reported.
    """

    memberships: int = 5_000
    licensed_groups: int = 1_000
    assignments: int = 2_000
    products: int = 500
    address_claims: int = 100_000
    deferred_changes: int = 100
    deferred_bytes: int = 262_144
    waiting_events: int = 1_000
    group_completions: int = 100
    attributes: int = 250
    attribute_characters: int = 65_536


DEFAULT_LIMITS: Final = Limits()
LISTED: Final = 5
"""Conflicts, missing requirements and blocking products that an error lists."""
