"""Table B.3: rotation does not teach a network to recognise translated images.

Claim: trained on images turned by up to this part of a full turn, free and
convolutional networks recognise translated ones no better than without (MNIST 0.27 to 0.39).

"""

from __future__ import annotations

from experiments.free_conv.protocol import MODELS, FreeOptions, cells
from experiments.free_conv.study import study
from experiments.report import Report


def run(options: FreeOptions) -> Report:
    """Table B.3: CNN and FCN on MNIST and CIFAR-10, by the strength of rotation.

    Args:
        options: What to train on, how long, and where results go.
    """
    wanted = cells(("mnist", "cifar10"), MODELS, ("rotation",), options)
    return study("free-tableB3", wanted, options, ("val_acc", "translation"))
