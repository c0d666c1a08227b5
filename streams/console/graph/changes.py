"""Changes: each becomes an event by the console's commands, with its audit record and its outcome.

The answer follows when the read model shows what the change did, as everywhere in the console.
"""

from __future__ import annotations

from typing import Any

from fastapi import HTTPException

from streams.console.api.dependencies import send
from streams.console.commands import definitions
from streams.console.commands.definitions import Command
from streams.console.commands.dispatcher import Operation
from streams.console.graph import bodies
from streams.console.graph.calls import Answer, Call
from streams.console.graph.errors import GraphError, bad_request
from streams.console.graph.listings import groups, users
from streams.console.graph.objects import entity, group_id, spellings, user_id
from streams.console.graph.options import check_allowed
from streams.console.graph.views import product

RESULT = "@seatflow.operation"


async def run(call: Call, command: Command) -> Operation:
    """Sends a command and waits for its outcome. Raises: GraphError, if it is rejected."""
    try:
        operation = await send(call.service, call.principal, call.tenant, command)
    except HTTPException as error:
        raise GraphError(error.status_code, str(error.detail)) from None
    if operation.status == "rejected":
        raise rejection(operation)
    return operation


def rejection(operation: Operation) -> GraphError:
    """Returns the error of a rejected operation, in the rule's own words."""
    found = operation.result or {}
    code, message = found.get("error") or "Rejected", found.get("message") or "It was rejected."
    details = {"code": code, "target": found.get("skuId"), "message": message}
    details |= found.get("details") or {}
    return GraphError(404 if code == "UserNotFound" else 400, message, code, [details])


def pending(call: Call, operation: Operation) -> Answer:
    """Returns the answer to a change whose outcome is not known in time."""
    url = f"/v1/tenants/{call.tenant}/operations/{operation.id}"
    return Answer(202, {RESULT: operation.to_json()}, {"location": url, "retry-after": "1"})


# --- licences ------------------------------------------------------------------------------------


def _licences(call: Call) -> tuple[list[dict[str, Any]], list[str]]:
    """Returns the licences to add and the products to remove, of Graph's body."""
    check_allowed(call.parameters, ())
    found = bodies.read(call.body, ("addLicenses", "removeLicenses"), "assignLicense")
    added = [_added(call, each) for each in bodies.items(found, "addLicenses")]
    removed = bodies.texts(found, "removeLicenses")
    return added, [_defined_spelling(call, sku) for sku in removed]


def _added(call: Call, item: Any) -> dict[str, Any]:
    found = bodies.read(item, ("skuId", "disabledPlans"), "addLicenses")
    sku = bodies.text(found, "skuId")
    if sku is None:
        raise bad_request("Each of addLicenses needs its skuId.")
    sku = _defined_spelling(call, sku)
    defined = product(call.db, sku)
    # While the read model catches up, a product may be defined that it does not know yet (R21).
    if defined is None and call.service.projector.progress.caught_up:
        raise bad_request(
            f"There is no product with the skuId {sku!r}: it is not defined in the catalog."
        )
    known = (defined or {}).get("servicePlans", ())
    plans = {plan["servicePlanId"].lower(): plan["servicePlanId"] for plan in known}
    given = bodies.texts(found, "disabledPlans")
    off = [plans.get(spellings(plan)[1], plan) for plan in given]
    return {"skuId": sku, "disabledPlans": off}


def _defined_spelling(call: Call, sku: str) -> str:
    """Returns a product's id as the catalog spells it; GUIDs are the same in either case."""
    if "\0" in sku:
        raise bad_request("A skuId must not contain the character NUL.")
    given, lower = spellings(sku)
    row = call.db.execute("SELECT sku FROM catalog WHERE sku IN (?, ?)", (given, lower)).fetchone()
    return str(row[0]) if row else given


async def assign_user(call: Call, key: str) -> Answer:
    """Changes a user's direct licences, all or none."""
    added, removed = _licences(call)
    id = user_id(call, key)
    operation = await run(call, definitions.assign_user(id, added, removed))
    return _after_user(call, operation, id)


async def assign_group(call: Call, key: str) -> Answer:
    """Changes a group's licences; its members follow."""
    added, removed = _licences(call)
    id = group_id(call, key)
    operation = await run(call, definitions.assign_group(id, added, removed))
    return _after_group(call, operation, id)


async def reprocess_user(call: Call, key: str) -> Answer:
    """Retries a user's licences that are in error."""
    _no_body(call)
    id = user_id(call, key)
    return _after_user(call, await run(call, definitions.reprocess_user(id)), id)


async def reprocess_group(call: Call, key: str) -> Answer:
    """Re-evaluates all members of a group."""
    _no_body(call)
    id = group_id(call, key)
    return _after_group(call, await run(call, definitions.reprocess_group(id)), id)


def _no_body(call: Call) -> None:
    check_allowed(call.parameters, ())
    if call.body is not None:
        bodies.read(call.body, (), "this request")


def _after_user(call: Call, operation: Operation, id: str, status: int = 200) -> Answer:
    if operation.status != "applied":
        return pending(call, operation)
    answer = entity(call, users(call.tenant), id)
    answer.status = status
    return answer


def _after_group(call: Call, operation: Operation, id: str, status: int = 202) -> Answer:
    """Graph answers 202: the members are licensed afterwards."""
    if operation.status != "applied":
        return pending(call, operation)
    answer = entity(call, groups(call.tenant), id)
    answer.status = status
    return answer


def without_content(call: Call, operation: Operation) -> Answer:
    """Returns the answer to a change that Graph answers without a body."""
    return Answer(204) if operation.status == "applied" else pending(call, operation)
