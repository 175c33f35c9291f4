"""Table 1: translated images teach free networks what convolution has built in (MNIST).

Claim: trained on images as they are, neither network recognises translated ones (0.37); trained
on images translated by up to 20 or 30%, the free network does (0.98), and falls less than a
hundredth behind the convolutional one.
"""

from __future__ import annotations

from experiments.common.result import Report
from experiments.free_conv.protocol import MODELS, FreeOptions, cells
from experiments.free_conv.study import ACCURACIES, study


def run(options: FreeOptions) -> Report:
    """Table 1: CNN and FCN on MNIST, by how far training images are translated.

    The full table is 11 strengths x 2 networks x 5 folds of up to 250 epochs. A part for a CPU:
        neurosim reproduce free-table1 --strengths 0 0.2 --models fcn --held-out 0 --epochs 5

    Args:
        options: What to train on, how long, and where results go.
    """
    wanted = cells(("mnist",), MODELS, ("translation",), options)
    return study("free-table1", wanted, options, ACCURACIES)
