"""Dry runs: what they find is what a cluster with all its outputs publishes."""

import json
import re
import time
from collections import Counter
from collections.abc import Iterable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from engine.documents.user_documents import published_states
from engine.simulation.in_memory_cluster import InMemoryCluster
from engine.state.tenant_state import User
from streams.bench.workload import bench_configuration, bench_demand, bench_onboarding
from streams.catalog import product
from streams.cli.main import app
from streams.cli.simulate import run
from streams.contract.event_reader import Event, event_of
from streams.demo.scenario import SCARCE, TENANT, demo_steps
from streams.simulate import Findings
from streams.simulate.html_report import page
from streams.simulate.snapshot import Snapshot, differences
from streams.whatif import Simulation
from streams.whatif.comparison import known
from tests.support.demo_cluster import demo_cluster
from tests.support.kafka import Kafka
from tests.support.system import Events, running
from tests.support.timing import limit_seconds


def events_of(values: Any) -> list[Event]:
    found = [event_of(value) for value in values]
    assert not [each for each in found if isinstance(each, str)]
    return found  # type: ignore[return-value]


def written(path: Path, *events: Any) -> Path:
    """Events of ``tests.support.system.Events`` as JSON Lines."""
    path.write_bytes(b"".join(value + b"\n" for _, _, value in events))
    return path


@pytest.fixture(scope="module")
def demo() -> InMemoryCluster:
    return demo_cluster()


def test_a_simulation_comes_to_what_a_cluster_publishes(demo: InMemoryCluster) -> None:
    simulation = Simulation()
    for step in demo_steps():
        found = [event_of(value) for _, _, value in step.records]
        good = [
            each
            for each, (topic, key, _) in zip(found, step.records, strict=True)
            if isinstance(each, Event) and (each.topic, each.key) == (topic, key)
        ]
        simulation.run(good)
    # Who gets the last seats depends on who came first, between partitions on the moment.
    scarce = product(SCARCE)["skuId"]

    def states(users: Iterable[User]) -> dict[str, Any]:
        return {
            user.id: published_states(user.outcome, user.paths)
            for user in users
            if user.known and scarce not in user.outcome.skus
        }

    everybody = [u for m in demo.machines for u in m.configuration.tenant(TENANT).users.values()]
    assert states(known(simulation)) == states(everybody)
    seats: dict[str, Any] = {}
    for output in demo.outputs:
        if output.topic == "product-seats":
            seats[output.key] = (output.value["consumedUnits"], output.value["waitingUsers"])
    simulated = simulation.machine.products.budgets
    assert {key: tuple(s.published[1:3]) for key, s in simulated.items() if s.published} == seats


def test_a_snapshot_gives_the_same_state_again(demo: InMemoryCluster) -> None:
    snapshot = Snapshot(demo.machines, TENANT)
    assert len(snapshot.users()) > 1_900
    assert differences(snapshot) == []


def test_a_snapshot_has_the_recycle_bin_and_takes_no_seat_from_its_holder(tmp_path: Path) -> None:
    make, cluster = Events(TENANT), InMemoryCluster(2)
    times = iter(range(1_700_000_000_000, 1_800_000_000_000))

    def publish(*events: tuple[str, str, bytes]) -> None:
        for topic, key, value in events:
            found = event_of(value)
            assert isinstance(found, Event)
            cluster.publish(topic, key, found.event, next(times))
        cluster.settle()

    publish(*(make.product(sku) for sku in ("e3", "visio", "project")))
    publish(make.seats("e3", 1), make.seats("visio", 1), make.seats("project", 1))
    publish(make.license("g", "project"), make.license("h", "e3"), make.user("bob"))
    publish(make.join("bob", "g"), make.user("ann"), make.assign("ann", "e3"))
    publish(make.join("ann", "g"), make.user("cid"), make.join("cid", "h"))
    publish(make.user("dan", mailNickname="d"), make.assign("dan", "visio"), make.join("dan", "k"))
    publish(make._of_user("dan", "user.deleted", restorable=True))
    snapshot = Snapshot(cluster.machines, TENANT)
    assert differences(snapshot) == []
    file = tmp_path / "state.jsonl"
    file.write_bytes(b"\n".join(snapshot.lines()))
    back = written(tmp_path / "back.jsonl", make.user("dan"))
    findings = run([back], file)
    assert (findings.users_before, findings.users, findings.gained) == (3, 4, 1)


