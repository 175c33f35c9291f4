"""Fig. 4: accuracies on CIFAR-10 over training, by how far training images are translated.

Claim: without translation both networks learn their training images by heart; with it they stop
doing so, and validation accuracy rises. The runs are those of Table 2.
"""

from __future__ import annotations

from experiments.common.result import Report
from experiments.free_conv.protocol import FreeOptions, cells
from experiments.free_conv.study import ACCURACIES, study


def run(options: FreeOptions) -> Report:
    """Fig. 4: training, validation and translated accuracy on CIFAR-10 over epochs.

    Args:
        options: What to train on, how long, and where results go.
    """
    wanted = cells(("cifar10",), ("fcn", "cnn"), ("translation",), options)
    return study("free-fig4", wanted, options, ("val_acc", "translation"), ACCURACIES)
