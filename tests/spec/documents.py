"""Section 3 of `contract.md`: the records that a world publishes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from tests.spec import audit
from tests.spec.events import named_products
from tests.spec.facts import (
    COUNT,
    OTHER,
    UNIQUENESS,
    AssignmentState,
    enabled_plans,
    held,
    user_plans,
)
from tests.spec.mail import all_addresses, mail_address, nickname

if TYPE_CHECKING:
    from tests.spec.evaluations import Evaluations
    from tests.spec.tenants import Tenant, User

Json = dict[str, Any]
Log = Iterable[tuple[str, str, Json | None]]
VOLATILE = {"revision", "updatedAt", "causedBy"}


def publish_user(world: Evaluations, tenant: Tenant, name: str, at: object) -> None:
    """Emits the user's state if it differs from the one published before, or a tombstone."""
    key = f"{tenant.name}/{name}"
    old = world.latest.get("user-licenses", {}).get(key)
    if name in tenant.users and tenant.users[name].bin is None:
        user = tenant.users[name]
        emit_changed(world, "user-licenses", key, user_document(world, tenant, name), at)
        new = world.latest.get("user-licenses", {}).get(key)
        user.published_nickname = new["mailNickname"] if new else None
    elif old is not None:
        new = None
        world.emit("user-licenses", key, None)
    else:
        return
    if new is not old:
        cause = world.cause["id"]
        due = audit.user_change(key, old, new, cause, audit.new_errors(old, new))
        if due is not None:
            world.emit("audit", key, due)


def publish_rest(world: Evaluations, at: object) -> None:
    """Emits error records, group numbers and counters that changed, and closes errors."""
    for tenant in world.tenants.values():
        if world.cause.get("tenant", tenant.name) != tenant.name:
            continue
        for topic, documents in tenant_documents(world, tenant).items():
            for key, value in sorted(world.latest.get(topic, {}).items()):
                ours = key.split("/")[0] == tenant.name
                if ours and value is not None and key not in documents:
                    world.emit(topic, key, None)
            for key, document in documents.items():
                emit_changed(world, topic, key, document, at)


def emit_changed(world: Evaluations, topic: str, key: str, new: Json, at: object) -> None:
    old = world.latest.get(topic, {}).get(key)
    if not same(old, new):
        world.emit(topic, key, stamped(topic, old, new, world.cause, at))


def stamped(topic: str, old: Json | None, new: Json, event: Json, at: object) -> Json:
    stamp: Json = {"updatedAt": str(at)}
    if topic in ("user-licenses", "errors"):
        stamp["causedBy"] = event["id"]
    if topic == "user-licenses":
        stamp["revision"] = 1 + (old["revision"] if old else 0)
    return new | stamp


def same(old: Json | None, new: Json) -> bool:
    """A user who never had anything to publish is not published."""
    if old is None:
        return new.get("licenseAssignmentStates") == []
    return {k: v for k, v in old.items() if k not in VOLATILE} == new


def tenant_documents(world: Evaluations, tenant: Tenant) -> dict[str, dict[str, Json]]:
    name = tenant.name
    counters = world.latest.get("product-seats", {})
    counted = {key.split("/")[1] for key in counters if key.split("/")[0] == name}
    known = {u: user for u, user in sorted(tenant.users.items()) if user.known}
    return {
        "errors": {
            f"{name}/{u}/{s.path or 'direct'}/{s.sku}": error_document(tenant, u, s)
            for u, user in known.items()
            for s in user.states
            if s.error != "None"
        },
        "group-status": {f"{name}/{g}": group_document(world, tenant, g) for g in tenant.groups},
        "product-seats": {
            f"{name}/{sku}": seats_document(world, tenant, sku)
            for sku in sorted(set(tenant.units) | held_by_anyone(known.values()) | counted)
        },
    }


def held_by_anyone(users: Iterable[User]) -> set[str]:
    return {sku for user in users for sku in held(user.entries)}


def user_document(world: Evaluations, tenant: Tenant, name: str) -> Json:
    user = tenant.users[name]
    states = [state_document(user, s) for s in user.states]
    return {
        "tenant": tenant.name,
        "user": name,
        "usageLocation": user.location,
        "effectiveUsageLocation": tenant.location if user.location is None else user.location,
        "mail": mail_address(user, name, world.products, tenant.book),
        "mailNickname": nickname(user),
        "proxyAddresses": all_addresses(user, name, world.products, tenant.book),
        "assignedLicenses": [
            {"skuId": sku, "disabledPlans": sorted(user_plans(world.products[sku]) - plans)}
            for sku in sorted(held(user.entries))
            for plans in [enabled_plans(e for e in user.entries if e.sku == sku)]
        ],
        "licenseAssignmentStates": states,
    }


def state_document(user: User, state: AssignmentState) -> Json:
    document = {
        "skuId": state.sku,
        "assignedByGroup": state.path,
        "disabledPlans": sorted(state.disabled),
        "state": state.state,
        "error": state.error,
        "since": str(user.since[state.sku, state.path][2]),
    }
    if state.error != "None":
        document["message"] = f"{state.sku} is in error: {state.error}."
    return document


