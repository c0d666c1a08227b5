"""The answer to a what-if question: what the events change, user by user and seat by seat."""

from __future__ import annotations

from typing import Any

from engine.domain.vocabulary import NONE
from engine.rules.outcome import AssignmentState
from streams.console.read_model import queries
from streams.console.whatif.affected_users import decoded, reached
from streams.console.whatif.reconstruction import Connection
from streams.console.whatif.replica import TenantReplica
from streams.whatif import Baseline, SeatFigures, take_baseline
from streams.whatif.comparison import part_number, user_changes

SHOWN = 1_000


def outcome(
    db: Connection, tenant: str, given: list[Any], most: int, now_ms: int
) -> dict[str, Any]:
    """Returns the outcome of the events, if they came from ``now_ms`` on.

    Raises: EventNotReadableError, ScopeTooLargeError.
    """
    events = decoded(tenant, given)
    users = reached(db, tenant, events, most)
    replica = TenantReplica(db, tenant, users, now_ms)
    before, seats_before = take_baseline(replica.simulation), replica.seats()
    replica.apply(events)
    failures, cleared, changes = _compare(replica, before)
    names = queries.group_names(db, tenant, {f["group"] for f in failures if f["group"]})
    for failure in failures:
        failure["groupDisplayName"] = names.get(failure["group"])
    return {
        "events": len(given),
        "usersEvaluated": len(users),
        "usersChanged": len({c["user"] for c in changes}),
        "usersFailing": len({f["user"] for f in failures}),
        "results": replica.simulation.results[before.results :],
        "failures": failures[:SHOWN],
        "failuresTotal": len(failures),
        "cleared": cleared[:SHOWN],
        "clearedTotal": len(cleared),
        "changes": changes[:SHOWN],
        "changesTotal": len(changes),
        "seats": _seat_changes(replica, seats_before),
    }


def _compare(replica: TenantReplica, before: Baseline) -> tuple[list[Any], list[Any], list[Any]]:
    """Errors that would come and go; products gained, lost, disabled and enabled (R15)."""
    failures, cleared, changes = [], [], []
    for change in sorted(user_changes(before, replica.simulation), key=lambda c: c.user):
        was, now = change.before.by_path(), change.after.by_path()
        for path in sorted(was.keys() | now.keys()):
            old_error, new_error = _error(was.get(path)), _error(now.get(path))
            row = _row(replica, change.user, *path)
            if new_error not in (NONE, old_error):
                failures.append(row | _failure(now[path]))
            elif old_error != NONE and new_error == NONE:
                cleared.append(row | {"error": old_error})
        for skus, word in (
            (change.gained, "gained"),
            (change.lost, "lost"),
            (change.disabled, "disabled"),
            (change.enabled, "enabled"),
        ):
            changes += [_row(replica, change.user, s) | {"change": word} for s in sorted(skus)]
    return failures, cleared, changes


def _error(state: AssignmentState | None) -> str:
    return state.reason.error if state else NONE


def _failure(state: AssignmentState) -> dict[str, str]:
    return {
        "state": state.state,
        "error": state.reason.error,
        "message": state.reason.message,
    }


def _row(replica: TenantReplica, user: str, sku: str, group: str = "") -> dict[str, Any]:
    known = replica.simulation.machine.configuration.products.get(sku)
    return {
        "user": user,
        "displayName": replica.names.get(user),
        "skuId": sku,
        "skuPartNumber": known.part_number if known else None,
        "group": group or None,
    }


def _seat_changes(replica: TenantReplica, before: dict[str, SeatFigures]) -> list[dict[str, Any]]:
    """Products whose figures would be others, and by how many seats each would be short."""
    found = []
    for sku, now in sorted(replica.seats().items()):
        was = before.get(sku, SeatFigures())
        if was == now:
            continue
        found.append(
            {
                "skuId": sku,
                "skuPartNumber": part_number(replica.simulation, sku),
                "units": now.units,
                "unitsBefore": was.units,
                "consumed": now.used,
                "consumedBefore": was.used,
                "available": now.units - now.used,
                "waiting": now.waiting,
                "waitingBefore": was.waiting,
                "short": now.waiting,
            }
        )
    return found
