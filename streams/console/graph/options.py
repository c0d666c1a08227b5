"""Query options: read once, and an option that is unknown or not allowed here is an error."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from streams.console.graph.conditions import Compiler, Sql
from streams.console.graph.errors import bad_request, unsupported
from streams.console.graph.filter_syntax import parse_filter
from streams.console.graph.properties import GROUPS, LICENSE_DETAILS, USERS, Kind, Property
from streams.console.graph.search import compile_search
from streams.console.read_model.pagination import MOST

MOST_EXPANDED = 20
"""Items of each expanded list; Graph's bound."""
MOST_ORDERS = 5
DEFAULT_TOP = 100
LIST = ("$select", "$filter", "$search", "$orderby", "$top", "$skiptoken", "$count", "$expand")
ENTITY = ("$select", "$expand")
COUNT = ("$filter", "$search")
REFERENCES = ("$filter", "$search", "$orderby", "$top", "$skiptoken", "$count")
_REMEDIES = {
    "$skip": "follow @odata.nextLink, which has a $skiptoken",
    "$apply": "count with $count=true",
}


@dataclass(frozen=True, slots=True)
class Expansion:
    """A navigation property to be shown with each object."""

    name: str
    select: tuple[str, ...] | None = None
    top: int = MOST_EXPANDED


@dataclass(frozen=True, slots=True)
class Order:
    """A property to sort by, as SQL that is never NULL."""

    sql: str
    descending: bool


@dataclass(frozen=True, slots=True)
class Options:
    """The query options of one request. ``given``: their raw values, by name with ``$``."""

    given: Mapping[str, str]
    select: tuple[str, ...] | None = None
    where: Sql | None = None
    orders: tuple[Order, ...] = ()
    top: int = DEFAULT_TOP
    token: str | None = None
    count: bool = False
    expand: tuple[Expansion, ...] = ()


def named(parameters: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Returns the parameters by their names with ``$``, which Graph lets clients leave out.

    Raises: GraphError, for one that is given twice.
    """
    found: dict[str, str] = {}
    for name, value in parameters:
        option = "$" + name.removeprefix("$").lower()
        if option in found:
            raise bad_request(f"The parameter {option} is given twice.")
        found[option] = value
    return found


def check_allowed(given: Mapping[str, str], allowed: Iterable[str]) -> None:
    """Refuses parameters that mean nothing here. Raises: GraphError."""
    known = tuple(allowed)
    for name in given:
        if name not in known:
            remedy = _REMEDIES.get(name)
            there_are = f"there are {', '.join(known)}" if known else "there is none"
            raise unsupported(
                f"The parameter {name[:50]!r} is not supported here: {remedy or there_are}."
            )


def check_consistency(level: str | None) -> None:
    """Refuses a header ``ConsistencyLevel`` that promises what is not so. Raises: GraphError."""
    if level is not None and level.lower() != "eventual":
        raise bad_request(f"ConsistencyLevel is {level[:50]!r}; it must be eventual.")


def read_options(
    kind: Kind, tenant: str, given: Mapping[str, str], allowed: Iterable[str]
) -> Options:
    """Returns the options of a request for a kind of resource. Raises: GraphError."""
    check_allowed(given, allowed)
    conditions = []
    if "$filter" in given:
        conditions.append(Compiler(kind, tenant).compile(parse_filter(given["$filter"])))
    if "$search" in given:
        conditions.append(compile_search(kind, given["$search"]))
    where = None
    if conditions:
        text = " AND ".join(f"({each.text})" for each in conditions)
        where = Sql(text, tuple(value for each in conditions for value in each.values))
    return Options(
        given,
        _select(kind, given.get("$select")),
        where,
        _orders(kind, given.get("$orderby")),
        _top(given.get("$top"), MOST, DEFAULT_TOP),
        given.get("$skiptoken"),
        _flag(given.get("$count")),
        _expansions(kind, given.get("$expand")),
    )


def _select(kind: Kind, text: str | None) -> tuple[str, ...] | None:
    if text is None or text.strip() == "*":
        return None
    chosen = {kind.select(name.strip()) for name in text.split(",")}
    return tuple(name for name in kind.selected if name in chosen)


def _flag(text: str | None) -> bool:
    if text is None or text.lower() == "false":
        return False
    if text.lower() == "true":
        return True
    raise bad_request(f"$count is {text[:50]!r}; it must be true or false.")


def _top(text: str | None, most: int, default: int) -> int:
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= most):
        raise bad_request(f"$top is {text[:50]!r}; it must be a number from 1 to {most}.")
    return int(text)


def _orders(kind: Kind, text: str | None) -> tuple[Order, ...]:
    if text is None:
        return ()
    parts = text.split(",")
    if len(parts) > MOST_ORDERS:
        raise bad_request(f"$orderby has more than {MOST_ORDERS} properties.")
    return tuple(_order(kind, part.split()) for part in parts)


def _order(kind: Kind, words: list[str]) -> Order:
    name, direction = words[0] if words else "", words[1].lower() if len(words) > 1 else "asc"
    found = kind.find(tuple(name.split("/")), "$orderby")
    if not isinstance(found, Property) or not found.sortable:
        allowed = [n for n, p in kind.filtered.items() if isinstance(p, Property) and p.sortable]
        raise unsupported(f"$orderby: {name} cannot be sorted by; there are {', '.join(allowed)}.")
    if len(words) > 2 or direction not in ("asc", "desc"):
        raise bad_request(f"$orderby: after {name} comes asc, desc or nothing.")
    sql = f"coalesce({found.sql}, '') COLLATE NOCASE" if found.kind == "text" else found.sql
    return Order(sql, direction == "desc")


def _expansions(kind: Kind, text: str | None) -> tuple[Expansion, ...]:
    if text is None:
        return ()
    found = tuple(_expansion(kind, part.strip()) for part in _split(text, ","))
    names = [each.name for each in found]
    if len(set(names)) < len(names):
        raise bad_request("$expand names a property twice.")
    return found


def _expansion(kind: Kind, text: str) -> Expansion:
    name, bracket, rest = text.partition("(")
    canonical = {known.lower(): known for known in kind.expanded}.get(name.strip().lower())
    if canonical is None:
        there_are = f"there are {', '.join(kind.expanded)}" if kind.expanded else "there is none"
        raise unsupported(f"$expand: {name[:50]!r} of {kind.name} is not supported; {there_are}.")
    if not bracket:
        return Expansion(canonical)
    if not rest.endswith(")"):
        raise bad_request("$expand: a closing bracket is missing.")
    target = TARGETS[canonical]
    options = named(_pair(part) for part in _split(rest[:-1], ";"))
    check_allowed(options, ("$select", "$top"))
    select = _select(target, options.get("$select"))
    return Expansion(canonical, select, _top(options.get("$top"), MOST_EXPANDED, MOST_EXPANDED))


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name.strip(), value.strip()


def _split(text: str, sign: str) -> list[str]:
    """Splits text at a sign outside of brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if character == sign and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


TARGETS = {
    "memberOf": GROUPS,
    "transitiveMemberOf": GROUPS,
    "members": USERS,
    "transitiveMembers": USERS,
    "licenseDetails": LICENSE_DETAILS,
}
"""Navigation property -> the kind of its objects."""
