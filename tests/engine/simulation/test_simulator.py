"""The simulator itself: many hitraces hold, one seed is one history, and the judges agree."""

from __future__ import annotations

import pytest

from engine.domain.events import GroupUpserted
from engine.domain.limits import DEFAULT_LIMITS
from engine.machines.group_rules import names_rule
from engine.simulation.minimize import minimized
from engine.simulation.runner import Trace, config_for, failure, main, run
from engine.simulation.simulation_config import SimulationConfig
from engine.state import seat_lease
from streams.contract.decoder import DECODERS
from tests.checkers import History, violations
from tests.spec.audit import CONCURRENCY
from tests.support.generators import contract_json, inputs, records
from tests.support.scenario_player import encoded


@pytest.mark.parametrize("first", range(0, 80, 20))
def test_everything_holds_and_the_judges_of_recorded_topics_agree(first: int) -> None:
    for seed in range(first, first + 20):
        s = run(unlimited(seed))
        assert violations(records(s.broker)) == [], seed


def unlimited(seed: int) -> SimulationConfig:
    """Returns the history of a seed under the default limits and without membership rules.

    The judges of recorded topics know neither; the oracle and the simulator's checks know both.
    """
    config = config_for(seed)
    given = [
        i for i in config.inputs if not (isinstance(i.event, GroupUpserted) and names_rule(i.event))
    ]
    return config._replace(limits=DEFAULT_LIMITS, inputs=tuple(given))


def test_an_abandoned_attempt_is_in_the_audit_log() -> None:
    """R23: of the user, caused by the event that changed the facts meanwhile."""
    found = 0
    for seed in range(40):
        history = History(records(run(unlimited(seed)).broker))
        events = {event["id"] for event in history.events}
        for key, record in history.log("audit"):
            if record is None or record["activity"] != CONCURRENCY:
                continue
            found += 1
            assert record["target"] == {"type": "User", "id": key.partition("/")[2]}
            assert (record["result"], record["modifiedProperties"]) == ("failure", [])
            assert record["resultReason"].startswith(CONCURRENCY)
            assert record["causedBy"] in events
    assert found


def test_the_order_of_seats_holds_when_partitions_tell_only_one_who_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(seat_lease, "LONGEST_WAITING_MIN", 1)
    for seed in range(1000, 1020):
        run(config_for(seed))


def test_one_seed_is_one_history() -> None:
    traces: list[Trace] = [[], []]
    for trace in traces:
        run(config_for(11), trace)
    assert [str(line) for line in traces[0]] == [str(line) for line in traces[1]]
    assert len(traces[0]) > 100


def test_faults_do_happen() -> None:
    fenced = sum(run(config_for(seed)).broker.fenced for seed in range(20))
    assert fenced > 0


def test_the_events_are_those_of_the_contract() -> None:
    for seed in range(20):
        for i in inputs(seed, 40):
            decoded = DECODERS[i.topic](i.key.encode(), encoded(contract_json(i.event)), ())
            assert decoded == (i.event, "")


def test_a_failing_history_is_minimized() -> None:
    """Here: whatever has a deleted user in it goes wrong."""

    def goes_wrong(config: SimulationConfig) -> Exception | None:
        names = [type(i.event).__name__ for i in config.inputs]
        return ValueError() if "UserDeleted" in names else None

    seed = next(s for s in range(100) if goes_wrong(config_for(s)))
    small = minimized(config_for(seed), goes_wrong)
    assert [type(i.event).__name__ for i in small.inputs] == ["UserDeleted"]
    assert small.faults == frozenset()
    assert failure(small) is None


def test_the_command_reports(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "3"]) == 0
    assert "3 seeds" in capsys.readouterr().out
    assert main(["--seed", "2", "--trace"]) == 0
    assert "everything holds" in capsys.readouterr().out
