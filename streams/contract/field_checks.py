"""Checks of the members of an input event: each returns the value, or raises DecodeError.

On the hot path of every worker, so values are checked by hand, with no model in between. Ids that
recur (tenants, groups, products, plans) come from one bounded table, so that equal ids are one
string in memory.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from string import ascii_uppercase
from typing import Any, Final, TypeVar

from engine.domain.events import ABSENT, Absent
from engine.domain.proxy_address import lower_ascii
from engine.membership_rules.properties import property_key
from streams.contract.rejection import malformed, require_type

MAX_TEXT_CHARACTERS: Final = 1024
MAX_ADDRESSES: Final = 500
MAX_ATTRIBUTES: Final = 250
MAX_UNITS: Final = 100_000_000
MAX_SHARED_IDS = 1 << 16

ID_RULE = "a string of 1 to 128 characters of A-Z a-z 0-9 . _ : @ -, other than . and .."
DIRECT_ID: Final = "direct"
"""Reserved: it stands for *no group* in the keys of ``errors`` and in paths."""
NAME_RULE = f"a string of 1 to {MAX_TEXT_CHARACTERS} characters without control characters but tabs"
TEXT_RULE = (
    f"null or a string of at most {MAX_TEXT_CHARACTERS} characters"
    " without control characters but tabs"
)

ATTRIBUTE_NAME_RULE = "1 to 128 characters of A-Z a-z 0-9 . _ : @ -"
ATTRIBUTE_RULE = (
    f"text of at most {MAX_TEXT_CHARACTERS} characters, true, false, a number, null,"
    f" or a list of at most {MAX_ADDRESSES} texts"
)

AttributeValue = str | tuple[str, ...] | None
Body = dict[str, Any]
_T = TypeVar("_T")

# . and .. are reserved: programs that normalise paths would take them for another object.
find_foreign_character: Final = re.compile(r"[^A-Za-z0-9_.:@-]|\A\.{1,2}\Z").search
is_attribute_name: Final = re.compile(r"[A-Za-z0-9_.:@-]{1,128}").fullmatch
# Names of real people and groups contain tabs.
find_control_character: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]").search
is_moment: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,12})?([Zz]|[+-]\d\d:\d\d)", re.ASCII
).fullmatch
# Codes that are used for a country and are not assigned to one: no licence could be given there.
NO_LOCATIONS: Final = {"UK": "GB", "EL": "GR"}
LOCATIONS: Final = {
    a + b: a + b for a in ascii_uppercase for b in ascii_uppercase if a + b not in NO_LOCATIONS
}
SHARED_IDS: Final[dict[str, str]] = {}


def check_id(value: Any, name: str) -> str:
    """Returns an id of the contract: 1 to 128 characters of a small alphabet."""
    if type(value) is str and 0 < len(value) <= 128 and not find_foreign_character(value):
        return value
    raise malformed(name, value, ID_RULE)


def shared_id(value: Any, name: str) -> str:
    """Returns the one string that stands for an id that recurs; it is checked when first seen."""
    try:
        return SHARED_IDS[value]
    except (KeyError, TypeError):  # TypeError: a list or an object
        checked = check_id(value, name)
    if len(SHARED_IDS) >= MAX_SHARED_IDS:
        SHARED_IDS.clear()
    return SHARED_IDS.setdefault(checked, checked)


def group_id(value: Any, name: str) -> str:
    """Returns the id of a group, shared; ``direct`` is none."""
    group = shared_id(value, name)
    if group == DIRECT_ID:
        raise malformed(name, value, "another id: direct stands for licences without a group")
    return group


def check_text(value: Any, name: str, allowed: str = TEXT_RULE) -> str | Absent | None:
    """Returns a text, null or ABSENT."""
    if type(value) is str and len(value) <= MAX_TEXT_CHARACTERS:
        # isprintable is quick but refuses the joiners and spaces of real names: the search decides.
        if value.isprintable() or not find_control_character(value):
            return value
    elif value is None or value is ABSENT:
        return value
    raise malformed(name, value, allowed)


def check_name(value: Any, name: str) -> str:
    """Returns a text that is not empty."""
    if type(value) is str and value and check_text(value, name, NAME_RULE):
        return value
    raise malformed(name, value, NAME_RULE)


def check_location(value: Any, name: str, allowed: str = "two capital letters") -> str:
    """Returns a usage location, an ISO 3166-1 alpha-2 code."""
    try:
        return LOCATIONS[value]
    except (KeyError, TypeError):
        meant = NO_LOCATIONS.get(value) if type(value) is str else None
        if meant is not None:
            allowed = f"a code of ISO 3166-1: did you mean {meant}?"
        raise malformed(name, value, allowed) from None


def check_usage_location(body: Body) -> str | Absent | None:
    """Returns the body's ``usageLocation``, null or ABSENT."""
    value = body.get("usageLocation", ABSENT)
    if value is None or value is ABSENT:
        return value
    return check_location(value, "usageLocation", "two capital letters, or null")


