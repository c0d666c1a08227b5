"""Explanation, rule by rule and in sentences, why a user has or lacks each licence.

The sentences on the rules come from the trace of the engine's own evaluation of the present state;
the verdict is what the workers published. Where the two differ, a sentence says why that can be.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from engine.domain import messages as words
from engine.domain.messages import Rejection
from engine.domain.model import Product, Tenant
from engine.domain.vocabulary import COUNT, OTHER
from engine.rules.checks import enabled_plans
from engine.rules.direct_change import DirectChange, change_direct
from engine.rules.evaluation import trace_evaluation
from engine.rules.mail_attributes import mail_key
from engine.rules.outcome import ErrorReason
from engine.rules.trace import TracedDecision
from streams.console.read_model import queries
from streams.console.read_model.causes import losses
from streams.console.read_model.graph_mapping import group_to_graph, sku_to_graph
from streams.console.whatif import reconstruction
from streams.console.whatif.reconstruction import Connection, ReconstructedUser
from streams.console.whatif.shared_addresses import owner_of_name

GROUPS_NAMED = 5


class Finding(NamedTuple):
    """One sentence: by which rule, and whether it speaks for the licence."""

    rule: str
    ok: bool
    text: str

    def to_json(self) -> dict[str, Any]:
        """Returns the finding as the API shows it."""
        return self._asdict()


SEAT_CHECK = "R7.5"
PASSED = {
    "R7.1": "Every plan is available in {where}.",
    "R7.2": "No plan conflicts with another one that the user has or would get.",
    "R7.3": "Every plan that its plans require is enabled.",
    "R7.4": "No mail plan is new, or no address that it would have belongs to an earlier user.",
}


def explain(
    db: Connection, tenant: str, user: str, sku: str | None = None
) -> dict[str, Any] | None:
    """Explains every product that the user has or that the tenant bought, or just ``sku``.

    Returns None if there is no such user.
    """
    known = reconstruction.products(db)
    found = reconstruction.reconstruct_user(db, tenant, user, known)
    if found is None:
        return None
    return _Explanation(db, tenant, found, known).findings(sku)


class _Explanation:
    def __init__(
        self, db: Connection, tenant: str, found: ReconstructedUser, known: dict[str, Product]
    ) -> None:
        self.db, self.tenant, self.found, self.known = db, tenant, found, known
        self.settings: Tenant = reconstruction.settings(db, tenant)
        # What was published as lacking a seat is evaluated so: seats that became free meanwhile are
        # for `_seat` to tell, and the trace agrees with the published state.
        states = found.user["licenseAssignmentStates"]
        denied = {s["skuId"] for s in states if s["error"] == COUNT}
        self.facts = found.situation(self.settings, denied)
        self.trace = trace_evaluation(known, self.facts)[1]
        groups = {*found.paths, *(group for group, _ in found.groups)}
        self.names = queries.group_names(db, tenant, groups)
        self.seats = {row["skuId"]: row for row in self._seats()}

    def _seats(self) -> list[dict[str, Any]]:
        rows = self.db.execute(f"SELECT {queries.SKUS.query}", (self.tenant,))
        return [sku_to_graph(row) for row in rows]

    def findings(self, sku: str | None) -> dict[str, Any]:
        """Returns the explanation of one product, or of all."""
        states = self.found.user["licenseAssignmentStates"]
        mine = {s["skuId"] for s in states}
        wanted = [sku] if sku else [*sorted(mine, key=self._title), *self._others(mine)]
        return {
            "user": self.found.user["id"],
            "displayName": self.found.user["displayName"],
            "usageLocation": self.facts.location,
            "groups": [
                {"id": group, "displayName": self.names.get(group), "since": since}
                for group, (since, _) in self.found.groups
            ],
            "products": [self._product(one, states) for one in wanted],
            "lost": [
                {**one, "displayName": self._title(one["skuId"])}
                for one in losses(self.db, self.tenant, self.found.user["id"], mine)
                if sku in (None, one["skuId"])
            ],
        }

    def _others(self, mine: set[str]) -> list[str]:
        return sorted(self.seats.keys() - mine, key=self._title)

    def _title(self, sku: str) -> str:
        product = self.known.get(sku)
        return product.name if product else sku

    def _name(self, group: str) -> str:
        return self.names.get(group, group)

    # -- one product
    def _product(self, sku: str, states: list[dict[str, Any]]) -> dict[str, Any]:
        paths = [s for s in states if s["skuId"] == sku]
        held = [s for s in paths if s["state"] in reconstruction.HELD]
        product = self.known.get(sku)
        on = enabled_plans(e.plans for e in self.found.entries if e.plans.sku == sku)
        plans = sorted(product.user_plans) if product and held else []
        return {
            "skuId": sku,
            "skuPartNumber": words.product_name(self.known, sku),
            "displayName": self._title(sku),
            "held": bool(held),
            "verdict": self._verdict(sku, paths, held),
            "plansOn": [self._plan(p, sku) for p in plans if p in on],
            "plansOff": [self._plan(p, sku) for p in plans if p not in on],
            "paths": [self._path(s) for s in paths],
            "sentences": [s.to_json() for s in (self._union(held) if paths else self._lacks(sku))],
        }

    def _plan(self, plan: str, sku: str) -> dict[str, str]:
        return {"servicePlanId": plan, "servicePlanName": words.plan_name(self.known, plan, sku)}

    def _verdict(self, sku: str, paths: list[dict[str, Any]], held: list[dict[str, Any]]) -> str:
        failed = [s for s in paths if s["state"] == "Error"]
        failing_paths = [s for s in held if s["state"] == "ActiveWithError"]
        if held:
            text = f"The user has it, {_and([self._path_text(s) for s in held])}"
            if any(s["state"] == "Disabled" for s in held):
                text += ", disabled while the subscription is off"
            if failing_paths:
                return f"{text}; {_count(len(failing_paths), 'path')} with an error."
            if failed:
                requested = _and([self._path_text(s) for s in failed])
                text += f"; also requested {requested}, but not assigned"
            return f"{text}."
        if failed:
            requested = _and([self._path_text(s) for s in failed])
            return f"The user does not have it: requested {requested}, but not assigned."
        if sku not in self.known:
            return "The product is not defined."
        return "The user does not have it, and nothing requests it."

    def _path_text(self, state: dict[str, Any]) -> str:
        group = state["assignedByGroup"]
        return "directly" if group is None else f"through {self._name(group)}"

    def _union(self, held: list[dict[str, Any]]) -> list[Finding]:
        if len(held) < 2:
            return []
        return [
            Finding("R1", True, f"The plans enabled by its {len(held)} paths are combined."),
            Finding("R2", True, "It uses one seat, however many paths lead to it."),
        ]

    # -- one path
    def _path(self, state: dict[str, Any]) -> dict[str, Any]:
        findings = [self._request(state)]
        if state["skuId"] not in self.known:
            findings.append(Finding("R21", False, "The product is not defined any more."))
        elif state["state"] == "Error":
            findings += self._refused(state)
        else:
            findings += self._kept(state)
        group = state["assignedByGroup"]
        names = ("state", "error", "since", "disabledPlans")
        return {
            "group": group,
            "displayName": self._name(group) if group else None,
            **{name: state[name] for name in names},
            "message": state.get("message"),
            "sentences": [one.to_json() for one in findings],
        }

    def _request(self, state: dict[str, Any]) -> Finding:
        group, sku = state["assignedByGroup"], state["skuId"]
        if group is None:
            return Finding("R17", True, "It was assigned to the user directly.")
        name = self._name(group)
        if group not in dict(self.found.groups):
            return Finding("R11", False, f"The user is no longer a member of {name}.")
        if sku not in self.found.licences[group].wanted:
            return Finding("R11", False, f"{name} no longer licenses it.")
        return Finding("R4", True, f"The user is a direct member of {name}, which licenses it.")

    def _kept(self, state: dict[str, Any]) -> list[Finding]:
        product = self.known[state["skuId"]]
        off = [words.plan_name(self.known, p, product.id) for p in state["disabledPlans"]]
        on = len(product.user_plans) - len(off)
        text = f"This path enables {on} of {_count(len(product.user_plans), 'plan')}"
        findings = [Finding("R3", True, text + (f"; off: {', '.join(off)}." if off else "."))]
        if state["state"] == "Disabled":
            text = (
                "It is disabled: the subscription is suspended, locked out or deleted. The user"
                " keeps it with its seat, and it is active again when units are enabled."
            )
            return [*findings, Finding("R15", False, text)]
        if state["state"] == "Active":
            text = "It has no errors, and stays for as long as something requests it."
            return [*findings, Finding("R5", True, text)]
        text = "It is kept: an active licence is never revoked because of an error."
        return [
            *findings,
            Finding(self._failed_rule(state), False, _sentence(state)),
            Finding("R5", True, text),
        ]

    def _failed_rule(self, state: dict[str, Any]) -> str:
        """Returns the rule by which an entry that the user keeps is in error."""
        path_index = self.found.slot(state["assignedByGroup"])
        for decision in self.trace.of(state["skuId"], path_index):
            if decision.reason is not None and decision.reason.error == state["error"]:
                deleted = decision.rule == "R11" and self._deleted(state)
                return "R13" if deleted else decision.rule
        return "R14"

    def _deleted(self, state: dict[str, Any]) -> bool:
        known = self.found.licences.get(state["assignedByGroup"] or "")
        return known is not None and known.deleted

    def _refused(self, state: dict[str, Any]) -> list[Finding]:
        sku, group = state["skuId"], state["assignedByGroup"]
        decision = self.trace.last(sku, self.found.slot(group), "R7")
        if decision is None:  # published before the group or the user changed
            return [Finding("R7", False, _sentence(state))]
        findings = [
            self._checked(check.rule, check.reason)
            for check in decision.checks
            if check.rule in PASSED
        ]
        if all(one.ok for one in findings):
            findings += self._seat(state, decision)
        if state["error"] == OTHER:
            findings.append(Finding("R6", False, _sentence(state)))
            return findings
        if len(decision.attempted) > 1:
            text = f"The {len(decision.attempted)} products that {self._name(group)} still owes"
            text += " the user are assigned together or not at all."
            findings.append(Finding("R6", True, text))
        if all(one.ok for one in findings):
            text = f"The published state: {_sentence(state)} It is evaluated again when something"
            findings.append(Finding("R9", False, f"{text} about the user or the group changes."))
        return findings

    def _checked(self, rule: str, reason: ErrorReason | None) -> Finding:
        if reason is not None:
            return Finding(rule, False, reason.message)
        return Finding(rule, True, PASSED[rule].format(where=self._where()))

    def _where(self) -> str:
        own = self.found.user["usageLocation"]
        return f"{own}, the user's location" if own else f"{self.facts.location}, the tenant's"

    def _seat(self, state: dict[str, Any], decision: TracedDecision) -> list[Finding]:
        """Returns the findings of R7.5, which is checked only after all other checks passed."""
        sku = state["skuId"]
        if sku in self.facts.held:
            return [Finding("R2", True, "The user holds a seat of it already.")]
        if not any(check.rule == SEAT_CHECK for check in decision.checks):
            blocking = self._blocking(decision)
            text = f"No seat was requested, because {blocking} of the same group failed its checks."
            return [Finding(SEAT_CHECK, True, text)]
        seats = self.seats.get(sku)
        free = seats["availableUnits"] if seats else 0
        if free > 0 and state["error"] == COUNT:
            return [Finding("R9", False, f"{_count(free, 'seat')} free: {self._retry()}")]
        if free > 0:
            return [Finding(SEAT_CHECK, True, f"{_count(free, 'seat')} free.")]
        waiting = seats["waitingUsers"] if seats else 0
        line = (
            f" {_count(waiting, 'user')} waiting; the longest-waiting one is next."
            if waiting
            else ""
        )
        return [Finding(SEAT_CHECK, False, words.count(self.known, sku) + line)]

    def _retry(self) -> str:
        if self.settings.automatic:
            return "it is about to be retried."
        return "but the tenant's policy is manual. Reprocess the user or the group to try again."

    def _blocking(self, decision: TracedDecision) -> str:
        """Returns the name of an attempted product that failed a check before seats (R6)."""
        details = dict(decision.reason.details) if decision.reason else {}
        match details.get("blockedBy"):
            case (str(first), *_):
                return words.product_name(self.known, first)
        return "another product"

    # -- a product that nothing asks for
    def _lacks(self, sku: str) -> list[Finding]:
        groups = len(self.found.groups)
        text = "it has no direct licence, and " + (
            f"none of its {_count(groups, 'group')} licenses it" if groups else "is in no group"
        )
        findings = [Finding("R4", False, f"Nothing requests it: {text}.")]
        if sku not in self.known:
            return [*findings, Finding("R21", False, "It is not defined: nothing can be assigned.")]
        givers = self._givers(sku)
        if givers:
            findings.append(Finding("R4", True, f"Groups that license it: {givers}."))
        return [*findings, self._directly(sku)]

    def _givers(self, sku: str) -> str:
        sql = (
            f"SELECT {queries.GROUPS.query} AND NOT g.deleted AND "
            f"{queries.GROUPS.filters['skuId'].where} ORDER BY g.members DESC LIMIT ?"
        )
        rows = self.db.execute(sql, (self.tenant, sku, GROUPS_NAMED + 1)).fetchall()
        names = [group_to_graph(row) for row in rows]
        text = ", ".join(g["displayName"] or g["id"] for g in names[:GROUPS_NAMED])
        return text + (" and others" if len(names) > GROUPS_NAMED else "")

    def _directly(self, sku: str) -> Finding:
        """Returns the finding of R16: the outcome of a direct assignment."""
        seats = self.seats.get(sku)
        denied = frozenset([sku]) if not seats or seats["availableUnits"] <= 0 else frozenset()
        facts = self.facts._replace(denied=denied, duplicate=self._duplicate(sku))
        change = DirectChange(((sku, ()),), ())
        made = change_direct(self.known, facts, self.found.user["usageLocation"], change)
        if isinstance(made, Rejection):
            return Finding("R16", False, f"A direct assignment would be rejected: {made.message}")
        return Finding("R16", True, "It could be assigned directly now.")

    def _duplicate(self, sku: str) -> tuple[str, str] | None:
        """Returns an address that a direct licence would need and another user owns (R18)."""
        name = self.found.user["userPrincipalName"]
        if self.facts.duplicate or not name or not self.known[sku].without(()).mail:
            return self.facts.duplicate
        owner = owner_of_name(self.db, self.tenant, self.found.user["id"], name)
        return (mail_key(name), owner) if owner else None


def _sentence(state: dict[str, Any]) -> str:
    return state.get("message") or f"{state['error']}."


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _and(parts: list[str]) -> str:
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}"
