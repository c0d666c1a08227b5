"""Members that membership rules make (R27), found in the read model.

Which users a rule matches is not published: it follows from their facts and attributes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import orjson

from engine.domain.events import ABSENT, GroupUpserted
from engine.domain.vocabulary import RuleProcessingState
from engine.membership_rules import properties
from engine.membership_rules.compiler import Value
from engine.membership_rules.rule_set import MembershipRule
from streams.contract.field_checks import check_attributes

Connection = sqlite3.Connection
Values = dict[str, Value]
"""The values of a user's properties, by their keys."""

_COLUMNS: Final = (
    (properties.OBJECT_ID, "u.user"),
    (properties.USER_PRINCIPAL_NAME, "u.upn"),
    (properties.USAGE_LOCATION, "u.location"),
    (properties.MAIL, "u.mail"),
    (properties.MAIL_NICKNAME, "u.nickname"),
)
_FACT_COLUMNS: Final = f"{', '.join(column for _, column in _COLUMNS)}, u.addresses, a.body"
WITH_ATTRIBUTES: Final = "LEFT JOIN attributes a ON a.tenant = u.tenant AND a.user = u.user"
_FACTS: Final = (
    f"SELECT {_FACT_COLUMNS} FROM users u {WITH_ATTRIBUTES} WHERE u.tenant = ? AND u.known"
)
HAS_RULE: Final = "json_extract(g.body, '$.membershipRule') IS NOT NULL"
# While a rule is paused the members are not published, but those who have a licence by the group.
IS_RULE_MEMBER: Final = (
    "CASE json_extract(g.body, '$.membershipRuleProcessingState') WHEN 'Paused'"
    " THEN u.shape IN (SELECT p.shape FROM paths p WHERE p.tenant = g.tenant AND p.grp = g.grp)"
    f" ELSE u.known AND rule_matches(json_extract(g.body, '$.membershipRule'), {_FACT_COLUMNS}) END"
)
"""SQL: the user ``u`` with the attributes ``a`` is a member of ``g``, which has a rule."""


def add_functions(connection: Connection) -> None:
    """Gives a connection the SQL function of ``IS_RULE_MEMBER``."""
    connection.create_function("rule_matches", -1, _rule_matches, deterministic=True)


def _rule_matches(text: str, *facts: Any) -> bool:
    return matches(_rule(text), _values(facts))


@lru_cache(maxsize=256)
def _rule(text: str) -> MembershipRule:
    return MembershipRule(text, False, 0, 0)


def rule_of(status: Mapping[str, Any] | None) -> MembershipRule | None:
    """Returns the rule in a group's published status; None if it has none."""
    if status is None or "membershipRule" not in status:
        return None
    state = status["membershipRuleProcessingState"]
    return MembershipRule(status["membershipRule"], state == RuleProcessingState.PAUSED, 0, 0)


def rule_after(rule: MembershipRule | None, event: GroupUpserted) -> MembershipRule | None:
    """Returns the rule that a group has after the event; one that cannot be read has no matches."""
    text: Any = event.membership_rule
    if text is ABSENT:
        text = rule.text if rule is not None else None
    paused = rule is not None and rule.paused
    if event.processing_state is not ABSENT:
        paused = event.processing_state == RuleProcessingState.PAUSED
    return None if text is None else MembershipRule(text, paused, 0, 0)


def attributes_of(db: Connection, tenant: str, user: str) -> dict[str, Any]:
    """Returns a user's attributes, by the keys of their properties."""
    sql = "SELECT body FROM attributes WHERE tenant = ? AND user = ?"
    row = db.execute(sql, (tenant, user)).fetchone()
    return _attributes(row[0] if row else None)


def _attributes(body: str | None) -> dict[str, Any]:
    # One by one: patches may have given a user more of them than one event can have.
    given = orjson.loads(body) if body else {}
    checked = [check_attributes({name: value}) for name, value in given.items()]
    return {
        name: value
        for attribute in checked
        if isinstance(attribute, tuple)
        for name, value in attribute
        if value is not None
    }


def matches(rule: MembershipRule, values: Values) -> bool:
    """Returns whether a rule holds; False for one that is paused or cannot be read."""
    return rule.holds is not None and rule.holds([values.get(key) for key in rule.keys])


def users_matching(db: Connection, tenant: str, rules: Sequence[MembershipRule]) -> Iterator[str]:
    """Yields the known users whom at least one of the rules matches, in the order of their ids."""
    live = [rule for rule in rules if rule.holds is not None]
    if live:
        for row in db.execute(f"{_FACTS} ORDER BY u.user", (tenant,)):
            values = _values(row)
            if any(matches(rule, values) for rule in live):
                yield row[0]


def values_of(db: Connection, tenant: str, user: str) -> Values:
    """Returns the values of the properties of one known user; empty if there is no such user."""
    row = db.execute(f"{_FACTS} AND u.user = ?", (tenant, user)).fetchone()
    return {} if row is None else _values(row)


def _values(row: Any) -> Values:
    *facts, addresses, body = row
    values: Values = _attributes(body)
    for (key, _), value in zip(_COLUMNS, facts, strict=True):
        if value:
            values[key] = value
    if listed := orjson.loads(addresses or "[]"):
        values[properties.PROXY_ADDRESSES] = tuple(listed)
    return values
