"""The outcome of a first load, compared with what Graph says of each user.

A difference has a probable reason. It is *explained* if the export itself or a rule accounts for
it, e.g. an error of which Entra was never asked again; one that is not explained is a finding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from streams.ingest.graph_survey import Survey

UNMATCHED = "the group's rule does not match the user, whom its members name"
HELD = frozenset({"Active", "ActiveWithError", "Disabled"})


class State(NamedTuple):
    """One licence of a user by one path; ``group`` is None for a direct licence."""

    sku: str
    group: str | None
    disabled: frozenset[str]
    state: str
    error: str

    @property
    def held(self) -> bool:
        """True if the user has the licence."""
        return self.state in HELD

    def __str__(self) -> str:
        return self.state if self.error == "None" else f"{self.state}/{self.error}"


class ExpectedUser(NamedTuple):
    """The licences of a user according to Graph.

    ``states`` is None if only ``assigned`` products are known. ``unmatched``: those of the groups
    whose rule does not match the user.
    """

    states: tuple[State, ...] | None
    assigned: frozenset[str] | None
    groups: tuple[str, ...]
    unmatched: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference. ``path``: the group's id, "direct", or "any path"."""

    user: str
    sku: str
    path: str
    expected: str
    actual: str
    reason: str
    explained: bool

    def __str__(self) -> str:
        mark = "" if self.explained else "UNEXPLAINED "
        return (
            f"{mark}{self.user}: {self.sku} by {self.path}: Graph says {self.expected},"
            f" Seatflow {self.actual}: {self.reason}"
        )


def expected_user(
    states: list[dict[str, Any]] | None,
    assigned: list[dict[str, Any]] | None,
    groups: tuple[str, ...],
    unmatched: frozenset[str] = frozenset(),
) -> ExpectedUser:
    """Returns what to compare a user with; the lists are as in ``graph_objects``."""
    return ExpectedUser(
        None if states is None else tuple(states_of(states)),
        None if assigned is None else frozenset(each["skuId"] for each in assigned),
        groups,
        unmatched,
    )


def states_of(listed: Iterable[Mapping[str, Any]]) -> Iterator[State]:
    """Yields the states of ``licenseAssignmentStates``, of Graph or of ``user-licenses``."""
    for each in listed:
        yield State(
            each["skuId"],
            each.get("assignedByGroup"),
            frozenset(each.get("disabledPlans", ())),
            str(each.get("state", "Active")),
            str(each.get("error") or "None"),
        )


def compare(
    expected: Mapping[str, ExpectedUser],
    published: Mapping[str, Iterable[State]],
    survey: Survey,
) -> list[Difference]:
    """Returns the differences, by user and product.

    ``published``: the states that Seatflow published, by user; absent if there are none.
    Of the disabled plans, only those that the product has for users are compared.
    """
    found: list[Difference] = []
    short = _over_units(published, survey)
    for user, wanted in expected.items():
        actual = {(each.sku, each.group): each for each in published.get(user, ())}
        if wanted.states is not None:
            found += _of_user(user, wanted, actual, survey, short)
        if wanted.assigned is not None:
            held = {each.sku for each in actual.values() if each.held}
            listed = {each.sku for each in wanted.states or () if each.held}
            if wanted.states is None or wanted.assigned != listed:
                found += _assigned(user, wanted, held, survey)
    found.sort(key=lambda each: (each.user, each.sku, each.path))
    return found


def _over_units(published: Mapping[str, Iterable[State]], survey: Survey) -> frozenset[str]:
    """Returns the products of which more users have a seat than there are units."""
    used = Counter(
        sku for states in published.values() for sku in {each.sku for each in states if each.held}
    )
    return frozenset(sku for sku, count in used.items() if count > survey.units.get(sku, count))


def summary(differences: list[Difference], users: int) -> Iterator[str]:
    """Yields the lines of a report: the unexplained differences, then counts by reason."""
    unexplained = [each for each in differences if not each.explained]
    yield from map(str, unexplained)
    explained = Counter(each.reason for each in differences if each.explained)
    first = {each.reason: each for each in reversed(differences) if each.explained}
    for reason, count in explained.most_common():
        yield f"{count:,} × {reason}; e.g. {first[reason].user}: {first[reason].sku}"
    yield (
        f"{users:,} users compared: {len(differences):,} differences,"
        f" {len(unexplained):,} unexplained"
    )


def _of_user(
    user: str,
    wanted: ExpectedUser,
    actual: Mapping[tuple[str, str | None], State],
    survey: Survey,
    short: frozenset[str],
) -> Iterator[Difference]:
    had = {each.sku for each in wanted.states or () if each.held}
    listed = {(each.sku, each.group): each for each in wanted.states or ()}
    for key in listed.keys() | actual.keys():
        graph, found = listed.get(key), actual.get(key)
        if _same(graph, found, survey):
            continue
        reason, explained = _why(graph, found, key, wanted, survey)
        if found is not None and found.held and key[0] in short and key[0] not in had:
            reason, explained = "a seat was given although all units are used", False
        yield Difference(
            user, key[0], key[1] or "direct", _shown(graph, found), _shown(found, graph), reason,
            explained,
        )  # fmt: skip


