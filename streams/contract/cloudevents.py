"""CloudEvents 1.0 in Kafka records: binary mode (headers) and structured mode (JSON)."""

from __future__ import annotations

from collections.abc import Sequence
from sys import intern

from engine.domain.events import ABSENT
from streams.contract.field_checks import MAX_TEXT_CHARACTERS, Body
from streams.contract.rejection import DecodeError, malformed, require_type

Headers = Sequence[tuple[str, bytes | None]]


def headers_of_event(headers: Headers) -> list[tuple[str, bytes]]:
    """Returns the headers that are part of a CloudEvent: without them its value is no event."""
    return [(name, raw) for name, raw in headers if raw is not None and _is_read(name.lower())]


def _is_read(name: str) -> bool:
    return name.startswith("ce_") or name == "content-type"


def unwrap(headers: Headers, body: Body) -> tuple[Body, Body]:
    """Returns the attributes and the data of a CloudEvent in either mode.

    For a plain event, both are its body. Raises: DecodeError.
    """
    attributes: Body = {}
    for header, raw in headers:
        name = header.lower()
        if raw is not None and _is_read(name):
            # What is not UTF-8 becomes lone surrogates, which the checks below refuse.
            attributes[name.removeprefix("ce_")] = raw.decode(errors="surrogateescape")
    media = attributes.pop("content-type", "").partition(";")[0].strip().lower()
    structured = media.startswith("application/cloudevents")
    if "type" in attributes and not structured:
        attributes["datacontenttype"] = media or "application/json"
        return attributes, body
    if not structured and not ("specversion" in body and ("data" in body or "data_base64" in body)):
        return body, body
    if structured and media != "application/cloudevents+json":
        raise malformed(
            "content-type", media, "application/cloudevents+json, one event in a record"
        )
    # In CloudEvents' JSON an attribute that is null is not set.
    attributes = {name: value for name, value in body.items() if value is not None}
    if "data_base64" in attributes:
        raise DecodeError("data_base64 is not read here; the event must be an object in data")
    return attributes, require_type(dict, attributes.get("data", ABSENT), "data")


def check_attributes(attributes: Body) -> tuple[str, str]:
    """Returns the id and the source ("" if there is none) of a CloudEvent. Raises: DecodeError."""
    if (version := attributes.get("specversion", "1.0")) != "1.0":
        raise malformed("specversion", version, "1.0")
    content = attributes.get("datacontenttype", "application/json")
    if not str(content).partition(";")[0].strip().lower().endswith(("/json", "+json")):
        raise malformed("datacontenttype", content, "application/json")
    event, source = attributes.get("id", ABSENT), attributes.get("source", "")
    if type(event) is not str or not 0 < len(event) <= 256 or not event.isprintable():
        raise malformed("id", event, "1 to 256 printable characters")
    if type(source) is not str or len(source) > MAX_TEXT_CHARACTERS or not source.isprintable():
        raise malformed("source", source, f"at most {MAX_TEXT_CHARACTERS} printable characters")
    return event, intern(source)
