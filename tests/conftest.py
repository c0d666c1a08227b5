"""Fixtures for all tests: the broker of the Kafka tests, and the profile of hypothesis."""

from hypothesis import settings

from tests.support.kafka import (
    kafka,
    pytest_collection_modifyitems,
    pytest_report_header,
    topic_prefix,
)

__all__ = ["kafka", "pytest_collection_modifyitems", "pytest_report_header", "topic_prefix"]

# A deadline measures the machine, not the code; the same examples each time, so that a failure is
# one for everybody.
settings.register_profile("seatflow", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("seatflow")
