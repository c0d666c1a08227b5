"""The audit log, derived from the input and from what else was published."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator

from tests.checkers.history import History, Json, Violation
from tests.spec import audit
from tests.spec.changes import Licenses
from tests.spec.events import change_of_licenses, listed_licenses

NAME = "audit agrees"
KIND = {"user-changes": "User", "group-changes": "Group"}
DUE = {  # of an event of a group, by its type and its final answer
    ("group.reprocess", "applied"): [audit.RECALCULATION],
    ("group.deleted", ""): [audit.DELETE_GROUP],
    ("licenses.changed", "applied"): [audit.SET_GROUP, audit.START, audit.FINISH],
    ("licenses.changed", "rejected"): [audit.SET_GROUP],
    ("licenses.set", "applied"): [audit.SET_GROUP, audit.START, audit.FINISH],
    ("licenses.set", "rejected"): [audit.SET_GROUP],
}


def audit_agrees(history: History) -> list[Violation]:
    """Checks that the audit log has every change, with its reason, and nothing else."""
    return [Violation(NAME, text) for text in _Log(history).wrong()]


class _Log:
    """The records of a history by target, with what they are compared with."""

    def __init__(self, history: History) -> None:
        self.records: defaultdict[tuple[str, str], list[Json]] = defaultdict(list)
        for key, record in history.log("audit"):
            assert record is not None
            self.records[record["target"]["type"], key].append(record)
        self.events: defaultdict[tuple[str, str], list[Json]] = defaultdict(list)
        for event in history.events:
            if event["topic"] in KIND:
                self.events[KIND[event["topic"]], event["key"]].append(event)
        self.answers: defaultdict[tuple[str, str], list[Json]] = defaultdict(list)
        for key, answer in history.log("results"):
            assert answer is not None
            self.answers["Group" if "group" in answer else "User", key].append(answer)
        self.published: defaultdict[str, list[Json | None]] = defaultdict(list)
        for key, user in history.log("user-licenses"):
            self.published[key].append(user)
        self.opened: defaultdict[tuple[str, int], list[Json]] = defaultdict(list)
        for key, error in history.log("errors"):
            if error is not None and "revision" in error:
                self.opened[key.rsplit("/", 2)[0], error["revision"]].append(error)
        self.statuses: defaultdict[str, set[str]] = defaultdict(set)
        for key, status in history.log("group-status"):
            assert status is not None
            numbers = audit.counts(status["membersLicensed"], status["membersWithErrors"])
            self.statuses[key].add(numbers)
        self.final_status = history.latest("group-status")

    def wrong(self) -> Iterator[str]:
        for (_, key), records in self.records.items():
            yield from _malformed(key, records)
        for kind, key in sorted({*self.records, *self.events}):
            yield from self._user(key) if kind == "User" else self._group(key)

    # ---- users

    def _user(self, key: str) -> Iterator[str]:
        records = [r for r in self.records["User", key] if r["activity"] == audit.CHANGE_USER]
        deletions = {e["id"] for e in self.events["User", key] if e["type"] == "user.deleted"}
        changes = [_content(r, deletions) for r in records]
        due = [_content(r, deletions) for r in self._user_records(key)]
        yield from _differences(key, due, changes)
        in_order = [[c for c in some if c[0] != "[]"] for some in (due, changes)]
        if in_order[0] != in_order[1] and Counter(due) == Counter(changes):
            yield f"{key}: the changes of licences are in another order"

    def _user_records(self, key: str) -> list[Json]:
        deleted = next(
            (e["id"] for e in self.events["User", key] if e["type"] == "user.deleted"), ""
        )
        due = []
        old: Json | None = None
        for new in self.published[key]:
            errors = self.opened[key, new["revision"]] if new is not None else []
            caused_by = new["causedBy"] if new is not None else deleted
            errors = errors or audit.new_errors(old, new)
            due.append(audit.user_change(key, old, new, caused_by, errors))
            old = new
        return [r for r in due if r is not None] + self._rejections("User", key)

    def _rejections(self, kind: str, key: str) -> list[Json]:
        changes = {e["id"] for e in self.events[kind, key] if e["type"].startswith("licenses.")}
        return [
            audit.record(
                audit.CHANGE_USER if kind == "User" else audit.SET_GROUP,
                key,
                answer["causedBy"],
                reason=audit.rejection(answer["error"], answer["message"]),
                failed=True,
            )
            for answer in self.answers[kind, key]
            if answer["status"] == "rejected" and answer["causedBy"] in changes
        ]

    # ---- groups

    def _group(self, key: str) -> Iterator[str]:
        records = self.records["Group", key]
        final = {a["causedBy"]: a["status"] for a in self.answers["Group", key]}
        due = [
            (activity, event["id"])
            for event in self.events["Group", key]
            for activity in DUE.get((event["type"], final.get(event["id"], "")), ())
        ]
        yield from _differences(key, due, [(r["activity"], r["causedBy"]) for r in records])
        refused = [r for r in records if r["result"] == "failure"]
        rejections = self._rejections("Group", key)
        yield from _differences(key, map(_content, rejections), map(_content, refused))
        yield from self._licences(key, [r for r in records if r["result"] == "success"])

    def _licences(self, key: str, records: list[Json]) -> Iterator[str]:
        """Follows the licences of the group through its log."""
        events = {e["id"]: e for e in self.events["Group", key]}
        licences: Licenses = {}
        for record in records:
            activity, caused_by = record["activity"], record["causedBy"]
            changed: tuple[object, object] | None = None
            if activity == audit.DELETE_GROUP:
                licences = {}
            elif activity == audit.SET_GROUP and caused_by in events:
                old = audit.assigned_licenses(licences)
                added, removed = change_of_licenses(events[caused_by], licences)
                licences = {s: off for s, off in licences.items() if s not in removed} | dict(added)
                changed = old, audit.assigned_licenses(licences)
            if activity not in audit.CATEGORY:
                continue
            reason = record["resultReason"]
            if activity != audit.FINISH:
                reason = ""
            elif reason not in self.statuses[key]:
                yield f"{key}: {caused_by} ended with other numbers than were published: {reason}"
            due = audit.record(activity, key, caused_by, changed=changed, reason=reason)
            yield from _differences(key, [_content(due)], [_content(record)])
        status = self.final_status.get(key)
        if status is not None and listed_licenses(status["assignedLicenses"]) != licences:
            yield f"{key}: the log ends with other licences than the group has"


def _malformed(key: str, records: list[Json]) -> Iterator[str]:
    for record in records:
        activity = record["activity"]
        if activity not in audit.CATEGORY:
            yield f"{key}: nobody knows the activity {activity}"
            continue
        due = audit.record(activity, key, record["causedBy"])
        for name in ("tenant", "category", "target", "initiatedBy"):
            if record[name] != due[name]:
                yield f"{key}: {name} of {activity} is {record[name]}"
        if activity == audit.CONCURRENCY and record["result"] != "failure":
            yield f"{key}: an abandoned attempt is no success"


def _content(record: Json, deletions: Collection[str] = ()) -> tuple[str, ...]:
    """Returns what is compared; a tombstone does not say which deletion caused it."""
    changed = json.dumps(record["modifiedProperties"], sort_keys=True)
    caused_by = record["causedBy"]
    caused_by = "a deletion" if caused_by in deletions else caused_by
    return changed, record["activity"], record["result"], record["resultReason"], caused_by


def _differences(
    key: str, due: Iterable[tuple[str, ...]], found: Iterable[tuple[str, ...]]
) -> Iterator[str]:
    wanted, actual = Counter(due), Counter(found)
    for record in (wanted - actual).elements():
        yield f"{key} has no record {record}"
    for record in (actual - wanted).elements():
        yield f"{key} has a record that nothing calls for: {record}"
