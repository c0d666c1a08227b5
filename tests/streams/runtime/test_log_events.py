"""The log: every event is in the table with its fields, and nothing in it is personal."""

from __future__ import annotations

import ast
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.runtime import log_events
from tests.support.kafka import Kafka
from tests.support.system import Event, Events, running

ROOT = Path(__file__).resolve().parents[3]
EVENTS = {event.name: event for event in log_events.EVENTS}


def calls() -> Iterator[tuple[str, str, set[str], str]]:
    """Event, level, fields and place of every line that is logged, in all folders of streams."""
    for path in sorted((ROOT / "streams").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if ast.unparse(node.func.value) == "log" and node.func.attr in (
                *("debug", "info", "warning", "error"),
            ):
                name = ast.unparse(node.args[0]).removeprefix("log_events.")
                fields = {k.arg for k in node.keywords if k.arg and k.arg != "exc_info"}
                yield (
                    getattr(log_events, name),
                    node.func.attr,
                    fields,
                    f"{path.name}:{node.lineno}",
                )


def test_every_line_is_an_event_of_the_table_with_its_fields() -> None:
    seen = set()
    for name, level, fields, place in calls():
        assert EVENTS[name].level == level, place
        assert fields <= set(EVENTS[name].fields), place
        seen.add(name)
    assert seen == set(EVENTS)


def test_a_line_of_json_has_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    try:
        log_events.configure("info", "json")
        import structlog

        structlog.get_logger("seatflow").info(log_events.PARTITION_FENCED, partition=3)
        logging.getLogger("faust").error("of a library")
        ours, theirs = map(json.loads, capsys.readouterr().err.splitlines())
        assert ours["event"] == "partition_fenced"
        assert (ours["level"], ours["partition"], ours["logger"]) == ("info", 3, "seatflow")
        assert ours["timestamp"].endswith("Z")
        assert theirs["event"] == "of a library"
    finally:
        root.handlers[:], root.level = before
        structlog.reset_defaults()


PERSONAL = ("Annabella", "annabella", "Confidential", "confidential")


@pytest.mark.parametrize("form", ["json", "console"])
def test_no_personal_data_at_info(kafka: Kafka, form: str) -> None:
    make = Events()
    name = "Annabella Confidential"
    poison: list[Event] = [
        make.user("annabella", displayName=name, usageLocation="annabella@confidential.example"),
        ("user-changes", "contoso/confidential", f'{{"type":"{name}"}}'.encode()),
        ("user-changes", "contoso/annabella", b'{"broken": "Annabella'),
    ]
    good = [
        make.product("base"),
        make.license("confidential", "base"),
        make.user("annabella", displayName=name, userPrincipalName="annabella@contoso.example"),
        make.join("annabella", "confidential"),
    ]
    with running(kafka.bootstrap) as system:
        worker = system.worker(SEATFLOW_LOG_FORMAT=form)
        system.publish([*poison, *good])
        system.settle()
        assert worker.stop() == 0
        assert len(system.records("dead-letters")) == 3
        assert len(system.records("user-licenses")) == 1
    text = "\n".join(worker.lines)
    assert "dead_letter" in text
    assert not [word for word in PERSONAL if word in text], text
    if form == "json":
        for line in worker.lines:
            event = json.loads(line)
            assert event.keys() >= {"event", "level", "logger", "timestamp"}
            if event["logger"] == "seatflow":
                fields = event.keys() - {"event", "level", "logger", "timestamp"}
                assert fields <= set(EVENTS[event["event"]].fields)