def test_a_snapshot_gives_no_seat_to_who_waits_while_addresses_are_claimed() -> None:
    """R18: Ann's licence with a mail plan is adopted when her principal name is claimed."""
    make, cluster = Events(TENANT), InMemoryCluster(2)
    topic, key, value = make.product("mailbox")
    plans = [{"servicePlanId": "mail", "mailEnabled": True}]
    product = topic, key, json.dumps({**json.loads(value), "servicePlans": plans}).encode()
    joined = [make.user("ann", userPrincipalName="ann@x"), make.join("ann", "g")]
    for number, (topic, key, value) in enumerate(
        [
            product,
            make.seats("mailbox", 1),
            make.license("g", "mailbox"),
            *joined,
            make.user("bob"),
            make.join("bob", "g"),
        ]
    ):
        found = event_of(value)
        assert isinstance(found, Event)
        cluster.publish(topic, key, found.event, 1_700_000_000_000 + number)
        cluster.settle()
    assert differences(Snapshot(cluster.machines, TENANT)) == []


def test_a_snapshot_has_rules_and_what_they_do_afterwards() -> None:
    """R27: a rule and a paused one, members that they keep from counting, and attributes."""
    make, cluster = Events(TENANT), InMemoryCluster(2)
    times = iter(range(1_700_000_000_000, 1_800_000_000_000))

    def rule(group: str, **members: Any) -> tuple[str, str, bytes]:
        members |= {"tenant": TENANT, "group": group}
        return make._event("group-changes", f"{TENANT}/{group}", "group.upserted", **members)

    def publish(*events: tuple[str, str, bytes]) -> None:
        for topic, key, value in events:
            found = event_of(value)
            assert isinstance(found, Event)
            cluster.publish(topic, key, found.event, next(times))
        cluster.settle()

    sales, leeds = 'user.department -eq "Sales"', 'user.city -eq "Leeds"'
    both = {"department": "Sales", "city": "Leeds"}
    publish(
        *(make.product(sku) for sku in ("e3", "ems")), make.seats("e3", 9), make.seats("ems", 9)
    )
    publish(make.license("g", "e3"), make.license("p", "ems"))
    publish(rule("g", membershipRule=sales), rule("p", membershipRule=leeds))
    publish(make.user("ann", attributes=both), make.user("bob"), make.join("bob", "g"))
    publish(make.join("cid", "g"), make.join("bob", "p"))
    publish(rule("p", membershipRuleProcessingState="Paused"))
    publish(make.user("ann", attributes={"city": "Kiel"}), make.user("dan", attributes=both))
    snapshot = Snapshot(cluster.machines, TENANT)
    assert differences(snapshot) == []
    simulation = Simulation()
    simulation.run(events_of(snapshot.lines()))
    for later in (
        [make.user("dan", attributes={"department": "HR"}), make.user("cid", attributes=both)],
        [rule("p", membershipRuleProcessingState="On")],
        [rule("g", membershipRule=None), rule("p", membershipRule=None)],
    ):
        publish(*later)
        simulation.run(events_of(value for _, _, value in later))
        held = {
            user.id: user.outcome.held
            for user in simulation.machine.configuration.tenant(TENANT).users.values()
        }
        assert held == {
            user.id: user.outcome.held for user in Snapshot(cluster.machines, TENANT).users()
        }


def onboarding(tmp_path: Path, users: int, missing: int = 0) -> Path:
    units = {name: n - missing for name, n in bench_demand(users, 20).items()}
    file = tmp_path / "onboarding.jsonl"
    with file.open("wb") as out:
        for _, _, value in (*bench_configuration(units, 20), *bench_onboarding(users, 20)):
            out.write(value + b"\n")
    return file


def test_bulk_onboarding_is_fast_and_says_how_many_seats_are_short(tmp_path: Path) -> None:
    users = 10_000
    file = onboarding(tmp_path, users, missing=50)
    began = time.process_time()
    findings = run([file], None)
    spent = time.process_time() - began
    assert findings.users == users
    assert findings.users_before == 0
    [count] = [each for each in findings.failures if each.error == "CountViolation"]
    assert count.users == count.new >= 50
    assert len(count.examples) == 3
    assert sum(product.short > 0 for product in findings.products) >= 2
    assert all(product.used <= product.units for product in findings.products)
    # 500,000 users in 20 s are 40 µs each; the machine of a test is busy with others.
    assert spent / users < limit_seconds(400e-6)


