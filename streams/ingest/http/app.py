"""The HTTP application: SCIM, Entra's bulk upload, Graph's notifications, CloudEvents, health."""

# No `from __future__ import annotations`: FastAPI reads the annotations of closures.

import asyncio
import uuid
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import orjson
from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from scim2_models import SCIMException

from streams.contract.event_reader import event_of
from streams.http_server.guard import RequestGuard
from streams.http_server.threads import in_thread, run_to_end
from streams.ingest.event_builder import EventBuilder, EventOrReason
from streams.ingest.http.policy import ReceiverPolicy
from streams.ingest.http.scim import RETRY_AFTER_SECONDS, ScimApplication, Tenants
from streams.ingest.http.scim_storage import USERS
from streams.ingest.http.sources import Source, Sources
from streams.ingest.http.transactional_writer import Record, Writer
from streams.ingest.scim_requests import RequestError, resource_of
from streams.ingest.scim_resources import ENTRA
from streams.metrics.families import Values, exposition
from streams.metrics.registry import RECEIVER
from streams.runtime.errors import WorkerError

MAX_UPLOADS_KEPT = 100
REJECTED = "Kafka rejected a transaction"
# The topics that a source may write to for its tenant; the catalog is shared by all tenants.
TENANT_TOPICS = ("user-changes", "group-changes", "subscriptions", "tenants")


class Receiver:
    """The state that the endpoints share.

    ``changes``: the file for Graph notifications whose objects have to be read from Graph.
    """

    def __init__(
        self, sources: Sources, tenants: Tenants, writer: Writer, changes: Path | None
    ) -> None:
        self.sources, self.tenants, self.writer = sources, tenants, writer
        self.changes = changes
        self.uploads: OrderedDict[str, dict[str, Any]] = OrderedDict()

    def source(self, kind: str) -> Callable[[Request], Source]:
        """Returns the dependency of an endpoint that accepts this kind of input: the source."""

        def check(request: Request) -> Source:
            source = self.sources.of_token(request.headers.get("authorization"))
            if source is None:
                raise HTTPException(
                    401, "the bearer token of a source is required", {"WWW-Authenticate": "Bearer"}
                )
            if kind not in source.accepts:
                raise HTTPException(403, f"the source {source.name} may not send {kind}")
            return source

        return check


async def body_of(request: Request) -> bytes:
    """Returns the body of a request, which the guard has read within its bounds."""
    return await request.body()


Body = Annotated[bytes, Depends(body_of)]


def application(receiver: Receiver) -> FastAPI:
    """Returns the receiver's application."""
    app = FastAPI(title="Seatflow receiver", docs_url=None, redoc_url=None)
    _health(app, receiver)
    _events(app, receiver)
    _upload(app, receiver)
    _notifications(app, receiver)

    @app.exception_handler(WorkerError)
    async def not_written(_request: Request, error: WorkerError) -> Response:
        """Returns 503: the broker did not take the events, and the sender should retry."""
        return JSONResponse({"detail": str(error)}, 503, {"Retry-After": RETRY_AFTER_SECONDS})

    app.add_middleware(RequestGuard, policy=ReceiverPolicy(receiver.sources))
    scim: Any = ScimApplication(receiver.tenants, receiver.sources, receiver.writer)
    app.mount("/scim", scim)
    return app


def _health(app: FastAPI, receiver: Receiver) -> None:
    writer = receiver.writer

    @app.get("/healthz")
    async def healthz() -> Response:
        """200 unless the process is about to end; a restart would not bring a broker back."""
        ok = writer.failure is None
        return PlainTextResponse("ok" if ok else REJECTED, 200 if ok else 503)

    @app.get("/readyz")
    async def readyz() -> Response:
        """200 while requests can be carried out; 503 with the reason while the broker is away."""
        problem = REJECTED if writer.failure else writer.broker.problem()
        headers = {"Retry-After": RETRY_AFTER_SECONDS} if problem else None
        return PlainTextResponse(problem or "ok", 503 if problem else 200, headers)

    @app.get("/metrics")
    async def metrics() -> Response:
        """The receiver's metrics, in Prometheus' text form."""
        values: dict[str, Values] = {
            "broker_reachable": {None: not writer.broker.is_away},
            "receiver_pending_records": {None: writer.pending_records},
        }
        return Response(exposition(RECEIVER, values), media_type=CONTENT_TYPE_LATEST)


