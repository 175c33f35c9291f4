"""The experiments by name, without importing any of them."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from experiments.report import Report, RunOptions
from neurosim.errors import require_choice

EXPERIMENTS = {
    "fig4a": "dynamic_sharing.fig4a",
    "fig4b": "dynamic_sharing.fig4b",
    "fig5a": "dynamic_sharing.fig5a",
    "fig5b": "dynamic_sharing.fig5b",
    "theorem1": "dynamic_sharing.theorem1",
    "integrators": "dynamic_sharing.integrators",
}


def experiment(name: str) -> Callable[[RunOptions], Report]:
    """The function that runs an experiment."""
    require_choice("experiment", name, EXPERIMENTS)
    return import_module(f"experiments.{EXPERIMENTS[name]}").run
