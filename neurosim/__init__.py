"""neurosim: weight sharing without shared weights, from circuit to network to trajectory."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neurosim.sweeps import sweep as sweep

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`neurosim.sweep`, imported when it is first asked for."""
    if name != "sweep":
        raise AttributeError(f"module 'neurosim' has no attribute {name!r}")
    from neurosim.sweeps import sweep

    return sweep
