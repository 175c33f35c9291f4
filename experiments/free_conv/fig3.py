"""Fig. 3: accuracies on MNIST over training, by how far training images are translated.

Claim: the gap between training and validation closes with translation, for both networks, and
accuracy on translated images comes with it. The runs are those of Table 1: a folder of theirs,
with --resume, is drawn without training again.
"""

from __future__ import annotations

from experiments.common.result import Report
from experiments.free_conv.protocol import FreeOptions, cells
from experiments.free_conv.study import ACCURACIES, study


def run(options: FreeOptions) -> Report:
    """Fig. 3: training, validation and translated accuracy on MNIST over epochs.

    Args:
        options: What to train on, how long, and where results go.
    """
    wanted = cells(("mnist",), ("fcn", "cnn"), ("translation",), options)
    return study("free-fig3", wanted, options, ("val_acc", "translation"), ACCURACIES)