def _events(app: FastAPI, receiver: Receiver) -> None:
    @app.post("/events", status_code=204)
    async def events(
        request: Request, body: Body, source: Annotated[Source, Depends(receiver.source("events"))]
    ) -> Response:
        """CloudEvents over HTTP (binary, structured, batched), or one plain event."""
        receiver.writer.check_progress()
        pool = receiver.tenants.pool
        records = await in_thread(pool, _event_records, request, body, source.tenant)
        await receiver.writer.wait_committed(receiver.writer.add(records))
        return Response(status_code=204)


def _event_records(request: Request, body: bytes, tenant: str) -> list[Record]:
    """Returns the records of a request's events. Raises: HTTPException 400, 403."""
    records = []
    for number, value in enumerate(_cloud_events(request, body)):
        try:
            found = event_of(orjson.dumps(value))
        except orjson.JSONEncodeError:  # read to 1,024 levels, written to 254
            raise HTTPException(400, f"event {number + 1} is nested too deeply") from None
        if isinstance(found, str):
            raise HTTPException(400, f"event {number + 1}: {found}")
        if found.topic not in TENANT_TOPICS or getattr(found.event, "tenant", None) != tenant:
            raise HTTPException(403, f"event {number + 1} does not belong to the tenant {tenant}")
        records.append(Record(found.topic, found.key.decode(), found.value))
    return records


def _cloud_events(request: Request, body: bytes) -> list[Any]:
    """Returns the events, CloudEvents in structured form, which keeps their source."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise HTTPException(400, f"not JSON: {error}") from None
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media == "application/cloudevents-batch+json":
        if not isinstance(value, list):
            raise HTTPException(400, "a batch must be a list of events")
        return value
    attributes = {
        name.removeprefix("ce-"): text
        for name, text in request.headers.items()
        if name.startswith("ce-")
    }
    if attributes:
        return [{**attributes, "datacontenttype": media or "application/json", "data": value}]
    return [value]


def _upload(app: FastAPI, receiver: Receiver) -> None:
    @app.post("/bulkUpload", status_code=202)
    @app.post("/servicePrincipals/{principal}/synchronization/jobs/{job}/bulkUpload")
    async def bulk_upload(
        request: Request, body: Body, source: Annotated[Source, Depends(receiver.source("upload"))]
    ) -> Response:
        """Entra's API-driven provisioning: the complete state of users (RFC 7644, 3.7)."""
        receiver.writer.check_progress()
        try:
            operations = orjson.loads(body)["Operations"]
            if not isinstance(operations, list):
                raise TypeError
        except (orjson.JSONDecodeError, KeyError, TypeError):
            raise HTTPException(
                400, "the body must be a SCIM BulkRequest with Operations"
            ) from None
        async with receiver.tenants.lock(source):
            with receiver.tenants.sending(source) as storage:
                pool = receiver.tenants.pool
                results = await in_thread(pool, _all_uploaded, operations, storage)
        await receiver.writer.wait_committed()
        id = uuid.uuid4().hex
        receiver.uploads[id] = {"tenant": source.tenant, "results": results}
        while len(receiver.uploads) > MAX_UPLOADS_KEPT:
            receiver.uploads.popitem(last=False)
        return Response(status_code=202, headers={"Location": f"{request.base_url}uploads/{id}"})

    @app.get("/uploads/{id}")
    async def upload(
        id: str, source: Annotated[Source, Depends(receiver.source("upload"))]
    ) -> Response:
        """The result of each operation of one of the last uploads."""
        found = receiver.uploads.get(id)
        if found is None or found["tenant"] != source.tenant:
            raise HTTPException(404, "no such upload, or it is no longer kept")
        return JSONResponse(found)


