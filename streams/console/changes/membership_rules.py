"""The form for the membership rule of a group (R27), with the members that it would make."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from engine.domain.vocabulary import RuleProcessingState
from engine.membership_rules.errors import MembershipRuleError
from engine.membership_rules.parser import parse_rule
from engine.membership_rules.rule_set import MembershipRule
from streams.console.changes.proposal import (
    NAMED,
    ChangeError,
    Given,
    Proposal,
    counted,
    find_group,
    name_of,
    named,
    proposal,
)
from streams.console.commands import definitions
from streams.console.read_model import queries
from streams.console.read_model.queries import Connection
from streams.console.read_model.rule_matches import rule_of, users_matching

ON, PAUSED = RuleProcessingState.ON.value, RuleProcessingState.PAUSED.value


def facts(db: Connection, tenant: str, given: Given) -> dict[str, Any]:
    """Returns the group, and its rule and state as far as it has one."""
    group = find_group(db, tenant, given.one("group"))
    rule = rule_of(queries.group_status(db, tenant, group["id"]))
    text, state = ("", ON) if rule is None else (rule.text, PAUSED if rule.paused else ON)
    return {"group": group, "rule": text, "state": state, "states": (ON, PAUSED)}


def propose(db: Connection, tenant: str, given: Given) -> Proposal:
    """Returns the change of a group's rule. Raises: ChangeError."""
    group = find_group(db, tenant, given.one("group"))
    text, state = given.one("rule"), given.one("state") or ON
    if state not in (ON, PAUSED):
        raise ChangeError(f"The state of a rule is {ON} or {PAUSED}.")
    present = rule_of(queries.group_status(db, tenant, group["id"]))
    wanted = None
    if text:
        try:
            parse_rule(text)
        except MembershipRuleError as error:
            raise ChangeError(f"The rule cannot be read. {error}") from None
        wanted = MembershipRule(text, state == PAUSED, 0, 0)
    if _row(wanted) == _row(present):
        raise ChangeError("Nothing would change.")
    members: dict[str, Any] = {"membershipRule": text or None}
    if wanted is not None:
        members["membershipRuleProcessingState"] = state
    lines = [*_said(group, wanted), *_members(db, tenant, group["id"], present, wanted)]
    command = definitions.put_group(group["id"], members)
    return proposal([command], lines, f"/groups/{quote(group['id'])}")


def _row(rule: MembershipRule | None) -> tuple[str, bool] | None:
    return None if rule is None else (rule.text, rule.paused)


def _said(group: dict[str, Any], wanted: MembershipRule | None) -> list[str]:
    if wanted is None:
        said = f"Take the membership rule away from {name_of(group)}."
        return [said, "Members that were added one by one count again."]
    state = f", {PAUSED.lower()}" if wanted.paused else ""
    return [f"Give {name_of(group)} the membership rule{state}: {wanted.text}"]


def _members(
    db: Connection,
    tenant: str,
    group: str,
    present: MembershipRule | None,
    wanted: MembershipRule | None,
) -> list[str]:
    """Returns who would be a member, who would join and who would leave, a sentence each."""
    if wanted is not None and wanted.paused:
        return ["The members stay as they are while the rule is paused."]
    after = _of_rule(db, tenant, group, wanted)
    lines = [f"Members would be {counted(len(after))}{_named(db, tenant, after)}"]
    if present is not None and present.paused:
        return lines  # who is a member of a group with a paused rule is not published
    before = _of_rule(db, tenant, group, present)
    for verb, users in (
        ("join", [user for user in after if user not in before]),
        ("leave", [user for user in before if user not in after]),
    ):
        if users:
            lines.append(f"{counted(len(users))} would {verb}{_named(db, tenant, users)}")
    return lines


def _of_rule(
    db: Connection, tenant: str, group: str, rule: MembershipRule | None
) -> dict[str, None]:
    """Returns the members that a rule makes; without one, those that events make."""
    if rule is not None:
        return dict.fromkeys(users_matching(db, tenant, [rule]))
    sql = (
        "SELECT m.user FROM members m JOIN users u ON u.tenant = m.tenant AND u.user = m.user"
        " WHERE m.tenant = ? AND m.grp = ? AND u.known ORDER BY m.user"
    )
    return {user: None for (user,) in db.execute(sql, (tenant, group))}


def _named(db: Connection, tenant: str, users: dict[str, None] | list[str]) -> str:
    """Returns the names of the first of the users as the end of a sentence."""
    if not users:
        return "."
    ids = list(users)
    sql = "SELECT name FROM users WHERE tenant = ? AND user = ?"
    first = [db.execute(sql, (tenant, id)).fetchone()[0] or id for id in ids[:NAMED]]
    return f": {named([*first, *ids[NAMED:]])}."
