"""Table 2: the same on CIFAR-10.

Claim: translations raise the free network's accuracy on images as they are from 0.65 to 0.73, and
on translated ones from 0.43 to 0.68; the convolutional network stays 4 to 6 hundredths ahead.
"""

from __future__ import annotations

from experiments.common.result import Report
from experiments.free_conv.protocol import MODELS, FreeOptions, cells
from experiments.free_conv.study import ACCURACIES, study


def run(options: FreeOptions) -> Report:
    """Table 2: CNN and FCN on CIFAR-10, by how far training images are translated.

    Args:
        options: What to train on, how long, and where results go.
    """
    wanted = cells(("cifar10",), MODELS, ("translation",), options)
    return study("free-table2", wanted, options, ACCURACIES)
