"""Moves that administrators make: nobody loses service at any step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from streams.cli.main import app
from streams.cli.simulate import run
from streams.ingest import FeedError, events_from_jsonl
from streams.simulate.migration_plan import direct_to_group
from tests.streams.ingest.played import Played
from tests.streams.simulate.test_simulate import written
from tests.support.system import Events

make = Events()


def snapshot(path: Path, *more: Any) -> Path:
    """ann has it directly, bob both, cid with more plans, dan lives where p is not sold."""
    off = {"addLicenses": [{"skuId": "e3", "disabledPlans": ["files"]}]}
    phone = {"servicePlanId": "phone", "prohibitedLocations": ["CN"]}
    everybody = [event for user in ("ann", "bob", "cid") for event in (make.user(user),)]
    return written(
        path,
        make.product("e3", "mail", "files"),
        make._event("catalog", "p", "product.defined", skuId="p", servicePlans=[phone]),
        make.seats("e3", 4),
        make.seats("p", 9),
        make._event("group-changes", "", "licenses.changed", tenant="contoso", group="g", **off),
        make.license("g", "p"),
        *everybody,
        make.user("dan", usageLocation="CN"),
        *(make._of_user(user, "licenses.changed", **off) for user in ("ann", "bob", "dan")),
        make.assign("cid", "e3"),
        make.join("bob", "g"),
        *more,
    )


def test_the_plan_says_who_and_why(tmp_path: Path) -> None:
    plan = direct_to_group(snapshot(tmp_path / "s.jsonl"), "g", "e3")
    assert plan.both == ["bob"]
    assert plan.only_direct == ["ann", "cid", "dan"]
    assert plan.would_lose == {"cid": ["files"]}
    # The group has another product that dan cannot have, and a group is all or nothing (R6).
    assert list(plan.not_licensed) == ["dan"]
    assert plan.released == ["ann", "bob"]
    assert plan.lost == 0
    accepted = direct_to_group(snapshot(tmp_path / "s.jsonl"), "g", "e3", accept_loss=True)
    assert accepted.released == ["ann", "bob", "cid"]
    assert accepted.lost == 1


def test_nobody_is_without_at_any_step(tmp_path: Path) -> None:
    file = snapshot(tmp_path / "s.jsonl")
    flags = ["--group", "g", "--product", "e3", "--on", str(file), "--out", str(tmp_path / "move")]
    result = CliRunner().invoke(app, ["plan", "direct-to-group", *flags])
    assert result.exit_code == 0, result.output
    assert "cid: files" in result.output
    played = Played()
    for line in events_from_jsonl(file):
        played.feed([line])
    files = [tmp_path / "move.1-join.jsonl", tmp_path / "move.2-release.jsonl"]
    for each in files:
        for output in played.feed(events_from_jsonl(each)):
            if output.topic == "user-licenses":
                held = [license["skuId"] for license in output.value["assignedLicenses"]]
                assert "e3" in held
            if output.topic == "product-seats" and output.value["skuId"] == "e3":
                assert output.value["consumedUnits"] == 4
    assert played.states("contoso/ann") == {("e3", "g"): "Active/None", ("p", "g"): "Active/None"}
    assert ("e3", None) in played.states("contoso/cid")
    findings = run(files, file)
    assert findings.loss.users == 0
    assert findings.licensed == findings.licensed_before == 4


def test_planned_again_after_the_first_file_it_is_the_second(tmp_path: Path) -> None:
    first = direct_to_group(snapshot(tmp_path / "s.jsonl"), "g", "e3")
    joined = [make.join(user, "g") for user in first.only_direct]
    again = direct_to_group(snapshot(tmp_path / "t.jsonl", *joined), "g")
    assert again.joins == []
    assert again.released == first.released


def test_a_group_without_the_product_gets_it(tmp_path: Path) -> None:
    file = snapshot(tmp_path / "s.jsonl")
    plan = direct_to_group(file, "new", "e3")
    assert plan.joins[0]["group"] == "new"
    assert plan.released == ["ann", "bob", "cid", "dan"]
    with pytest.raises(FeedError, match="--product"):
        direct_to_group(file, "new")
    with pytest.raises(FeedError, match="no product e9"):
        direct_to_group(file, "new", "e9")
