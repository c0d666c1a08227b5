"""Parts that the routers share: service, caller, tenants, error replies, the sending of commands.

No router imports another one; what two of them need is here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Request

from streams.console.api.models import ErrorBody, PathId
from streams.console.commands.definitions import Command, InvalidCommandError
from streams.console.commands.dispatcher import Operation
from streams.console.commands.producer import NotAcceptedError, UnconfirmedError
from streams.console.read_model import queries, tenants
from streams.console.security.auth import SESSION_COOKIE as SESSION_COOKIE
from streams.console.security.auth import Principal
from streams.console.service import Service
from streams.runtime.nearest import did_you_mean

REASONS = {
    400: "Rejected: a malformed request, or a rule does not allow the change.",
    401: "The bearer token is missing or unknown.",
    403: "The token's role does not allow it.",
    404: "Not found, or not visible to this token.",
    409: "Conflicts with the current state; the message names the remedy.",
    413: "The request body is too large.",
    422: "The request covers too many users; narrow it.",
    429: "Too many requests.",
    503: "The broker does not answer.",
}
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": text} for status, text in REASONS.items()
}
NO_USER = "There is no user {0!r} in {1!r}."
NO_GROUP = "There is no group {0!r} in {1!r}."
NO_PRODUCT = "There is no product {0!r} in {1!r}."


def known_parameters(request: Request) -> None:
    """Lets only query parameters through that the published description of the call has.

    A filter that is ignored would answer another question. Raises: HTTPException 400.
    """
    if not request.query_params:
        return
    calls = request.app.openapi()["paths"][request.scope["route"].path_format]
    described = calls[request.method.lower()].get("parameters", ())
    known = [each["name"] for each in described if each["in"] == "query"]
    for name in request.query_params:
        if name not in known:
            allowed = f". Allowed are: {', '.join(known) or 'none'}."
            hint = did_you_mean(name, known) or allowed
            raise HTTPException(400, f"There is no parameter {name!r} here{hint}")


KNOWN_PARAMETERS = Depends(known_parameters)


def current_service(request: Request) -> Service:
    """Returns the parts of this console."""
    found: Service = request.app.state.service
    return found


CurrentService = Annotated[Service, Depends(current_service)]


def current_principal(request: Request, service: CurrentService) -> Principal:
    """Returns who asks: by bearer token, or anybody on a console that has no tokens.

    Raises: HTTPException 401.
    """
    authenticator = service.authenticator
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if authenticator.open:
        return authenticator.local
    principal = authenticator.bearer(token.strip()) if kind.lower() == "bearer" else None
    if principal is None and kind == "":
        session = authenticator.session(request.cookies.get(SESSION_COOKIE))
        # Reading only: a cookie is sent along with a request that another site's page makes.
        if session is not None and request.method == "GET":
            return session[1]
    if principal is None:
        raise HTTPException(401, "The bearer token is missing or unknown.")
    return principal


CurrentPrincipal = Annotated[Principal, Depends(current_principal)]


def readable_tenant(tenant: PathId, principal: CurrentPrincipal, service: CurrentService) -> str:
    """Returns the tenant of the path if the caller may read it.

    Raises: HTTPException 404, also for a tenant that the caller may not know of.
    """
    known = principal.can_read(tenant) and tenants.is_tenant(
        service.store.read_connection(), tenant
    )
    if not known:
        raise HTTPException(404, f"There is no tenant {tenant!r}.")
    return tenant


def operator_of_tenant(tenant: PathId, principal: CurrentPrincipal) -> Principal:
    """Returns the caller if it may send commands for the tenant of the path.

    Raises: HTTPException 403, 404.
    """
    if not principal.can_read(tenant):
        raise HTTPException(404, f"There is no tenant {tenant!r}.")
    if not principal.can_operate(tenant):
        raise HTTPException(403, f"{principal.name} is a reader: this needs the role operator.")
    return principal


def require_all_tenants(principal: CurrentPrincipal) -> None:
    """Lets only callers through who may read every tenant. Raises: HTTPException 403."""
    if principal.tenants is not None:
        raise HTTPException(403, "Dead letters are of no one tenant: this needs a token for all.")


ReadableTenant = Annotated[str, Depends(readable_tenant)]
Operator = Annotated[Principal, Depends(operator_of_tenant)]


def existing_group(tenant: ReadableTenant, group: PathId, service: CurrentService) -> str:
    """Returns the group of the path. Raises: HTTPException 404."""
    found = queries.group(service.store.read_connection(), tenant, group)
    found_or_404(found, NO_GROUP, group, tenant)
    return group


ExistingGroup = Annotated[str, Depends(existing_group)]


def found_or_404(found: dict[str, Any] | None, message: str, *names: str) -> dict[str, Any]:
    """Returns what was found. Raises: HTTPException 404, with the message filled in."""
    if found is None:
        raise HTTPException(404, message.format(*names))
    return found


async def send(service: Service, principal: Principal, tenant: str, command: Command) -> Operation:
    """Sends a command and waits for its outcome. Raises: HTTPException 400, 503."""
    return (await send_all(service, principal, tenant, [command]))[0]


async def send_all(
    service: Service, principal: Principal, tenant: str, commands: Sequence[Command]
) -> list[Operation]:
    """Sends commands together and waits for their outcomes. Raises: HTTPException 400, 503."""
    try:
        return await service.dispatcher.run_all(principal, tenant, commands)
    except InvalidCommandError as invalid:
        raise HTTPException(400, f"{invalid}.") from None
    except NotAcceptedError as error:
        raise HTTPException(503, f"The broker did not accept the command: {error}") from None
    except UnconfirmedError as error:
        message = f"The broker did not confirm the command; the audit shows if it was sent: {error}"
        raise HTTPException(503, message) from None
