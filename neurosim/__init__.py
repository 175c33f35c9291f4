"""neurosim: weight sharing without shared weights, from circuit to network to trajectory."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neurosim.sweeps import sweep as sweep

__version__ = "0.1.0"

PACKAGES = ["data", "dynamics", "models", "nn", "optim", "recording", "sleep", "sweeps", "training"]


def __getattr__(name: str) -> Any:
    """A package, or `neurosim.sweep`, imported when it is first asked for: torch takes seconds."""
    if name in PACKAGES:
        return import_module(f"neurosim.{name}")
    if name == "sweep":
        return import_module("neurosim.sweeps").sweep
    raise AttributeError(f"module 'neurosim' has no attribute {name!r}")


def __dir__() -> list[str]:
    return ["__version__", *PACKAGES, "sweep"]
