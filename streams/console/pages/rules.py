"""The licensing rules in a sentence each, shown where a page names one by its number.

``docs/spec/rules.md`` is the specification; a test compares numbers and titles with it.
"""

from __future__ import annotations

from typing import NamedTuple

from markupsafe import Markup


class Rule(NamedTuple):
    """A rule: its title in the specification, and what it means for a user."""

    title: str
    text: str


RULES = {
    "R1": Rule("Union", "A user has every service plan that any of the licences enables."),
    "R2": Rule("One seat", "A user takes one seat of a product, whatever the number of paths."),
    "R3": Rule("Opt-out", "A licence enables all plans of the product but those switched off."),
    "R4": Rule(
        "Intent is never lost",
        "Each product that a user is asked to have is shown: as a licence, or with its error.",
    ),
    "R5": Rule(
        "Active licences are never revoked by the processor",
        "A licence ends only when nothing asks for it; what goes wrong later is shown as an error.",
    ),
    "R6": Rule(
        "All or nothing",
        "The products that a member still lacks of a group are assigned together or not at all.",
    ),
    "R7": Rule("Checks", "A product is assigned if it passes five checks, in their order."),
    "R7.1": Rule("Location", "Every enabled plan must be available in the usage location."),
    "R7.2": Rule("Conflict", "Plans that exclude each other cannot be enabled together."),
    "R7.3": Rule("Dependency", "Plans that an enabled plan requires must be enabled, too."),
    "R7.4": Rule("Uniqueness", "With a new mail plan, no address may be an earlier user's."),
    "R7.5": Rule("Seats", "There must be a free seat, unless the user has one already."),
    "R8": Rule("Order", "Groups are tried in the order of joining; who waited longest is next."),
    "R9": Rule("Retry", "Each event about a user or a group of it evaluates the user again."),
    "R10": Rule("Reprocess", "Reprocess retries what is in error, and changes nothing else."),
    "R11": Rule(
        "Removal",
        "A licence that nothing asks for ends, unless a plan that stays depends on it.",
    ),
    "R12": Rule("Changed plans", "Plans that are switched on later are checked like new ones."),
    "R13": Rule("Group deletion", "A deleted group's licences end as if its members had left."),
    "R14": Rule("Drift", "A licence that no longer passes a check stays, with the error."),
    "R15": Rule("Shrinking", "Fewer seats than used revoke nothing: only new users get none."),
    "R16": Rule(
        "Direct change",
        "A direct change adds and removes in one step: all of it is done, or nothing.",
    ),
    "R17": Rule(
        "Direct and inherited licences coexist",
        "Leaving a group keeps the direct licence, and the reverse.",
    ),
    "R18": Rule("Proxy addresses", "An address belongs to the first user who claims it."),
    "R19": Rule("Mail attributes", "Mail and addresses follow from what was given and mail plans."),
    "R20": Rule(
        "Prerequisites in the group",
        "The licences of a group must contain what their plans require.",
    ),
    "R21": Rule("Unknown product", "A change that names an undefined product waits for it."),
    "R22": Rule("Members", "Only direct members of a group get its licences."),
    "R23": Rule("Concurrency", "Changes of one user are made one after the other."),
    "R24": Rule("Idempotence", "An event that comes twice changes nothing the second time."),
    "R25": Rule("Adoption", "Licences of a snapshot are taken over as they are."),
    "R27": Rule("Rules make members", "A group with a rule has the users that the rule matches."),
    "R28": Rule("Whole lists", "A whole list of licences removes what it does not name."),
    "R29": Rule("Any producer", "An event on the wrong partition is forwarded to the right one."),
}


def rule_link(number: str) -> Markup:
    """Returns a rule's number, with its sentence as a tooltip and a link to all rules."""
    rule = RULES.get(number)
    if rule is None:
        return Markup("{}").format(number)
    return Markup('<a class="rule" href="/rules#{0}" title="{1}: {2}">{0}</a>').format(
        number, rule.title, rule.text
    )
