"""Fig. 6: with two quadrants exchanged, a convolutional network still sees some of the digit.

Claim: trained on MNIST as it is, the CNN recognises about half of the images whose quadrants I
and III are exchanged, the FCN a third. The published figure comes from runs longer than those of
the tables (76 to 220 epochs, with the patience of 50 that is ours everywhere); printed beside are
medians of its file of results.
"""

from __future__ import annotations

from experiments.common.result import Report
from experiments.free_conv.protocol import MODELS, FreeOptions, cells
from experiments.free_conv.study import study


def run(options: FreeOptions) -> Report:
    """Fig. 6: accuracy with quadrants exchanged over epochs, CNN and FCN on MNIST.

    Args:
        options: What to train on, how long, and where results go.
    """
    wanted = cells(("mnist",), MODELS, ("translation",), options, strengths=(0.0,))
    return study("free-fig6", wanted, options, ("val_acc", "swap"))
