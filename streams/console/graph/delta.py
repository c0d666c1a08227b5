"""``users/delta`` and ``groups/delta``: everything once, and from then on what has changed.

A token has a place in the numbering of the read model's file, so it outlives the console's process.
If the file was rebuilt, or what was removed since then is forgotten, the answer is 410, as Graph's:
the client reads everything again.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, replace

import orjson

from streams.console.graph.calls import Answer, Call
from streams.console.graph.errors import GraphError, bad_request
from streams.console.graph.listings import Source, groups, users
from streams.console.graph.options import check_allowed, read_options
from streams.console.graph.views import selected, view
from streams.console.read_model import object_changes
from streams.console.read_model.object_changes import GROUP, MEMBER, USER, Change
from streams.console.read_model.pagination import MOST, GraphObject
from streams.console.read_model.rule_matches import HAS_RULE

FIRST = ("$select", "$top", "$deltatoken", "$expand")
AGAIN = ("$skiptoken", "$deltatoken")
LATEST = "latest"
MEMBERS = "members"
DEFAULT_TOP = 200


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the objects or their changes; what a token says.

    ``seq``: the number of the last change that was seen. ``phase``: ``objects`` or ``members``, of
    a first reading, which goes on after ``after``; or ``changes``.
    """

    source: str
    tenant: str
    epoch: str
    seq: int
    phase: str
    after: tuple[str, ...] = ()
    select: tuple[str, ...] | None = None
    members: bool = False
    top: int = DEFAULT_TOP

    def token(self) -> str:
        """Returns the place as text."""
        fields = [self.source, self.tenant, self.epoch, self.seq, self.phase, self.after,
                  self.select, self.members, self.top]  # fmt: skip
        return base64.urlsafe_b64encode(orjson.dumps(fields)).decode().rstrip("=")


def _place(token: str, source: Source) -> Place:
    """Returns the place that a token says. Raises: GraphError."""
    try:
        fields = orjson.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        name, tenant, epoch, seq, phase, after, select, members, top = fields
        known = (
            [name, tenant] == [source.path, source.fixed[0]]
            and type(seq) is int
            and 0 <= seq < 1 << 63
            and phase in ("objects", "members", "changes")
            and all(isinstance(each, str) for each in after)
            and len(after) in {"objects": (0, 1), "members": (0, 2), "changes": (0,)}[phase]
            and (select is None or {*select} <= {*source.kind.selected})
            and isinstance(members, bool)
            and type(top) is int
            and 1 <= top <= MOST
        )
        if known:
            chosen = None if select is None else tuple(select)
            return Place(name, tenant, epoch, seq, phase, tuple(after), chosen, members, top)
    except (ValueError, TypeError, KeyError, binascii.Error):
        pass
    raise bad_request("The token is not one that this delta query gave.")


def users_delta(call: Call) -> Answer:
    """Returns users, or those that have changed."""
    return _delta(call, users(call.tenant))


def groups_delta(call: Call) -> Answer:
    """Returns groups and memberships, or those that have changed."""
    return _delta(call, groups(call.tenant))


def _delta(call: Call, source: Source) -> Answer:
    given = call.parameters
    token = given.get("$skiptoken") or given.get("$deltatoken")
    if token and token != LATEST:
        check_allowed(given, AGAIN)
        if len(given) > 1:
            raise bad_request("A delta query goes on with the one token of its link.")
        place = _place(token, source)
        if place.epoch != object_changes.epoch(call.db) or place.seq < object_changes.oldest(
            call.db
        ):
            raise _gone(call, source)
    else:
        place = _beginning(call, source, given)
        if token == LATEST:
            return _answer(call, place, [], replace(place, phase="changes"), True)
    pages = {"objects": _objects, "members": _members, "changes": _changes}
    return pages[place.phase](call, source, place)


def _gone(call: Call, source: Source) -> GraphError:
    message = (
        "The token is too old, or the read model was rebuilt since then: read everything again,"
        " without a token."
    )
    location = {"location": call.link(f"{source.path}/delta")}
    return GraphError(410, message, "resyncRequired", headers=location)


def _beginning(call: Call, source: Source, given: Mapping[str, str]) -> Place:
    """Returns the place before everything, as of now. Raises: GraphError."""
    check_allowed(given, FIRST)
    has_members = source.kind.name == "groups"
    names = [name.strip() for name in given.get("$select", "").split(",") if name.strip()]
    wanted = [name for name in names if name.lower() != MEMBERS or not has_members]
    members = has_members and (not names or len(wanted) < len(names))
    if "$expand" in given:
        if not has_members or given["$expand"].lower() != MEMBERS:
            raise bad_request("$expand of a delta query may only be members, of groups.")
        members = True
    rest = {name: value for name, value in given.items() if name == "$top"}
    if wanted:
        rest["$select"] = ",".join(wanted)
    options = read_options(source.kind, call.tenant, rest, ("$select", "$top"))
    select = options.select if wanted or not names else ("id",)
    return Place(
        source.path,
        call.tenant,
        object_changes.epoch(call.db),
        object_changes.newest(call.db),
        "objects",
        select=select if select is None or "id" in select else ("id", *select),
        members=members,
        top=options.top if "$top" in rest else DEFAULT_TOP,
    )


