"""A small layer, and a short sleep of every mechanism."""

from __future__ import annotations

from typing import Any

import pytest
from brute_force import layer_of

from neurosim.nn.local import LocallyConnected
from neurosim.sleep import Circuit, Hebbian, Instant

MECHANISMS = {
    "instant": Instant(),
    "hebbian": Hebbian(steps=20, batch=32, rate=0.05),
    "circuit": Circuit(presentations=400),
}
each_mechanism = pytest.mark.parametrize("mechanism", MECHANISMS.values(), ids=MECHANISMS)


def square(border_size: int = 9, **arguments: Any) -> LocallyConnected:
    arguments = {"kernel_size": 3, "padding": 1} | arguments
    return layer_of((border_size, border_size), **arguments)
