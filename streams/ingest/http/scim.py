"""The SCIM 2.0 service: one application with a storage for each tenant.

Requests are answered when Kafka has their events.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import orjson
from scim2_models import (
    AuthenticationScheme,
    Bulk,
    ChangePassword,
    EnterpriseUser,
    ETag,
    Filter,
    ForbiddenException,
    Group,
    InvalidSyntaxException,
    Patch,
    PatchOp,
    Resource,
    ResourceType,
    ScimProvider,
    ServiceProviderConfig,
    Sort,
    UnauthorizedException,
    User,
)
from scim2_server.applications.asgi import ASGIApplication
from scim2_server.conditions import Conditions
from scim2_server.handler import AsyncScimHandler
from scim2_server.requests import ScimRequest
from scim2_server.responses import ScimResponse
from scim2_server.service import ScimService

from streams.http_server.threads import in_thread, run_to_end
from streams.ingest.http.policy import SCIM_ERROR
from streams.ingest.http.scim_storage import (
    GROUPS,
    USERS,
    Members,
    TenantStorage,
    check_filter,
)
from streams.ingest.http.sources import Source, Sources
from streams.ingest.http.transactional_writer import Writer
from streams.ingest.scim_attributes import named_facts, tolerant
from streams.ingest.scim_requests import RequestError, filtered_member, members_of, patch_of
from streams.ingest.scim_resources import ENTRA, RESOURCES, EntraUser
from streams.runtime.errors import WorkerError

RETRY_AFTER_SECONDS = "5"
MAX_RESULTS = 1_000
THREADS = 4
"""Requests that are carried out at the same time, of as many tenants."""
BULK_OPERATIONS = 1_000
BULK_BYTES = 8 << 20


def provider() -> ScimProvider:
    """Returns the description of the service: resources, features, limits."""
    config = ServiceProviderConfig(
        patch=Patch(supported=True),
        bulk=Bulk(supported=True, max_operations=BULK_OPERATIONS, max_payload_size=BULK_BYTES),
        filter=Filter(supported=True, max_results=MAX_RESULTS),
        change_password=ChangePassword(supported=False),
        sort=Sort(supported=True),
        etag=ETag(supported=True),
        authentication_schemes=[
            AuthenticationScheme(
                type=AuthenticationScheme.Type.oauthbearertoken,
                name="Bearer token",
                description="The token of a source, in the file of --sources",
            )
        ],
    )
    models: list[Any] = [User, EnterpriseUser, EntraUser, Group]
    return ScimProvider(models, [USERS, GROUPS], config=config, policy=ENTRA)


class Tenants:
    """The storages by tenant, with a lock for each: changes of one tenant are serialized."""

    def __init__(self, writer: Writer, remembered: dict[str, bytes], sources: Sources) -> None:
        parts: dict[str, dict[tuple[str, str], bytes]] = {}
        for key, value in remembered.items():
            tenant, kind, rest = key.split("/", 2)
            parts.setdefault(tenant, {})[kind, rest] = value
        self.pool = ThreadPoolExecutor(THREADS, "receiver")
        self._locks: dict[str, asyncio.Lock] = {}
        self.storages: dict[str, TenantStorage] = {}
        for source in sources.all:
            if source.tenant not in self.storages:
                storage = self.storages[source.tenant] = TenantStorage(source.tenant, writer)
                storage.load(parts.get(source.tenant, {}))
                self._locks[source.tenant] = asyncio.Lock()

    def lock(self, source: Source) -> asyncio.Lock:
        """Returns the lock of the source's tenant."""
        return self._locks[source.tenant]

    @contextmanager
    def sending(self, source: Source) -> Iterator[TenantStorage]:
        """Yields the storage, set to name events after the source; hold the lock.

        What was changed is given to the writer at the end, whatever the request came to.
        """
        storage = self.storages[source.tenant]
        storage.source = source.name
        try:
            yield storage
        finally:
            storage.flush()


class _Handler(AsyncScimHandler):
    """A handler that lets the storage know which facts a PATCH is about, also in a bulk request."""

    storage: TenantStorage

    async def patch_resource(
        self,
        resource_type: ResourceType,
        resource_id: str,
        patch_op: PatchOp[Any],
        conditions: Conditions,
    ) -> Resource[Any]:
        """Applies a PATCH to a stored resource."""
        if resource_type.name == USERS.name:
            self.storage.named = named_facts(patch_op.operations or [], known=True)
        try:
            return await super().patch_resource(resource_type, resource_id, patch_op, conditions)
        finally:
            self.storage.named = None


