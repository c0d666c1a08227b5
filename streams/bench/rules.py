"""Membership rules (R27): 200 of them over 200,000 users, without Kafka.

A stream of attribute changes as an HR system sends it, of which one in ten moves a user to another
department and so from one licensed group to another; then the rule of one group is changed, as when
a department is renamed, and applied to all users.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import orjson

from streams.bench.engine import Loop, Stages
from streams.bench.environment import BenchEnvironment
from streams.bench.report import Result
from streams.bench.workload import TENANT, TIME, Record, bench_configuration

USERS, QUICK_USERS = 200_000, 2_000
CHANGES, QUICK_CHANGES = 100_000, 2_000
RULES = 200
MOVE_EVERY = 10
GOAL = 50_000
SLICE_USERS = 500


async def run(env: BenchEnvironment) -> Result:
    """Runs the benchmark in the environment and returns its result."""
    users, changes = (QUICK_USERS, QUICK_CHANGES) if env.quick else (USERS, CHANGES)
    env.show.step("rules and users", None)
    loop = Loop(bench_configuration({"E3": 2 * users, "EMS": 2 * users, "E5": 2 * users}, RULES))
    loop.publish(list(_rules()))
    loop.publish(list(_people(users)))
    env.show.step("attribute changes", None)
    stream = list(_changes(users, changes))
    loop.seconds.clear()
    loop.publish(stream)
    stages: Stages = dict(loop.seconds)
    rate = changes / sum(stages.values())
    env.show.step("a department is renamed", None)
    walk = _rename(loop)
    return Result(
        env.name,
        f"{RULES} rules, {users:,} users with 10 attributes; one change in {MOVE_EVERY} moves a"
        f" user; a changed rule is applied in {walk:.1f} s",
        events_per_second=rate,
        goal=f"{GOAL:,} events/s",
        reached=rate >= GOAL,
        details={
            "rename_seconds": walk,
            "rename_users_per_second": users / walk,
            "microseconds_per_event": {n: s / changes * 1e6 for n, s in sorted(stages.items())},
        },
    )


def _rename(loop: Loop) -> float:
    """Changes the rule of one group; returns the seconds until all users have it."""
    began = time.process_time()
    loop.publish([_rule(0, 'user.department -in ["Department 0", "Research"]')])
    while loop.machine.has_background_work:
        loop.machine.run_background(SLICE_USERS)
        loop.commit()
    return time.process_time() - began


def _rules() -> Iterator[Record]:
    for n in range(RULES):
        yield _rule(n, f'user.department -eq "Department {n}"')


def _rule(n: int, text: str) -> Record:
    group = f"g{n:03d}"
    event = {"type": "group.upserted", "id": f"rule-{text}", "time": TIME, "tenant": TENANT}
    event |= {"id": f"rule-{n}-{len(text)}", "group": group, "membershipRule": text}
    return "group-changes", f"{TENANT}/{group}".encode(), orjson.dumps(event)


def _people(users: int) -> Iterator[Record]:
    for n in range(users):
        attributes = {
            "department": f"Department {n % RULES}",
            "jobTitle": f"Title {n % 97}",
            "city": f"City {n % 31}",
            "country": f"Country {n % 7}",
            "companyName": f"Company {n % 5}",
            "officeLocation": f"Office {n % 113}",
            "employeeType": ("Employee", "Contractor")[n % 2],
            "accountEnabled": True,
            "employeeId": f"{n:08d}",
            "preferredLanguage": ("en-US", "de-DE", "fr-FR")[n % 3],
        }
        yield _user(n, "p", {"usageLocation": "US", "attributes": attributes})


def _changes(users: int, changes: int) -> Iterator[Record]:
    for i in range(changes):
        n = i * 7919 % users
        changed = {"jobTitle": f"Title {i % 89}"}
        if i % MOVE_EVERY == 0:
            changed["department"] = f"Department {(n + i) % RULES}"
        yield _user(n, f"c{i}", {"attributes": changed})


def _user(n: int, event_id: str, facts: dict[str, Any]) -> Record:
    user = f"u{n:07d}"
    event = {"type": "user.upserted", "id": f"{event_id}-{n}", "time": TIME, "tenant": TENANT}
    return (
        "user-changes",
        f"{TENANT}/{user}".encode(),
        orjson.dumps(event | {"user": user, **facts}),
    )