def _all_uploaded(operations: list[Any], storage: Any) -> list[dict[str, Any]]:
    with ENTRA:
        return [run_to_end(_uploaded(operation, storage)) for operation in operations]


async def _uploaded(operation: Any, storage: Any) -> dict[str, Any]:
    """Creates or replaces the user with the given external id or name; returns the result."""
    bulk_id = operation.get("bulkId") if isinstance(operation, dict) else None
    try:
        if bulk_id is None or str(operation.get("path", "")).strip("/").lower() != "users":
            raise RequestError("an operation must have a bulkId and the path /Users")
        user = resource_of("Users", operation.get("data"))
        known = storage.find_user(user.external_id, user.user_name)
        if known is None:
            status, changed = 201, await storage.create(USERS, user)
        else:
            user.id, status = known.id, 200
            changed = await storage.update(USERS, user)
        result = {"bulkId": bulk_id, "status": status, "id": changed.id}
        return {**result, "reason": storage.remark} if storage.remark else result
    except (RequestError, SCIMException) as error:
        return {"bulkId": bulk_id, "status": 400, "reason": str(error)}


def _notifications(app: FastAPI, receiver: Receiver) -> None:
    @app.post("/graph/notifications", response_model=None)
    async def notifications(
        body: Body, validation: Annotated[str | None, Query(alias="validationToken")] = None
    ) -> Response:
        """Graph's change notifications: the handshake, then changed objects, without values."""
        if validation is not None:
            # Graph wants it back as text; a browser must not take it for anything else.
            return PlainTextResponse(validation, headers={"x-content-type-options": "nosniff"})
        try:
            listed = orjson.loads(body)["value"]
            found = [
                (receiver.sources.of_client_state(one.get("clientState")), one) for one in listed
            ]
            if not all(isinstance(one.get("resourceData") or {}, dict) for one in listed):
                raise TypeError
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
            raise HTTPException(
                400, "the body must be a collection of change notifications"
            ) from None
        if any(source is None or "notifications" not in source.accepts for source, _ in found):
            raise HTTPException(401, "clientState belongs to no source")
        receiver.writer.check_progress()
        records, to_read = [], []
        for source, one in found:
            assert source is not None
            record = _deletion(source, one)
            if record is None:
                to_read.append({"tenant": source.tenant, **_changed_object(one)})
            else:
                records.append(record)
        await asyncio.gather(
            receiver.writer.wait_committed(receiver.writer.add(records)),
            _append(receiver.changes, to_read),
        )
        return Response(status_code=202)


def _changed_object(notification: dict[str, Any]) -> dict[str, Any]:
    data = notification.get("resourceData") or {}
    found = {
        "change": notification.get("changeType"),
        "resource": notification.get("resource"),
        "id": data.get("id"),
    }
    return {name: value if isinstance(value, str) else None for name, value in found.items()}


def _deletion(source: Source, notification: dict[str, Any]) -> Record | None:
    """Returns the event of a deletion; None for changes, whose values only Graph has."""
    data = notification.get("resourceData") or {}
    kind = str(data.get("@odata.type", "")).lower()
    if notification.get("changeType") != "deleted" or not isinstance(data.get("id"), str):
        return None
    fingerprint = f"{source.name}:{notification.get('id') or data['id']}"
    builder = EventBuilder(
        source.tenant, fingerprint, str(notification.get("subscriptionExpirationDateTime", ""))
    )
    result: EventOrReason | None = None
    if kind.endswith("graph.user"):
        result = builder.user("user.deleted", data["id"])
    elif kind.endswith("graph.group"):
        result = builder.group("group.deleted", data["id"])
    return (
        None
        if result is None or isinstance(result, str)
        else Record(result.topic, result.key.decode(), result.value)
    )


async def _append(path: Path | None, changes: list[dict[str, Any]]) -> None:
    if path is not None and changes:
        lines = b"".join(orjson.dumps(change) + b"\n" for change in changes)

        def append() -> None:
            with path.open("ab") as file:
                file.write(lines)

        await asyncio.to_thread(append)