class ScimApplication(ASGIApplication):
    """The SCIM application, mounted at ``/scim``; its own prefix is ``/v2``."""

    def __init__(self, tenants: Tenants, sources: Sources, writer: Writer) -> None:
        self._tenants, self._sources, self._writer = tenants, sources, writer
        described = provider()
        service = ScimService(described)
        super().__init__(next(iter(tenants.storages.values())), described, service)
        self._handlers = {
            tenant: _Handler(service, storage) for tenant, storage in tenants.storages.items()
        }

    def check_auth(self, request: ScimRequest) -> None:
        """Sets the request's subject to its source. Raises: Unauthorized- or ForbiddenException."""
        source = self._sources.of_token(request.header("Authorization"))
        if source is None:
            raise UnauthorizedException
        if "scim" not in source.accepts:
            raise ForbiddenException(detail=f"the source {source.name} may not send SCIM")
        request.subject = source

    def handle_exception(self, request: ScimRequest, exception: Exception) -> ScimResponse:
        """Returns 503 if Kafka did not take the events, so that the client repeats the request."""
        if not isinstance(exception, WorkerError):
            return super().handle_exception(request, exception)
        error = {"schemas": [SCIM_ERROR], "status": "503", "detail": str(exception)}
        headers = {"Retry-After": RETRY_AFTER_SECONDS}
        return ScimResponse(HTTPStatus.SERVICE_UNAVAILABLE, error, headers)

    def get_subject(self, request: ScimRequest) -> Any:
        """Returns the source that ``check_auth`` found."""
        return request.subject

    async def dispatch_request(self, request: ScimRequest) -> ScimResponse:
        """Handles a request under the tenant's lock; answers when its events are committed."""
        if not self.needs_auth(request):
            return await self.handler.handle(request)
        self.check_auth(request)
        source: Source = request.subject
        # Before it is parsed: that alone takes minutes for a filter of 35 kB.
        check_filter(request.query.get("filter", ""))
        self._writer.check_progress()
        async with self._tenants.lock(source):
            with self._tenants.sending(source) as storage:
                response = await in_thread(self._tenants.pool, self._handle, request, storage)
        # Also for reads, so that no response shows what Kafka does not have.
        await self._writer.wait_committed()
        return response

    def _handle(self, request: ScimRequest, storage: TenantStorage) -> ScimResponse:
        """Handles a request in a thread: one with a thousand operations stops nobody else."""
        request.body = _tolerant_body(request, storage)
        response = _change_members(request, storage)
        if response is not None:
            return response
        return run_to_end(self._handlers[storage.tenant].handle(request))


def _tolerant_body(request: ScimRequest, storage: TenantStorage) -> bytes:
    """Returns the body of a change without invalid values of attributes that are not used."""
    if request.method not in ("POST", "PUT", "PATCH") or not request.body:
        return request.body
    try:
        body = orjson.loads(request.body)
    except orjson.JSONDecodeError:
        return request.body  # reported by the service
    if request.path.strip("/").lower() == "bulk" and isinstance(body, dict):
        operations: Any = next(
            (one for name, one in body.items() if name.lower() == "operations"), []
        )
        for operation in operations if isinstance(operations, list) else ():
            if isinstance(operation, dict) and "data" in operation:
                method, path = str(operation.get("method")).upper(), str(operation.get("path"))
                operation["data"] = _tolerant(method, path, operation["data"], storage)
    else:
        body = _tolerant(request.method, request.path, body, storage)
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError:  # read to 1,024 levels, written to 254
        raise InvalidSyntaxException(detail="the body is nested too deeply") from None


def _tolerant(method: str, path: str, data: Any, storage: TenantStorage) -> Any:
    kind, _, id = path.strip("/").partition("/")
    kind = kind[:1].upper() + kind[1:].lower()
    if kind not in RESOURCES or id == ".search":
        return data
    return tolerant(kind, method, data, storage.find(kind, id) if id else None)


def _change_members(request: ScimRequest, storage: TenantStorage) -> ScimResponse | None:
    """Applies a patch of nothing but a group's members, without copying the group; else None."""
    kind, _, id = request.path.strip("/").partition("/")
    if request.method != "PATCH" or kind.lower() != "groups" or request.header("If-Match"):
        return None
    changes = _members_patched(request.body)
    if changes is None:
        return None
    with ENTRA:
        storage.change_members(id, *changes)
    return ScimResponse(HTTPStatus.NO_CONTENT)


def _members_patched(body: bytes) -> tuple[Members, Members] | None:
    """Returns the users that a patch adds and removes; None if it says anything else.

    Also None if it names a user twice, since then the order of the operations decides.
    """
    changes: dict[str, Members] = {"add": {}, "remove": {}}
    try:
        for operation in patch_of("Groups", orjson.loads(body)).operations or []:
            named = _members_named(operation)
            if named is None:
                return None
            changes[operation.op.value] |= named
    except (RequestError, orjson.JSONDecodeError):
        return None
    if not changes["add"].keys().isdisjoint(changes["remove"]):
        return None
    return changes["add"], changes["remove"]


def _members_named(operation: Any) -> Members | None:
    path, op = operation.path, operation.op.value
    if path is None or path.attr.lower() != "members" or op == "replace":
        return None
    if path.value_filter is not None:
        return {filtered_member(path.value_filter): None} if op == "remove" else None
    return members_of(operation.value) if operation.value else None
