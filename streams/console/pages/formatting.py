"""Formatting of names, numbers and times on pages, and small drawings."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from engine.domain.vocabulary import (
    AssignmentError,
    GroupProcessingState,
    LicenseState,
    ResultStatus,
)
from streams.console.pages.rules import rule_link
from streams.console.read_model import causes
from streams.runtime.visible_text import visible_value

HERE = Path(__file__).parents[1]

ERRORS = {
    AssignmentError.COUNT.value: (
        "Not enough seats",
        "Buy seats or free some. The longest-waiting users get them first: immediately or, with"
        " the policy “manual”, after a reprocess.",
    ),
    AssignmentError.CONFLICT.value: (
        "Conflicting plans",
        "Decide which of the two products the user should have: disable one of the plans on the"
        " group, or remove the other licence. The assignment is then retried automatically.",
    ),
    AssignmentError.DEPENDENCY.value: (
        "Missing dependency",
        "Add the required plan to the same group, or disable the plan that requires it.",
    ),
    AssignmentError.LOCATION.value: (
        "Usage location",
        "Set a usage location on the user or a default on the tenant, or disable the plans that are"
        " not available there.",
    ),
    AssignmentError.UNIQUENESS.value: (
        "Duplicate address",
        "Two users have the same proxy address: remove it from one of them.",
    ),
    AssignmentError.OTHER.value: (
        "Blocked by another product",
        "The products of a group are assigned together or not at all: resolve the errors of the"
        " products that the message names.",
    ),
}
STATES = {
    LicenseState.ACTIVE.value: ("ok", "Active"),
    LicenseState.DISABLED.value: ("warn", "Disabled: the subscription is off"),
    LicenseState.ACTIVE_WITH_ERROR.value: ("warn", "Active, with error"),
    LicenseState.ERROR.value: ("bad", "Not assigned"),
    GroupProcessingState.COMPLETE.value: ("ok", "Complete"),
    GroupProcessingState.IN_PROGRESS.value: ("busy", "In progress"),
    GroupProcessingState.QUEUED.value: ("busy", "Queued"),
    ResultStatus.APPLIED.value: ("ok", "Applied"),
    ResultStatus.REJECTED.value: ("bad", "Rejected"),
    ResultStatus.DEFERRED.value: ("busy", "Deferred"),
    "pending": ("busy", "Pending"),
    "success": ("ok", "Success"),
    "failure": ("bad", "Failure"),
}


def number(value: float) -> str:
    """Formats a whole number, with a thousands separator."""
    return f"{value:,.0f}".replace("-", "−")


def rate(value: float) -> str:
    """Formats a rate: one decimal below ten."""
    return f"{value:,.1f}" if 0 < value < 10 else f"{value:,.0f}"


def count(value: int, noun: str, nouns: str | None = None) -> str:
    """Formats a number with its noun: "1 user", "2 users"."""
    return f"{value:,} {noun if value == 1 else nouns or noun + 's'}"


def when(value: str | int | None) -> Markup:
    """Formats a record's time in UTC; with its date unless that is today."""
    if value is None:
        return Markup("–")
    if isinstance(value, int):
        at = datetime.fromtimestamp(value / 1000, UTC)
    else:
        try:
            at = datetime.fromisoformat(value).astimezone(UTC)
        except ValueError:
            return Markup("{}").format(value)
    shape = "%H:%M:%S" if at.date() == datetime.now(UTC).date() else "%-d %b %Y %H:%M"
    iso = at.strftime("%Y-%m-%dT%H:%M:%SZ")
    return Markup('<time datetime="{}" title="{}">{}</time>').format(iso, iso, at.strftime(shape))


def seconds(value: float) -> str:
    """Formats a number of seconds."""
    return f"{value:.1f} s" if value < 10 else f"{value:,.0f} s"


def error_name(code: str) -> str:
    """Returns the name of an error code on pages."""
    return ERRORS[code][0] if code in ERRORS else code


def error_advice(code: str) -> str:
    """Returns the remedy for an error code; empty for an unknown one."""
    return ERRORS[code][1] if code in ERRORS else ""


def state_kind(state: str) -> str:
    """Returns the CSS class of a state: ok, warn, bad or busy."""
    return STATES.get(state, ("", state))[0]


