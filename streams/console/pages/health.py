"""The console's health and its metrics. Both without a token: no tenant is in them."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from streams.console.api.dependencies import CurrentService
from streams.metrics.families import exposition
from streams.metrics.registry import CONSOLE

router = APIRouter(include_in_schema=False)


@router.get("/health")
def health(service: CurrentService) -> Response:
    """The console's health; 503 while it is broken or the broker is away."""
    found = service.health()
    return JSONResponse(found, 503 if found["status"] == "broken" else 200)


@router.get("/metrics")
def metrics(service: CurrentService) -> Response:
    """The console's metrics, in Prometheus' text form."""
    return Response(exposition(CONSOLE, service.metrics()), media_type=CONTENT_TYPE_LATEST)