def test_a_change_on_top_of_a_snapshot(tmp_path: Path) -> None:
    make = Events()
    before = written(
        tmp_path / "before.jsonl",
        make.product("e3", "mail", "files"),
        make.product("f1", "mail-small"),
        make.seats("e3", 2),
        make.seats("f1", 9),
        make.license("g", "e3"),
        make.user("ann"),
        make.join("ann", "g"),
        make.user("bob"),
        make.join("bob", "g"),
    )
    change = written(
        tmp_path / "change.jsonl",
        make.leave("ann", "g"),
        make.user("cid"),
        make.join("cid", "g"),
        make.user("dan"),
        make.join("dan", "g"),
        make.assign("nobody", "f1"),
        make.license("h", "f1", "unknown"),
    )
    findings = run([change], before)
    assert (findings.users_before, findings.users) == (2, 4)
    assert (findings.licensed_before, findings.licensed) == (2, 2)
    assert findings.loss.users == 1
    assert findings.loss.plans == Counter({"mail": 1, "files": 1})
    assert findings.gained == 1
    [failure] = findings.failures
    assert (failure.error, failure.users, failure.new) == ("CountViolation", 1, 1)
    assert failure.examples[0]["user"] == "dan"
    assert [(p.sku, p.short) for p in findings.products] == [("e3", 1), ("f1", 0)]
    [group] = [g for g in findings.groups if g.group == "g"]
    assert (group.members_before, group.members, group.with_errors) == (2, 3, 1)
    assert {(r.status, r.error) for r in findings.rejections} == {
        ("rejected", "UserNotFound"),
        ("deferred", ""),
    }


def test_a_product_that_was_never_bought_is_short_of_every_seat(tmp_path: Path) -> None:
    make = Events()
    people = [make.join("ann", "g"), make.join("bob", "g"), make.user("ann"), make.user("bob")]
    file = written(tmp_path / "f.jsonl", make.product("e3"), make.license("g", "e3"), *people)
    assert [(p.sku, p.units, p.short) for p in run([file], None).products] == [("e3", 0, 2)]


def test_bad_rows_are_told_and_counted(tmp_path: Path) -> None:
    file = tmp_path / "f.jsonl"
    file.write_text("nonsense\n")
    findings = run([file], None)
    assert findings.bad_rows == 1
    assert findings.problems[0].line == 1
    assert list(findings.as_lines())[-1]["kind"] == "problem"


class _Balanced(HTMLParser):
    """Counts what is open; void elements have no end."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: Counter[str] = Counter()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen[tag] += 1
        if tag not in ("meta", "br", "rect"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag != "rect":
            assert self.open.pop() == tag


def test_the_page_needs_nothing_else_and_escapes_what_it_shows(tmp_path: Path) -> None:
    findings = run([onboarding(tmp_path, 300, missing=20)], None)
    findings.failures[0].examples[0]["message"] = "<script>alert(1)</script>"
    text = page(findings, "A <b>plan</b>")
    assert "<script" not in text
    assert "<b>plan" not in text
    assert not re.search(r"(src|href)=", text)
    parser = _Balanced()
    parser.feed(text)
    assert parser.open == []
    assert parser.seen["svg"] > 3
    assert page(Findings(), "nothing").startswith("<!doctype html>")


def test_the_command(tmp_path: Path) -> None:
    file = onboarding(tmp_path, 200, missing=5)
    html = tmp_path / "report.html"
    result = CliRunner().invoke(app, ["simulate", str(file), "--html", str(html)])
    assert result.exit_code == 0, result.output
    assert "users licensed" in result.output
    assert html.exists()
    lines = CliRunner().invoke(app, ["simulate", str(file), "--json"]).stdout.splitlines()
    kinds = Counter(json.loads(line)["kind"] for line in lines)
    assert kinds["summary"] == 1
    assert kinds["product"] == 3
    assert kinds["group"] == 20


def test_an_export_of_a_running_system_is_simulated_to_the_same_state(
    kafka: Kafka, tmp_path: Path
) -> None:
    make = Events()
    with running(kafka.bootstrap) as system:
        system.worker()
        system.publish([make.product("e3"), make.product("f1")])
        system.settle()
        system.publish([make.seats("e3", 20), make.seats("f1", 9), make.license("g", "e3")])
        system.settle()
        for n in range(30):
            system.publish([make.user(f"u{n}"), make.join(f"u{n}", "g")])
        system.publish([make.assign("u1", "f1")])
        system.settle()
        file = tmp_path / "contoso.jsonl"
        flags = ["--brokers", kafka.bootstrap, "--topic-prefix", system.prefix]
        result = CliRunner().invoke(app, ["export", "--tenant", "contoso", str(file), *flags])
        assert result.exit_code == 0, result.output
        assert "would differ" not in result.output
        published = system.outcome()
    findings = run([file], None)
    assert (findings.users, findings.licensed, findings.with_errors) == (30, 21, 10) or (
        findings.users,
        findings.licensed,
        findings.with_errors,
    ) == (30, 20, 10)
    wanted = {key: value["consumedUnits"] for key, value in published["product-seats"].items()}
    assert sorted(wanted.values()) == sorted(p.used for p in findings.products)
