"""Processes that a test starts end with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from runs import CHILDREN


@pytest.fixture(autouse=True)
def no_child_survives() -> Iterator[None]:
    yield
    for process in CHILDREN:
        process.kill()
        process.communicate()
    CHILDREN.clear()
