"""Bodies of requests: their members, in any case, as Graph's clients write them.

PowerShell's cmdlets write ``AddLicenses``, others ``addLicenses``. A member that is unknown is an
error: it could have changed the meaning. OData's annotations (``@odata.type``) mean nothing here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

from streams.console.graph.errors import GraphError, bad_request

MOST_ITEMS = 1_000
MOST_TEXT = 1_024
MOST_REFERENCES = 20
"""Of ``members@odata.bind``; Graph's bound."""
ANNOTATIONS = ("@odata.type", "@odata.context", "@odata.etag")
_REFERENCE = re.compile(r"(?:^|/)(?:directoryObjects|users)(?:/|\(')([^/()']+)(?:'\))?/?$", re.I)


def read(body: Any, allowed: Iterable[str], what: str) -> dict[str, Any]:
    """Returns the members of a JSON object by their names in Graph. Raises: GraphError."""
    if not isinstance(body, dict):
        raise bad_request(f"The body must be a JSON object with the members of {what}.")
    known = {name.lower(): name for name in allowed}
    found: dict[str, Any] = {}
    for given, value in body.items():
        if given.lower() in ANNOTATIONS:
            continue
        name = known.get(given.lower())
        if name is None:
            there_are = f"there are {', '.join(known.values())}" if known else "there is none"
            raise bad_request(
                f"Seatflow has no member {given[:100]!r} of {what}; {there_are}.",
            )
        if name in found:
            raise bad_request(f"The member {name} of {what} is given twice.")
        found[name] = value
    return found


def text(found: dict[str, Any], name: str, most: int = MOST_TEXT) -> str | None:
    """Returns a text or null. Raises: GraphError."""
    value = found.get(name)
    if value is not None and not isinstance(value, str):
        raise bad_request(f"{name} must be text or null.")
    if value is not None and len(value) > most:
        raise bad_request(f"{name} may have at most {most:,} characters.")
    return value


def items(found: dict[str, Any], name: str, most: int = MOST_ITEMS) -> list[Any]:
    """Returns a list; an empty one if it is absent or null. Raises: GraphError."""
    value = found.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > most:
        raise bad_request(f"{name} must be a list of at most {most:,} items.")
    return value


def texts(found: dict[str, Any], name: str, most: int = MOST_ITEMS) -> list[str]:
    """Returns a list of texts. Raises: GraphError."""
    value = items(found, name, most)
    for each in value:
        if not isinstance(each, str) or len(each) > MOST_TEXT:
            raise bad_request(f"{name} must be a list of texts.")
    return value


def must_be(found: dict[str, Any], name: str, value: Any, why: str) -> None:
    """Refuses any other value of a member that Seatflow does not keep. Raises: GraphError."""
    if name in found and found[name] != value:
        raise bad_request(f"{name} can only be {_shown(value)}: {why}.")


def _shown(value: Any) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else "empty"


def referenced(reference: Any) -> str:
    """Returns the id in the address of a user, whatever the host. Raises: GraphError."""
    hit = _REFERENCE.search(reference) if isinstance(reference, str) else None
    if hit is None:
        raise not_a_reference()
    return unquote(hit[1])


def not_a_reference() -> GraphError:
    """Returns the error of an address that names no user."""
    return bad_request(
        "@odata.id must be the address of a user, as in"
        ' {"@odata.id": "https://graph.microsoft.com/v1.0/directoryObjects/…"}.'
    )
