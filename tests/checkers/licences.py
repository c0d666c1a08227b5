"""R4, R6, R10, R24 and the truth of every state: what was asked for against what is published."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace

from tests.checkers.history import (
    History,
    Json,
    Violation,
    held_products,
    is_entry,
    states,
    tenant_of,
)
from tests.checkers.intent import AskedUser, Intent, intent_of
from tests.spec.facts import (
    CONFLICT,
    COUNT,
    UNIQUENESS,
    Entry,
    EvaluationInput,
    Product,
    user_plans,
)
from tests.spec.licensing import evaluate

NOBODY: Json = {"licenseAssignmentStates": [], "assignedLicenses": []}


def every_intent_published(history: History) -> list[Violation]:
    """Checks R4: each (group, product) that the memberships request is an entry or an error."""
    intent = intent_of(history)
    found: list[Violation] = []
    for key, asked in intent.users.items():
        published = {
            (s["skuId"], s["assignedByGroup"]) for s in states(history.users.get(key, NOBODY))
        }
        for group in asked.memberships if asked.known else ():
            licences = intent.groups[f"{tenant_of(key)}/{group}"]
            if licences.unclear:
                continue
            for sku in sorted(set(licences.licenses)):
                if (sku, group) not in published:
                    text = f"{key} is not told about {sku} of group {group}"
                    found.append(Violation("every intent published", text))
        for sku in sorted(set(asked.direct) & set(intent.products)):
            if asked.known and not asked.unclear and (sku, None) not in published:
                text = f"{key} has lost {sku}, applied directly"
                found.append(Violation("every intent published", text))
    return found


def no_state_without_cause(history: History) -> list[Violation]:
    """Checks that every published state was requested, or is kept by R11 or R13."""
    intent = intent_of(history)
    found: list[Violation] = []
    for key, user in history.users.items():
        asked = intent.users.get(key, AskedUser())
        if not asked.known and not asked.unclear:
            found.append(Violation("no state without cause", f"{key} is not a user"))
            continue
        for state in states(user):
            if not has_cause(intent, key, asked, state):
                path = state["assignedByGroup"] or "direct"
                text = f"nothing asks for {state['state']} {state['skuId']}/{path} of {key}"
                found.append(Violation("no state without cause", text))
    return found


def has_cause(intent: Intent, key: str, asked: AskedUser, state: Json) -> bool:
    sku, group = state["skuId"], state["assignedByGroup"]
    tenant = tenant_of(key)
    if group is None:
        converted = (tenant, sku) in intent.convertible
        return is_entry(state) and (sku in asked.direct or asked.unclear or converted)
    known = intent.groups.get(f"{tenant}/{group}")
    if known is None:
        return False
    if known.unclear or (group in asked.memberships and sku in known.licenses):
        return True
    kept = state["error"] in ("DependencyViolation", "UniquenessViolation")
    return bool(state["state"] == "ActiveWithError" and kept)


def all_or_nothing(history: History) -> list[Violation]:
    """Checks R6: in every revision, a group's missing products were admitted all or none.

    Products that one change added to a group are missing together, and with them all that were
    added before. So an error beside an entry of the same or a later change breaks the rule. Held
    to users who never left, in groups whose licences only grew: others may keep a part (R11).
    """
    intent = intent_of(history)
    found: list[Violation] = []
    for key, user in history.log("user-licenses"):
        by_group: dict[str, dict[str, bool]] = {}  # group -> skuId -> admitted
        for state in states(user or NOBODY):
            if state["assignedByGroup"] is not None:
                products = by_group.setdefault(state["assignedByGroup"], {})
                products[state["skuId"]] = is_entry(state)
        for group, admitted in by_group.items():
            asked = intent.groups.get(f"{tenant_of(key)}/{group}")
            if asked is None or not asked.only_grew or asked.unclear:
                continue
            if (key, group) not in intent.left and is_partial(asked.batches, admitted):
                text = f"{key} was given a part of group {group}: {admitted}"
                found.append(Violation("all or nothing", text))
    return found


def is_partial(batches: list[set[str]], admitted: dict[str, bool]) -> bool:
    refused = False
    for batch in batches:
        outcomes = {admitted[sku] for sku in batch if sku in admitted}
        refused |= False in outcomes
        if refused and True in outcomes:
            return True
    return False


def no_false_conflict(history: History) -> list[Violation]:
    """Checks R7.2: a conflict is with an enabled plan, or with another missing one of the group."""
    intent = intent_of(history)
    found: list[Violation] = []
    for key, user in history.users.items():
        for state in states(user):
            if state["error"] == CONFLICT and not has_conflict(intent.products, user, state):
                text = f"{key} {state['skuId']}: no plan of the user conflicts"
                found.append(Violation("no false conflict", text))
    return found


def has_conflict(products: dict[str, Product], user: Json, state: Json) -> bool:
    own = products[state["skuId"]]
    mine = user_plans(own)
    if not is_entry(state):
        mine -= set(state["disabledPlans"])
    return any(
        own[plan].exclusive_sets & products[s["skuId"]][other].exclusive_sets
        for s in states(user)
        if s["skuId"] != state["skuId"]
        and (is_entry(s) or s["assignedByGroup"] == state["assignedByGroup"])
        for other in user_plans(products[s["skuId"]]) - set(s["disabledPlans"])
        for plan in mine - {other}
    )


def settled(history: History) -> list[Violation]:
    """Checks that evaluating a published user again changes nothing.

    Which products lacked a seat is taken from the user's own states (`no_false_refusal` judges
    that). Who owns a shared address, and what a direct entry in error asks for, the logs do not
    always tell: then the user may be either.
    """
    intent = intent_of(history)
    found: list[Violation] = []
    for key, asked in intent.users.items():
        tenant = tenant_of(key)
        clear = all(not intent.groups[f"{tenant}/{g}"].unclear for g in asked.memberships)
        if not asked.known or asked.unclear or not clear:
            continue
        published = summary(history.users.get(key, NOBODY))
        outcomes = possible_outcomes(intent, key, asked, history.users.get(key, NOBODY))
        if published not in outcomes:
            wrong = sorted(set(published) ^ set(outcomes[0]), key=repr)
            text = f"{key} is not settled: published and evaluated differ in {wrong}"
            found.append(Violation("settled", text))
    return found


Summary = list[tuple[str, str, str, str, tuple[str, ...]]]


def summary(user: Json) -> Summary:
    return sorted(
        (
            s["skuId"],
            s["assignedByGroup"] or "direct",
            s["state"],
            s["error"],
            tuple(s["disabledPlans"]) if is_entry(s) else (),
        )
        for s in states(user)
    )


def possible_outcomes(intent: Intent, key: str, asked: AskedUser, user: Json) -> list[Summary]:
    tenant = tenant_of(key)
    shares = any(intent.claims[tenant, address] > 1 for address in asked.addresses)
    # Routing addresses are not among those; `addresses_have_an_owner` judges the error itself.
    shares |= any(s["error"] == UNIQUENESS for s in states(user))
    facts = EvaluationInput(
        products=intent.products,
        groups=intent.groups_of.get(tenant, {}),
        memberships=tuple(sorted(asked.memberships, key=lambda g: (asked.memberships[g], g))),
        location=asked.location,
        tenant_location=intent.tenant(tenant).location,
        on_group_deletion=intent.tenant(tenant).on_group_deletion,
        denied=frozenset(s["skuId"] for s in states(user) if s["error"] == COUNT),
        held=frozenset(held_products(user)),
        off=frozenset(s["skuId"] for s in states(user) if intent.is_off(f"{tenant}/{s['skuId']}")),
    )
    outcomes: list[Summary] = []
    for duplicate in (False, True) if shares else (False,):
        for intents in ({}, asked.direct):
            entries = published_entries(intent.products, user, intents)
            result = evaluate(replace(facts, entries=entries, duplicate=duplicate))
            outcomes.append(
                sorted(
                    (
                        s.sku,
                        s.path or "direct",
                        s.state,
                        s.error,
                        tuple(sorted(s.disabled)) if s.state != "Error" else (),
                    )
                    for s in result.states
                )
            )
    return outcomes


def published_entries(
    products: dict[str, Product], user: Json, intents: dict[str, frozenset[str]]
) -> tuple[Entry, ...]:
    return tuple(
        Entry(
            s["skuId"],
            s["assignedByGroup"],
            user_plans(products[s["skuId"]]) - set(s["disabledPlans"]),
            admission_order=0,
            disabled_plans=intents.get(s["skuId"], frozenset(s["disabledPlans"])),
        )
        for s in states(user)
        if is_entry(s)
    )


def same_outcome(
    first: History, second: History, ignored: frozenset[str] = frozenset()
) -> list[Violation]:
    """Checks that two runs of the same input end in the same states.

    Revisions and times may differ, and so may the ``ignored`` members of records.
    """
    found: list[Violation] = []
    for topic in ("user-licenses", "errors", "group-status", "product-seats"):
        one, two = outcome(first, topic, ignored), outcome(second, topic, ignored)
        for key in sorted(set(one) | set(two)):
            if one.get(key) != two.get(key):
                text = f"{topic} {key}: {one.get(key)} in one run, {two.get(key)} in the other"
                found.append(Violation("same outcome", text))
    return found


VOLATILE = {"revision", "since", "updatedAt", "causedBy", "message", "details"}


def outcome(history: History, topic: str, ignored: frozenset[str]) -> dict[str, object]:
    """Returns the comparable outcome; a user without licences equals one that never had any."""
    return {
        key: without(value, VOLATILE | ignored)
        for key, value in history.latest(topic).items()
        if value.get("licenseAssignmentStates") != []
    }


def without(value: object, members: Set[str]) -> object:
    if isinstance(value, dict):
        return {k: without(v, members) for k, v in value.items() if k not in members}
    if isinstance(value, list):
        return [without(v, members) for v in value]
    return value
