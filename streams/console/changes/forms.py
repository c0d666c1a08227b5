"""The forms of the pages, by the names in their URLs."""

from __future__ import annotations

from streams.console.changes import groups, licences, membership_rules, seats
from streams.console.changes.proposal import Form

FORMS = {
    form.name: form
    for form in (
        Form(
            "group-licences",
            "Licences of a group",
            "Assign and remove licences of a group, with their service plans, in one change.",
            "group",
            licences.group_facts,
            licences.propose_group,
        ),
        Form(
            "user-licences",
            "Direct licences of a user",
            "Assign and remove direct licences of a user, with their service plans, in one change.",
            "user",
            licences.user_facts,
            licences.propose_user,
        ),
        Form(
            "exchange",
            "Exchange a group's product",
            "Move all members of a group from one product to another in one change, without a gap.",
            "group",
            licences.group_facts,
            licences.propose_exchange,
        ),
        Form(
            "add-members",
            "Add members to a group",
            "Users by id or principal name.",
            "group",
            groups.group_facts,
            groups.propose_members,
        ),
        Form(
            "remove-members",
            "Remove members from a group",
            "Users by id or principal name. Licences that only this group gives end.",
            "group",
            groups.group_facts,
            groups.propose_removal,
        ),
        Form(
            "new-group",
            "New group",
            "A group without members and licences. Its members are then added one by one, by a"
            " feed, or by a membership rule.",
            "",
            groups.new_group_facts,
            groups.propose_new_group,
        ),
        Form(
            "membership-rule",
            "Membership rule of a group",
            "A group with a rule has exactly the users whom the rule matches, in the language of"
            " Entra's dynamic groups. Without a text, the rule is taken away.",
            "group",
            membership_rules.facts,
            membership_rules.propose,
        ),
        Form(
            "seats",
            "Buy or give back seats",
            "The enabled units of a product's subscription.",
            "",
            seats.facts,
            seats.propose,
        ),
        Form(
            "reprocess",
            "Reprocess users",
            "Retry what is in error for some users.",
            "",
            groups.no_facts,
            groups.propose_reprocess,
        ),
        Form(
            "reprocess-group",
            "Reprocess a group",
            "Retry what is in error for the members of a group.",
            "group",
            groups.group_facts,
            groups.propose_group_reprocess,
        ),
    )
}
