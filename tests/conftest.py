"""Fixtures for all tests: the broker of the Kafka tests, and the profile of hypothesis."""

from hypothesis import HealthCheck, settings

from tests.support.kafka import (
    kafka,
    pytest_collection_modifyitems,
    pytest_report_header,
    topic_prefix,
)

__all__ = ["kafka", "pytest_collection_modifyitems", "pytest_report_header", "topic_prefix"]

# Deadlines and the time that examples take measure the machine, not the code. The examples are the
# same each time, so that a failure is one for everybody.
settings.register_profile(
    "seatflow",
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("seatflow")
