"""The worker's HTTP endpoint: /metrics, /healthz, /readyz. In a thread: it answers always."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from streams.runtime import log_events
from streams.runtime.errors import CONFIGURATION, WorkerError, log

TEXT = "text/plain; charset=utf-8"

Complaints = Callable[[], Iterable[str]]
"""What is wrong, a line each; nothing: 200, something: 503."""


class _Server(ThreadingHTTPServer):
    """A server whose clients may leave in the middle of a request: that is no error of ours."""

    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Ignores a connection that ended early; the base class prints a traceback."""


def serve(
    registry: CollectorRegistry, port: int, healthy: Complaints, ready: Complaints
) -> tuple[int, Callable[[], None]]:
    """Serves in a thread of its own; the port, and how to stop."""
    checks = {"/healthz": healthy, "/readyz": ready}

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                try:
                    found = generate_latest(registry)
                except Exception as error:
                    log.error(log_events.METRICS_FAILED, why=repr(error), exc_info=True)
                    self._answer(500, TEXT, b"the metrics could not be collected: see the log\n")
                else:
                    self._answer(200, CONTENT_TYPE_LATEST, found)
            elif check := checks.get(path):
                wrong = list(check())
                text = "\n".join(wrong or ["ok"]) + "\n"
                self._answer(503 if wrong else 200, TEXT, text.encode())
            else:
                self._answer(404, TEXT, b"/metrics, /healthz or /readyz\n")

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    try:
        server = _Server(("", port), Handler)
    except OSError as error:
        raise WorkerError(
            f"SEATFLOW_METRICS_PORT is {port}: cannot listen there ({error.strerror})",
            CONFIGURATION,
        ) from None
    Thread(target=server.serve_forever, name="endpoint", daemon=True).start()
    return int(server.server_address[1]), server.shutdown