def state_name(state: str) -> str:
    """Returns the name of a state on pages."""
    return STATES.get(state, ("", state))[1]


def bar(used: int, units: int) -> Markup:
    """Draws the seats used of those bought; use beyond them has its own colour."""
    whole = max(units, used, 1)
    inside, over = min(used, max(units, 0)), max(0, used - max(units, 0))
    kind = "over" if over else "full" if used >= units else "high" if used * 10 >= units * 9 else ""
    label = f"{used:,} of {units:,} seats used"
    return Markup(
        '<svg class="bar {}" role="img" aria-label="{}" width="100%" height="8"'
        ' preserveAspectRatio="none"><rect class="track" width="100%" height="8" rx="4"/>'
        '<rect class="used" width="{:.2f}%" height="8" rx="4"/>'
        '<rect class="more" x="{:.2f}%" width="{:.2f}%" height="8" rx="4"/></svg>'
    ).format(kind, label, 100 * inside / whole, 100 * inside / whole, 100 * over / whole)


def spark(values: Sequence[int], label: str, width: int = 240, height: int = 44) -> Markup:
    """Draws a line of figures, left to right in time."""
    top = max([*values, 1])
    step = width / max(1, len(values) - 1)
    points = [
        f"{i * step:.1f},{height - 2 - (height - 4) * v / top:.1f}" for i, v in enumerate(values)
    ]
    area = f"0,{height} {' '.join(points)} {width},{height}"
    return Markup(
        '<svg class="spark" role="img" aria-label="{}" viewBox="0 0 {} {}"'
        ' preserveAspectRatio="none"><polygon points="{}"/><polyline points="{}"/></svg>'
    ).format(label, width, height, area, " ".join(points))


def licence_changes(record: dict[str, Any], name: Callable[[str], str]) -> list[str]:
    """Returns the changes of an audit record, one line each. ``name``: of a product."""
    lines = []
    for changed in record.get("modifiedProperties") or []:
        member, old, new = changed.get("name"), changed.get("oldValue"), changed.get("newValue")
        if member in ("AssignedLicense", "addLicenses"):
            lines += _licences(old or [], new or [], name)
        elif member == "removeLicenses":
            lines += [f"− {name(sku)}" for sku in new or []]
        elif old is not None:
            lines.append(f"{member}: {_plain(old)} → {_plain(new)}")
        else:
            lines.append(f"{member}: {_plain(new)}")
    return lines


def _licences(old: Iterable[Any], new: Iterable[Any], name: Callable[[str], str]) -> list[str]:
    before = {x["skuId"]: len(x.get("disabledPlans") or []) for x in old}
    after = {x["skuId"]: len(x.get("disabledPlans") or []) for x in new}
    lines = [f"− {name(sku)}" for sku in before.keys() - after.keys()]
    for sku, off in after.items():
        less = f", {count(off, 'plan')} off" if off else ""
        if sku not in before:
            lines.append(f"+ {name(sku)}{less}")
        elif before[sku] != off:
            lines.append(f"± {name(sku)}{less or ', every plan on'}")
    return lines


def entra_words(text: str) -> str:
    """Returns the name or result of an activity, which is Entra's, in the spelling of the pages."""
    return text.replace("license", "licence")


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=visible_value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "number": number, "rate": rate, "when": when, "seconds": seconds,
        "error_name": error_name, "error_advice": error_advice,
        "state_kind": state_kind, "state_name": state_name, "rule_link": rule_link,
        "entra_words": entra_words,
    }  # fmt: skip
    made.globals |= {
        "bar": bar, "spark": spark, "count": count, "licence_changes": licence_changes,
        "stamp": stamp(), "typed": escape, "cause_text": causes.sentence, "origin": causes.origin,
    }  # fmt: skip
    return made


def stamp() -> str:
    """Returns a digest of the static files: in their URLs, so that browsers fetch a new version."""
    digest = hashlib.blake2b(digest_size=6)
    for path in sorted((HERE / "static").iterdir()):
        digest.update(path.read_bytes())
    return base64.urlsafe_b64encode(digest.digest()).decode()


TEMPLATES = _environment()
