"""The tests that kill a worker at fault points, and the visit of each point at which they do.

A test takes its points from here and asserts that the worker was killed, so a point that no worker
reaches any more fails it. `tests/streams/runtime/test_fault_injection.py` checks the table against
the code. The laboratory's experiment `points` visits all of them too, but accepts a miss.
"""

from __future__ import annotations

DELIVERY = "tests/streams/worker/test_delivery.py::test_killed_at_each_point"
STATES = "tests/system/test_system.py::test_a_kill_changes_nothing_in_the_states"

KILLS: dict[str, dict[str, int]] = {
    # The counting worker asks for no seats.
    DELIVERY: {
        "after-fence": 1,
        "during-restore": 2,
        "before-send": 12,
        "after-send": 12,
        "after-commit": 12,
    },
    STATES: {"after-send": 3, "after-commit": 3, "before-send": 4, "seats-asked": 2},
}