def _same(graph: State | None, found: State | None, survey: Survey) -> bool:
    if graph is None or found is None:
        return False
    if (graph.state, graph.error) != (found.state, found.error):
        return False
    return not graph.held or _disabled(graph, survey) == _disabled(found, survey)


def _disabled(state: State, survey: Survey) -> frozenset[str]:
    """Returns the disabled plans, without those that the product no longer has for users."""
    known = survey.plans.get(state.sku)
    return state.disabled if not known else state.disabled & known


def _shown(state: State | None, other: State | None) -> str:
    if state is None:
        return "nothing"
    if other is not None and str(state) == str(other):
        return f"{state} without {', '.join(sorted(state.disabled)) or 'any plan disabled'}"
    return str(state)


def _why(
    graph: State | None,
    found: State | None,
    key: tuple[str, str | None],
    wanted: ExpectedUser,
    survey: Survey,
) -> tuple[str, bool]:
    """Returns the probable reason, and whether it explains the difference."""
    sku, group = key
    if graph is not None and graph.held and (found is None or not found.held):
        return _lost(sku, group, wanted, survey)
    if graph is None:
        return _gained(found, group, wanted, survey)
    if found is None:
        return _not_asked_for(sku, group, wanted, survey)
    if not graph.held and found.held:
        return ("nothing stands against it any more: Entra tries again only when asked", True)
    if not graph.held:
        return (f"both refuse it; the checks find {found.error} where Entra kept its error", True)
    if graph.state == found.state == "Active" or graph.error == found.error:
        return ("the plans differ", False)
    if found.error == "None":
        return ("the error that Entra recorded no longer holds", True)
    if found.state == "ActiveWithError":
        return (f"kept, and marked {found.error} by the facts about plans in the catalog", True)
    return ("the states differ", False)


def _lost(sku: str, group: str | None, wanted: ExpectedUser, survey: Survey) -> tuple[str, bool]:
    """Explains a licence that Graph says is held and that Seatflow does not have."""
    if sku not in survey.plans:
        return ("subscribedSkus of the export does not have the product", True)
    if group is None:
        return ("a direct licence was not taken over", False)
    facts = survey.groups.get(group)
    if facts is None:
        return ("the export does not have the group", True)
    if facts.licenses is None:
        return ("the export does not say which licences the group has", True)
    if sku not in facts.licenses:
        return ("assignedLicenses of the group do not name the product", True)
    if group not in wanted.groups:
        return ("the group's members do not name the user", True)
    if group in wanted.unmatched:
        return (UNMATCHED, True)
    return ("a licence by a group was not taken over", False)


def _gained(
    found: State | None, group: str | None, wanted: ExpectedUser, survey: Survey
) -> tuple[str, bool]:
    """Explains a licence that Graph does not list for the user."""
    facts = survey.groups.get(group or "")
    if group is None or facts is None:
        return ("Graph does not list it", False)
    if facts.processing not in ("", "ProcessingComplete"):
        return ("Entra was still processing the group when it was exported", True)
    if group not in wanted.groups and facts.rule is not None:
        return ("the group's rule matches the user, whom its members do not name", True)
    outcome = "has given" if found is not None and found.held else "has tried"
    return (f"the user is a member, and Entra had not decided yet: Seatflow {outcome} it", True)


def _not_asked_for(
    sku: str, group: str | None, wanted: ExpectedUser, survey: Survey
) -> tuple[str, bool]:
    """Explains an error of Graph for a licence that nothing asks for in Seatflow."""
    if group is None:
        return ("a direct licence that was refused is not kept as a wish", True)
    facts = survey.groups.get(group)
    if facts is None or sku not in (facts.licenses or ()):
        return ("the group of the export does not have the product", True)
    if group not in wanted.groups:
        return ("the group's members do not name the user", True)
    if group in wanted.unmatched:
        return (UNMATCHED, True)
    if sku not in survey.plans:
        return ("subscribedSkus of the export does not have the product", True)
    return ("the wish of the group is missing", False)


def _assigned(
    user: str, wanted: ExpectedUser, held: set[str], survey: Survey
) -> Iterator[Difference]:
    """Compares the products that a user has at all, where no state says by which path."""
    for sku in sorted((wanted.assigned or frozenset()) ^ held):
        if sku in held:
            why = ("the user's groups give it", True)
        elif sku not in survey.plans:
            why = ("subscribedSkus of the export does not have the product", True)
        elif wanted.states is None:
            why = (
                "assignedLicenses do not say by which path: select licenseAssignmentStates",
                True,
            )
        else:
            why = ("assignedLicenses and licenseAssignmentStates of the export disagree", True)
        expected, actual = ("nothing", "held") if sku in held else ("held", "nothing")
        yield Difference(user, sku, "any path", expected, actual, *why)
