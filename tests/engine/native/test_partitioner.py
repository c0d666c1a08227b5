"""The compiled short cut computes partitions as the plain function does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain import partitioner

pytestmark = pytest.mark.skipif(
    partitioner._native is None, reason="the short cut is there compiled only: make compile"
)


@given(st.binary(max_size=40) | st.text(max_size=20).map(str.encode))
def test_a_hash(data: bytes) -> None:
    assert partitioner._native.murmur2(data) == partitioner.murmur2(data)
