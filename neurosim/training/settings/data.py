"""What the network sees."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from neurosim.data import distortion
from neurosim.errors import option, require
from neurosim.training.settings.values import check_values, refuse_changed


@dataclass(frozen=True)
class DataSettings:
    """What the network sees."""

    dataset: str = "digits-translated"
    """Name of a set, or a .npz file or a folder of images."""
    data: Path | None = None
    """Folder of the official files (default: $NEUROSIM_DATA)."""
    subset: int | None = None
    """Train on so many images only, the same number of each class."""
    test_subset: int | None = None
    """Evaluate on the first so many images only, where evaluation takes too long."""
    validation: int = 0
    """Hold so many training images out and evaluate on them instead of the test set."""
    folds: int | None = None
    """Pool training and test images, cut them into so many contiguous folds and hold one out."""
    fold: int = 0
    """Number of the fold that is held out, from 0."""
    normalise: Literal["channels", "none"] = "channels"
    """Give every channel mean 0 and deviation 1, or leave pixels in [0, 1]."""
    distort: str | None = None
    """Distort training images: translation:0.2, rotation:0.1, noise:0.1, edge-noise:0.1, swap."""
    evaluations: tuple[str, ...] = ()
    """Distorted copies of the images held out, to evaluate on as well: translation:0.25, ..."""
    interpolation: Literal[0, 1] = 1
    """Between pixels of translated and rotated images: the nearest (0) or linear (1)."""
    pad: int = 0
    """Pad with the training mean and crop at random (0, 4 or 8 in the paper)."""
    flip: bool = False
    """Flip half of the images horizontally (in the paper only ImageNet's, which always are)."""
    image_size: int | None = None
    """Size of crops from a folder of images (ImageNet: 224); without it all must have one size."""
    crop: Literal["resize", "random-resized"] = "resize"
    """How such crops are made: the paper's text resizes and crops, its code takes random areas."""
    repetitions: int = 1
    """Copies of an image within a batch, each translated by itself; the batch size stays."""

    def check(self) -> None:
        """Refuse what makes no sense."""
        check_values(self)
        for name in ("subset", "test_subset", "image_size"):
            value = getattr(self, name)
            require(value is None or value >= 1, option(name), value, ">= 1")
        for name, least in {"validation": 0, "pad": 0, "repetitions": 1}.items():
            require(getattr(self, name) >= least, f"--{name}", getattr(self, name), f">= {least}")
        folds = self.folds
        require(folds is None or folds >= 2, "--folds", folds, ">= 2")
        allowed = "0 without --folds" if folds is None else f"0 to {folds - 1}"
        require(0 <= self.fold < (folds or 1), "--fold", self.fold, allowed)
        for text in (*self.evaluations, *([] if self.distort is None else [self.distort])):
            distortion(text)  # refuses what it does not know
        if not self.evaluations and self.distort is None:
            reason = "means nothing without --distort or --evaluations"
            refuse_changed(self, ("interpolation",), reason)
        once = len(set(self.evaluations)) == len(self.evaluations)
        require(once, "--evaluations", self.evaluations, "without repetitions")
