"""A receiver on a port of its own in this process, with a writer that needs no Kafka."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import orjson
import uvicorn

from streams.http_server.server import server_config
from streams.ingest.http.app import Receiver, application
from streams.ingest.http.scim import Tenants
from streams.ingest.http.sources import Sources, load_sources
from streams.ingest.http.transactional_writer import RESOURCES, Record
from streams.kafka.broker_watch import BrokerWatch
from streams.runtime.settings import load_settings

TOKEN = "a-token-of-contoso-0001"
OTHER = "a-token-of-fabrikam-0002"
SOURCES = f"""
[[source]]
name = "entra"
tenant = "contoso"
token = "{TOKEN}"
client_state = "a-secret-of-contoso"

[[source]]
name = "hr"
tenant = "fabrikam"
token = "{OTHER}"
accepts = ["upload"]
"""


class MemoryWriter:
    """Records in their order; ``events`` are those of the contract."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.failure: Exception | None = None
        self.failed = asyncio.Event()
        self.broker = BrokerWatch(load_settings())
        self.pending_records = 0

    def add(self, records: Iterable[Record]) -> int:
        self.records += records
        return len(self.records)

    def check_progress(self) -> None:
        pass

    async def wait_committed(self, ticket: int | None = None) -> None:
        pass

    def events(self) -> list[dict[str, Any]]:
        """The events since the last call, without what every one has."""
        found = [orjson.loads(r.value or b"") for r in self.records if r.topic != RESOURCES]
        self.records = [r for r in self.records if r.topic == RESOURCES]
        return [{k: v for k, v in e.items() if k not in ("id", "time", "tenant")} for e in found]

    def remembered(self) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for record in self.records:
            if record.topic == RESOURCES:
                found.pop(record.key, None)
                if record.value is not None:
                    found[record.key] = record.value
        return found


def sources(folder: Path) -> Sources:
    file = folder / "sources.toml"
    file.write_text(SOURCES)
    return load_sources(file)


@contextmanager
def receiving(
    folder: Path, remembered: dict[str, bytes] | None = None
) -> Iterator[tuple[httpx2.Client, MemoryWriter]]:
    writer: Any = MemoryWriter()
    known = sources(folder)
    tenants = Tenants(writer, remembered or {}, known)
    app = application(Receiver(known, tenants, writer, folder / "changes.jsonl"))
    config = server_config(app, load_settings(), port=0, lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started and thread.is_alive():
            pass
        port = server.servers[0].sockets[0].getsockname()[1]
        headers = {"Authorization": f"Bearer {TOKEN}"}
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", headers=headers) as client:
            yield client, writer
    finally:
        server.should_exit = True
        thread.join()