def check_moment(value: Any, name: str) -> int | None:
    """Returns an RFC 3339 time in milliseconds since 1970, or None for null and ABSENT."""
    if value is None or value is ABSENT:
        return None
    if type(value) is str and is_moment(value):
        try:
            moment = datetime.fromisoformat(value.upper())
            return max(0, round(moment.timestamp() * 1000))
        except (ValueError, OverflowError):  # no day of the calendar
            pass
    raise malformed(name, value, "null or a time like 2026-11-24T08:00:00Z (RFC 3339)")


def one_of(owner: Body, at: str, member: str, choices: tuple[str, ...], default: _T) -> str | _T:
    """Returns a member that must be one of the choices, or the default if it is absent."""
    value = owner.get(member, default)
    if value is default or value in choices:
        return value  # type: ignore[no-any-return]
    raise malformed(at + member, value, " or ".join(choices))


def each_once(check: Callable[[Any, str], _T], value: Any, name: str) -> tuple[_T, ...]:
    """Returns the checked items of a list in their order, without repetitions."""
    items = require_type(list, value, name)
    return tuple({check(item, f"{name}[{i}]"): None for i, item in enumerate(items)})


def any_of_ids(value: Any, name: str) -> tuple[str, ...]:
    """Returns a list of ids of which one is enough, so it must not be empty."""
    if value == []:
        raise malformed(name, value, "a list of at least one id: an empty one could never be met")
    return each_once(shared_id, value, name)


def check_addresses(value: Any) -> tuple[str, ...] | Absent | None:
    """Returns proxy addresses in their order; of those equal but for case, the first one."""
    if value is None or value is ABSENT:
        return value
    if type(value) is not list or len(value) > MAX_ADDRESSES:
        raise malformed(
            "proxyAddresses", value, f"a list of at most {MAX_ADDRESSES} strings, or null"
        )
    if len(value) == 1:  # by far the most common, and half the time
        return (check_name(value[0], "an item of proxyAddresses"),)
    first: dict[str, str] = {}
    for item in value:
        first.setdefault(lower_ascii(check_name(item, "an item of proxyAddresses")), item)
    return tuple(first.values())


def check_attributes(value: Any) -> tuple[tuple[str, AttributeValue], ...] | Absent | None:
    """Returns attributes by the keys of their properties, as text; null and an empty list clear.

    Names of one property are one attribute, e.g. those that differ in case; the last one counts.
    """
    if value is ABSENT or value is None:
        return value
    if type(value) is not dict or len(value) > MAX_ATTRIBUTES:
        raise malformed(
            "attributes", value, f"an object of at most {MAX_ATTRIBUTES} attributes, or null"
        )
    found: dict[str, AttributeValue] = {}
    for name, item in value.items():
        if not is_attribute_name(name):
            raise malformed("a name in attributes", name, ATTRIBUTE_NAME_RULE)
        found[property_key(name)] = _attribute(item, name)
    return tuple(found.items())


def _attribute(value: Any, name: str) -> AttributeValue:
    """Returns the text of an attribute: numbers, true and false are compared by it (R27)."""
    if type(value) is str:
        if len(value) > MAX_TEXT_CHARACTERS:
            raise malformed(f"attributes.{name}", value, ATTRIBUTE_RULE)
        return value
    if value is None:
        return None
    if value is True or value is False:
        return "true" if value else "false"
    if type(value) is int:
        return str(value)
    if type(value) is float:
        return str(int(value)) if value.is_integer() else repr(value)
    if type(value) is list and len(value) <= MAX_ADDRESSES:
        items: list[str] = []
        for item in value:
            text = None if type(item) is list else _attribute(item, name)
            if not isinstance(text, str):
                raise malformed(f"an item of attributes.{name}", item, ATTRIBUTE_RULE)
            items.append(text)
        return tuple(items) or None
    raise malformed(f"attributes.{name}", value, ATTRIBUTE_RULE)


def check_rule(value: Any) -> str | Absent | None:
    """Returns the text of a membership rule, null or ABSENT; the engine reads it (R27)."""
    if value is None or value is ABSENT or type(value) is str:
        return value
    raise malformed("membershipRule", value, "null or the text of a rule")


def check_key(key: bytes | None, expected: str, form: str) -> None:
    """Raises DecodeError unless the record's key is the expected one."""
    if key != expected.encode():
        found = ABSENT if key is None else key
        raise malformed("the key of the record", found, f"{form}: {expected}", "wrong_key")
