"""The settings ``SEATFLOW_LIMIT_…`` are the limits of the engine."""

from __future__ import annotations

from engine.domain.limits import DEFAULT_LIMITS
from streams.runtime.settings import load_settings
from streams.worker.worker import engine_limits


def test_defaults_are_the_engine_s() -> None:
    assert engine_limits(load_settings()) == DEFAULT_LIMITS


def test_a_setting_reaches_the_engine() -> None:
    assert engine_limits(load_settings(limit_memberships=7)).memberships == 7
