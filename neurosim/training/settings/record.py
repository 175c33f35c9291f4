"""What the run file keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from neurosim.errors import require
from neurosim.training.settings.values import check_values, refuse_changed


@dataclass(frozen=True)
class RecordSettings:
    """What the run file keeps besides accuracies."""

    record_every: int = 10
    """Steps between records of loss and of every local layer's SNR, spread and norm."""
    snapshot_every: int | None = None
    """Steps between snapshots of weights and filter distances (default: none)."""
    snapshot_unit: Literal["steps", "epochs"] = "steps"
    """What --snapshot-every counts."""
    snapshot_weights: bool = True
    """Whether snapshots keep weights, or filter distances only."""
    snapshot_layers: tuple[str, ...] = ("*",)
    """Layers to take snapshots of: names or patterns such as 'layer1.*'."""
    snapshot_dtype: Literal["float32", "float16"] = "float32"
    """Numbers in which snapshots are kept."""
    gradients: bool = False
    """Record the norm of every layer's gradient as well."""
    splits: bool = False
    """At the end, evaluate on training, validation and test images, each by itself."""
    nonzeros: bool = False
    """Record how many weights of every layer are not zero as well."""

    def check(self) -> None:
        """Refuse what makes no sense."""
        check_values(self)
        require(self.record_every >= 1, "--record-every", self.record_every, ">= 1")
        every = self.snapshot_every
        require(every is None or every >= 1, "--snapshot-every", every, ">= 1")
        if every is None:
            names = ("snapshot_unit", "snapshot_weights", "snapshot_layers", "snapshot_dtype")
            refuse_changed(self, names, "means nothing without --snapshot-every")
