"""Graph's calls over HTTP: who asks, of which tenant, and the answer in Graph's form.

The tenant is the one in the path (``/{tenant}/v1.0/users``) or, without it (``/v1.0/users``), the
only one that the caller may read.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import APIRouter, HTTPException, Request, Response

from streams.console.api.dependencies import current_principal, current_service
from streams.console.api.models import ID
from streams.console.graph import batch, table
from streams.console.graph.calls import Answer, Call
from streams.console.graph.errors import GraphError, bad_request, not_found
from streams.console.graph.options import check_consistency, named
from streams.console.read_model import tenants
from streams.console.security.auth import Principal
from streams.console.security.middleware import admission
from streams.console.service import Service

METHODS = ["GET", "POST", "PATCH", "PUT", "DELETE"]
JSON = "application/json;odata.metadata=minimal;charset=utf-8"
CLIENT_ID = re.compile(r"[\x21-\x7e]{1,100}")
router = APIRouter(include_in_schema=False)


@router.api_route("/v1.0/{path:path}", methods=METHODS)
async def v1(request: Request, path: str) -> Response:
    """Answers a call of Graph's present version."""
    return await respond(request, "v1.0", path)


@router.api_route("/beta/{path:path}", methods=METHODS)
async def beta(request: Request, path: str) -> Response:
    """Answers a call of Graph's next version; there is no difference here."""
    return await respond(request, "beta", path)


@router.api_route("/{tenant}/v1.0/{path:path}", methods=METHODS)
async def v1_of_tenant(request: Request, tenant: str, path: str) -> Response:
    """Answers a call with the tenant in its path."""
    return await respond(request, "v1.0", path, tenant)


@router.api_route("/{tenant}/beta/{path:path}", methods=METHODS)
async def beta_of_tenant(request: Request, tenant: str, path: str) -> Response:
    """Answers a call with the tenant in its path."""
    return await respond(request, "beta", path, tenant)


async def respond(request: Request, version: str, path: str, tenant: str | None = None) -> Response:
    """Answers a request; what is wrong with it is an error in Graph's form."""
    request_id = str(uuid.uuid4())
    given = request.headers.get("client-request-id", "")
    client_id = given if CLIENT_ID.fullmatch(given) else request_id
    headers = {"request-id": request_id, "client-request-id": client_id, "odata-version": "4.0"}
    try:
        call = await _call(request, version, path, tenant)
        answer_of = batch.answer_batch if call.path == [batch.PATH] else table.answer
        answer = await answer_of(call)
    except GraphError as error:
        answer = Answer(error.status, error.body(request_id, client_id), error.headers)
    return rendered(answer, headers)


def rendered(answer: Answer, headers: Mapping[str, str]) -> Response:
    """Returns an answer as a response."""
    more = {**headers, **answer.headers}
    if answer.body is None:
        return Response(status_code=answer.status, headers=more)
    if isinstance(answer.body, str):
        return Response(answer.body, answer.status, more, "text/plain")
    return Response(orjson.dumps(answer.body), answer.status, {**more, "content-type": JSON})


async def _call(request: Request, version: str, path: str, tenant: str | None) -> Call:
    service = current_service(request)
    try:
        principal = current_principal(request, service)
    except HTTPException as error:
        headers = {"www-authenticate": "Bearer"}
        raise GraphError(error.status_code, str(error.detail), headers=headers) from None
    check_consistency(request.headers.get("consistencylevel"))
    base = str(request.base_url).rstrip("/")
    root = f"{base}/{version}" if tenant is None else f"{base}/{tenant}/{version}"
    return Call(
        service,
        principal,
        tenant_of(service, principal, tenant, request.method),
        root,
        request.method,
        table.normalized(path),
        named(request.query_params.multi_items()),
        await _json(request),
        admission(request.scope),
    )


def tenant_of(service: Service, principal: Principal, given: str | None, method: str) -> str:
    """Returns the tenant that a call is about. Raises: GraphError 400, 404."""
    db = service.store.read_connection()
    if given is None:
        known = sorted(principal.tenants or tenants.tenants(db, None, 2))
        if len(known) != 1:
            raise bad_request(
                "The call does not say which tenant it is about: use a token of one tenant, or"
                " write the tenant into the path, as in /contoso/v1.0/users."
            )
        given = known[0]
    known_to_caller = re.fullmatch(ID, given) and principal.can_read(given)
    # As for the console's own commands: the first change makes a tenant.
    if not known_to_caller or (method == "GET" and not tenants.is_tenant(db, given)):
        raise not_found(f"There is no tenant {given[:128]!r}.")
    return given


async def _json(request: Request) -> Any:
    raw = await request.body()
    if not raw.strip():
        return None
    try:
        return orjson.loads(raw)
    except ValueError as error:
        raise bad_request(f"The body is not JSON: {error}.") from None
