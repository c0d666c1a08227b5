from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from streams.console import api
router = APIRouter(include_in_schema=False)

@router.get("/health")
def health(request: Request):
    return request.app.state.service.health()

@router.get("/openapi.json")
def openapi(request: Request):
    return JSONResponse(request.app.openapi())
on_http_error = api.on_http_error
on_bad_request = api.on_bad_request