def _answer(
    call: Call, place: Place, value: list[GraphObject], following: Place, is_last: bool
) -> Answer:
    """Returns a page with the link to the next one, or to what changes from now on."""
    kind, name = ("delta", "deltatoken") if is_last else ("next", "skiptoken")
    link = call.link(f"{place.source}/delta", **{name: following.token()})
    select = "" if place.select is None else f"({','.join(place.select)})"
    context = call.context(f"{place.source}{select}")
    return Answer(200, {"@odata.context": context, f"@odata.{kind}Link": link, "value": value})


# --- the first reading ---------------------------------------------------------------------------


def _objects(call: Call, source: Source, place: Place) -> Answer:
    after = place.after[0] if place.after else ""
    sql = f"SELECT {source.query} AND {source.kind.key} > ? ORDER BY {source.kind.key} LIMIT ?"
    rows = call.db.execute(sql, (*source.fixed, after, place.top + 1)).fetchall()
    shown = [view(source.kind, row) for row in rows[: place.top]]
    value = [selected(each, place.select) for each in shown]
    if len(rows) > place.top:
        following = replace(place, after=(shown[-1]["id"],))
        return _answer(call, place, value, following, False)
    if place.members:
        return _answer(call, place, value, replace(place, phase="members", after=()), False)
    return _answer(call, place, value, replace(place, phase="changes", after=()), True)


# Without those of groups with a rule: who is a member by a rule is not kept (R27).
_MEMBERS = f"""
SELECT m.grp, m.user FROM members m JOIN users u ON u.tenant = m.tenant AND u.user = m.user
LEFT JOIN groups g ON g.tenant = m.tenant AND g.grp = m.grp
WHERE m.tenant = ? AND (m.grp, m.user) > (?, ?) AND NOT coalesce({HAS_RULE}, 0)
ORDER BY m.grp, m.user LIMIT ?
"""


def _members(call: Call, _source: Source, place: Place) -> Answer:
    after = place.after or ("", "")
    rows = call.db.execute(_MEMBERS, (call.tenant, *after, place.top + 1)).fetchall()
    value: dict[str, GraphObject] = {}
    for group, user in rows[: place.top]:
        value.setdefault(group, _with_members(group))["members@delta"].append(_member(user))
    if len(rows) > place.top:
        following = replace(place, after=tuple(rows[place.top - 1]))
        return _answer(call, place, list(value.values()), following, False)
    following = replace(place, phase="changes", after=())
    return _answer(call, place, list(value.values()), following, True)


def _with_members(group: str) -> GraphObject:
    return {"id": group, "members@delta": []}


def _member(user: str) -> GraphObject:
    return {"@odata.type": "#microsoft.graph.user", "id": user}


# --- changes -------------------------------------------------------------------------------------


def _changes(call: Call, source: Source, place: Place) -> Answer:
    is_groups = source.kind.name == "groups"
    kinds = ((GROUP, MEMBER) if place.members else (GROUP,)) if is_groups else (USER,)
    newest = object_changes.newest(call.db)
    found = object_changes.since(call.db, call.tenant, kinds, place.seq, newest, place.top + 1)
    shown = found[: place.top]
    value: dict[str, GraphObject] = {}
    for change in shown:
        _add(call, source, place, value, change)
    if len(found) > place.top:
        return _answer(call, place, list(value.values()), replace(place, seq=shown[-1].seq), False)
    return _answer(call, place, list(value.values()), replace(place, seq=newest), True)


def _add(
    call: Call, source: Source, place: Place, value: dict[str, GraphObject], change: Change
) -> None:
    """Adds a change to the objects of a page; an object is there once, with its members."""
    if change.kind != MEMBER:
        found = _present(call, source, place, change.id)
        value[change.id] = {**value.get(change.id, {}), **found}
        return
    into = value.setdefault(change.id, {"id": change.id})
    member = _member(change.member)
    if change.gone:
        member["@removed"] = {"reason": "deleted"}
    into.setdefault("members@delta", []).append(member)


def _present(call: Call, source: Source, place: Place, id: str) -> GraphObject:
    """Returns an object as it is now; if it is gone, its id and the reason."""
    sql = f"SELECT {source.query} AND {source.kind.key} = ?"
    row = call.db.execute(sql, (*source.fixed, id)).fetchone()
    if row is not None:
        return selected(view(source.kind, row), place.select)
    sql = "SELECT 1 FROM recycle_bin WHERE tenant = ? AND user = ?"
    in_bin = source.kind.name == "users" and call.db.execute(sql, (call.tenant, id)).fetchone()
    return {"id": id, "@removed": {"reason": "changed" if in_bin else "deleted"}}
