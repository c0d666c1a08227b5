"""The API fuzzed from its own OpenAPI: no server error, no answer that it does not declare."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode, checks

from streams.console.app import create_app
from streams.console.security.middleware import RateLimiter
from streams.runtime.settings import load_settings
from tests.streams.console.local import demo, local_service

EXAMPLES = 8
CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.unsupported_method,
]
OPERATIONS = [
    (method.upper(), path)
    for path, methods in create_app(load_settings()).openapi()["paths"].items()
    for method in methods
]

CASES = [
    pytest.param(*operation, mode, id=f"{' '.join(operation)} {mode.value}")
    for operation in OPERATIONS
    for mode in GenerationMode
    if operation != ("GET", "/v1/tenants") or mode is GenerationMode.POSITIVE  # it has no input
]
THERE = {"tenant": "contoso", "user": "u0011", "group": "sales-europe"}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The demo's tenant, behind the engine in memory: commands do what they do."""
    flags, service, world = local_service(tmp_path_factory.mktemp("fuzz"), http_names="testserver")
    demo(world, until="Seats")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RateLimiter, "allow", lambda *_: True)
        yield schemathesis.openapi.from_asgi("/openapi.json", create_app(flags, service))
    service.store.close()


@pytest.mark.parametrize(("method", "path", "mode"), CASES)
def test_whatever_comes_has_a_proper_answer(
    api: Any, method: str, path: str, mode: GenerationMode
) -> None:
    """Valid or not: 2xx or a declared error, in Graph's form."""
    operation = api[path][method]

    @settings(
        max_examples=EXAMPLES,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def whatever(case: Any) -> None:
        if mode is GenerationMode.POSITIVE:  # so that it is about something
            there = {name: THERE[name] for name in case.path_parameters or () if name in THERE}
            case.path_parameters = {**(case.path_parameters or {}), **there}
        answer = case.call()
        case.validate_response(answer, checks=CHECKS)
        if answer.status_code >= 400:
            error = answer.json()["error"]
            assert error.keys() == {"code", "message", "details"}
            assert error["message"]

    whatever()
