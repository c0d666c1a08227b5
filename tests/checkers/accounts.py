"""Guarantees 4 and 5: revisions, error records, group numbers, answers and dead letters add up."""

from __future__ import annotations

from collections import Counter

from tests.checkers.history import History, Json, Record, Violation, states, tenant_of
from tests.checkers.intent import AskedGroup, Intent, intent_of
from tests.spec.facts import OTHER

VOLATILE = {"revision", "updatedAt", "causedBy"}
COMMANDS = {"licenses.changed", "licenses.set", "user.reprocess", "group.reprocess"}


def revisions_grow(history: History) -> list[Violation]:
    """Checks that each published state of a user has the next revision and a new content.

    After a tombstone the revisions may continue or start again at 1.
    """
    found: list[Violation] = []
    last: dict[str, Json] = {}
    buried: set[str] = set()
    for key, user in history.log("user-licenses"):
        if user is None:
            buried.add(key)
            continue
        before = last.get(key)
        allowed = {(before["revision"] if before else 0) + 1} | ({1} if key in buried else set())
        if user["revision"] not in allowed:
            text = f"{key} has revision {user['revision']} after {before and before['revision']}"
            found.append(Violation("revisions grow", text))
        if before and key not in buried and content(before) == content(user):
            text = f"{key} revision {user['revision']} says nothing new"
            found.append(Violation("revisions grow", text))
        last[key] = user
        buried.discard(key)
    return found


def content(user: Json) -> Json:
    """Returns the members of a published user that say something new."""
    return {name: value for name, value in user.items() if name not in VOLATILE}


def errors_agree(history: History) -> list[Violation]:
    """Checks that the open error records are the errors in the users' states."""
    wanted = {
        f"{key}/{s['assignedByGroup'] or 'direct'}/{s['skuId']}": (s["state"], s["error"])
        for key, user in history.users.items()
        for s in states(user)
        if s["error"] != "None"
    }
    opened = {k: (e["state"], e["error"]) for k, e in history.latest("errors").items()}
    return [
        Violation("errors agree", f"{key}: record {opened.get(key)}, state {wanted.get(key)}")
        for key in sorted(set(wanted) | set(opened))
        if wanted.get(key) != opened.get(key)
    ]


def groups_agree(history: History) -> list[Violation]:
    """Checks that the final numbers of each group are those of its members' states."""
    intent = intent_of(history)
    found: list[Violation] = []
    published, through = history.latest("group-status"), states_through_groups(history)
    for key, group in intent.groups.items():
        if group.unclear:
            continue
        if key not in published:
            found.append(Violation("groups agree", f"{key} has no status"))
            continue
        for name, value in expected_status(intent, through, key, group).items():
            if published[key][name] != value:
                text = f"{key} {name} is {published[key][name]!r}, should be {value!r}"
                found.append(Violation("groups agree", text))
    return found


def expected_status(intent: Intent, through: Through, key: str, group: AskedGroup) -> Json:
    """Returns the status that follows from the states of the group's members."""
    members = intent.members_of.get(key, [])
    users = through.get(key, {})
    errors = [counted_errors(products) for products in users.values()]
    return {
        "licenseProcessingState": "ProcessingComplete",
        "deleted": group.deleted,
        "assignedLicenses": [
            {"skuId": sku, "disabledPlans": sorted(off)}
            for sku, off in sorted(group.licenses.items())
        ],
        "members": len(members),
        "membersLicensed": sum(1 for user in members if all_active(group, users.get(user, {}))),
        "membersWithErrors": sum(1 for some in errors if some),
        "errors": dict(Counter(error for some in errors for error in some)),
    }


Through = dict[str, dict[str, dict[str, Json]]]


def states_through_groups(history: History) -> Through:
    """Returns the users' states through groups, by tenant/group, tenant/user and skuId."""
    found: Through = {}
    for user, published in history.users.items():
        for s in states(published):
            group = f"{tenant_of(user)}/{s['assignedByGroup']}"
            if s["assignedByGroup"] is not None:
                found.setdefault(group, {}).setdefault(user, {})[s["skuId"]] = s
    return found


def all_active(group: AskedGroup, products: dict[str, Json]) -> bool:
    """Returns True if all licences of the group are active."""
    active = {sku for sku, state in products.items() if state["state"] == "Active"}
    return bool(group.licenses) and set(group.licenses) <= active


def counted_errors(products: dict[str, Json]) -> set[str]:
    """Returns the errors to count: `Other` only if it is the user's only error from the group."""
    errors = {s["error"] for s in products.values() if s["error"] != "None"}
    return errors if errors == {OTHER} else errors - {OTHER}


def every_command_answered(history: History) -> list[Violation]:
    """Checks that each command has one final answer, after at most one `deferred` (R21)."""
    intent = intent_of(history)
    found: list[Violation] = []
    commands = {(e["key"], e["id"]): e for e in history.events if e["type"] in COMMANDS}
    for identity, event in commands.items():
        given = intent.answers.get(identity, [])
        finals = [given] if len(given) == 1 else []
        if len(given) == 2 and given[0] == "deferred":
            finals = [given[1:]]
        waits = given == ["deferred"] and bool(intent.undefined(event))
        if not waits and finals not in ([["applied"]], [["rejected"]]):
            text = f"{event['type']} {event['id']} of {event['key']} was answered {given}"
            found.append(Violation("every command answered", text))
    restoring = restorations(history)
    for (key, cause), given in sorted(intent.answers.items()):
        if (key, cause) in restoring and given != ["applied"]:
            text = f"{key}: the restoration {cause} was answered {given}"
            found.append(Violation("every command answered", text))
        elif (key, cause) not in restoring and (key, cause) not in commands:
            found.append(Violation("every command answered", f"{key}: nobody asked {cause}"))
    return found


def restorations(history: History) -> set[tuple[str, str]]:
    """Returns the events that may take a user out of the recycle bin (R22), by key and id."""
    found: set[tuple[str, str]] = set()
    deleted: set[str] = set()
    for event in history.events:
        if event["type"] == "user.deleted" and event.get("restorable", False):
            deleted.add(event["key"])
        elif event["type"] == "user.upserted" and event["key"] in deleted:
            found.add((event["key"], event["id"]))
    return found


def bad_input_is_dead_letter(history: History, prefix: str = "licensing.") -> list[Violation]:
    """Checks that dead-letters has exactly the unreadable records, once and byte for byte."""
    name = "bad input is dead letter"
    letters: dict[tuple[str, str, str], list[Record]] = {}
    for record in history.records:
        if record.topic == "dead-letters":
            letters.setdefault(origin(record, prefix), []).append(record)
    found: list[Violation] = []
    for bad in history.bad:
        where = (bad.topic, str(bad.partition), str(bad.offset))
        copies = letters.pop(where, [])
        if len(copies) != 1:
            found.append(Violation(name, f"{where} has {len(copies)} dead letters"))
        for copy in copies:
            if (copy.key, copy.raw) != (bad.key, bad.raw):
                found.append(Violation(name, f"{where} was changed"))
            reason = copy.headers.get("dlq.reason", "")
            if not reason.strip() or "\n" in reason:
                found.append(Violation(name, f"{where} has no reason in one line: {reason!r}"))
    found += [Violation(name, f"{where} was readable") for where in sorted(letters)]
    return found


def origin(letter: Record, prefix: str) -> tuple[str, str, str]:
    topic = letter.headers.get("dlq.topic", "").removeprefix(prefix)
    return topic, letter.headers.get("dlq.partition", ""), letter.headers.get("dlq.offset", "")