def error_document(tenant: Tenant, name: str, state: AssignmentState) -> Json:
    user = tenant.users[name]
    details = dict(state.details)
    if state.error == COUNT:
        details["purchased"] = tenant.purchased(state.sku)
        details["consumed"] = len(tenant.holders(state.sku))
    shared = tenant.book.shared(name)
    if state.error == UNIQUENESS and shared is not None:
        details["address"], details["owner"] = shared
    return {
        "tenant": tenant.name,
        "user": name,
        "group": state.path or "direct",
        "skuId": state.sku,
        "state": state.state,
        "error": state.error,
        "message": f"{state.sku} is in error: {state.error}.",
        "details": details,
        "since": str(user.since[state.sku, state.path][2]),
    }


def group_document(world: Evaluations, tenant: Tenant, name: str) -> Json:
    group = tenant.groups[name]
    members = [u for u in tenant.users.values() if u.known and name in u.memberships]
    licensed = [u for u in members if group.licenses and set(group.licenses) <= active(u, name)]
    errors = [errors_through(u, name) for u in tenant.users.values()]
    deferred = [c for topic, c in world.deferred if topic == "group-changes"]
    return {
        "tenant": tenant.name,
        "group": name,
        "displayName": tenant.group_names.get(name),
        "deleted": group.deleted,
        "licenseProcessingState": "ProcessingComplete",
        "assignedLicenses": [
            {"skuId": sku, "disabledPlans": sorted(off)}
            for sku, off in sorted(group.licenses.items())
        ],
        "deferred": sorted(
            {
                sku
                for change in deferred
                if (change["tenant"], change["group"]) == (tenant.name, name)
                for sku in named_products(change) - set(world.products)
            }
        ),
        "members": len(members),
        "membersLicensed": len(licensed),
        "membersWithErrors": sum(1 for some in errors if some),
        "errors": dict(sorted(Counter(e for some in errors for e in some).items())),
        **rule_of(tenant, name),
    }


def rule_of(tenant: Tenant, group: str) -> Json:
    """Returns the rule of a group that has one (R27)."""
    if group not in tenant.rules:
        return {}
    text, paused = tenant.rules[group]
    state = "Paused" if paused else "On"
    return {"membershipRule": text, "membershipRuleProcessingState": state}


def active(user: User, group: str) -> set[str]:
    return {s.sku for s in user.states if s.path == group and s.state == "Active"}


def errors_through(user: User, group: str) -> set[str]:
    """Returns the errors to count: `Other` only if it is the user's only error from this group."""
    errors = {s.error for s in user.states if s.path == group and s.error != "None"}
    return errors if errors == {OTHER} else errors - {OTHER}


def seats_document(world: Evaluations, tenant: Tenant, sku: str) -> Json:
    none = {"enabled": 0, "warning": 0, "suspended": 0, "lockedOut": 0}
    lacking = [
        u for u in tenant.users.values() if any((s.sku, s.error) == (sku, COUNT) for s in u.states)
    ]
    return {
        "tenant": tenant.name,
        "skuId": sku,
        "skuPartNumber": world.part_numbers.get(sku),
        "prepaidUnits": dict(tenant.units.get(sku, none)),
        "consumedUnits": len(tenant.holders(sku)),
        "availableUnits": tenant.available(sku),
        "waitingUsers": len(lacking),
        "capabilityStatus": tenant.capability(sku),
    }


# ---- the short form that tests compare


def short_form(log: Log, tenant: str) -> Json:
    """Returns users, plans, errors, seats, groups, results and revision of a tenant, by id."""
    form: Json = {
        kind: {}
        for kind in ("users", "plans", "mail", "errors", "seats", "groups", "results", "revision")
    }
    latest: dict[tuple[str, str], Json | None] = {}
    for topic, key, value in log:
        if key.split("/")[0] == tenant:
            latest[topic, key.partition("/")[2]] = value
            if topic == "results" and value is not None:
                outcome = "/".join(value[k] for k in ("status", "error") if k in value)
                form["results"].setdefault(key.partition("/")[2], []).append(outcome)
    for topic, key, value in ((t, k, v) for (t, k), v in latest.items() if v is not None):
        match topic:
            case "user-licenses":
                form["users"][key] = dict(short_states(value))
                form["revision"][key] = value["revision"]
                form["mail"][key] = [
                    value["mail"],
                    value["mailNickname"],
                    *sorted(value["proxyAddresses"]),
                ]
                form["plans"][key] = {
                    a["skuId"]: sorted(a["disabledPlans"]) for a in value["assignedLicenses"]
                }
            case "errors":
                user, group, sku = key.split("/")
                form["errors"].setdefault(user, []).append(f"{sku}/{group} {value['error']}")
            case "product-seats":
                form["seats"][key] = {
                    "consumed": value["consumedUnits"],
                    "available": value["availableUnits"],
                    "waiting": value["waitingUsers"],
                    "status": value["capabilityStatus"],
                }
            case "group-status":
                form["groups"][key] = short_group(value)
    form["errors"] = {user: sorted(errors) for user, errors in form["errors"].items()}
    return form


def short_states(value: Json) -> Iterator[tuple[str, str]]:
    for s in value["licenseAssignmentStates"]:
        error = "" if s["error"] == "None" else "/" + s["error"]
        yield f"{s['skuId']}/{s['assignedByGroup'] or 'direct'}", s["state"] + error


def short_group(value: Json) -> Json:
    return {
        "state": value["licenseProcessingState"],
        "members": value["members"],
        "licensed": value["membersLicensed"],
        "errors": value["errors"],
        "deleted": value["deleted"],
    }
