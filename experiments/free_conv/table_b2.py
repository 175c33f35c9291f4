"""Table B.2: noise does not teach a network to recognise translated images.

Claim: trained on noisy images, free and convolutional networks recognise translated ones no better
than without, and worse the stronger the noise (0.37 to 0.27 on MNIST).
"""

from __future__ import annotations

from experiments.common.result import Report
from experiments.free_conv.protocol import MODELS, FreeOptions, cells
from experiments.free_conv.study import study


def run(options: FreeOptions) -> Report:
    """Table B.2: CNN and FCN on MNIST and CIFAR-10, by the strength of noise.

    Args:
        options: What to train on, how long, and where results go.
    """
    wanted = cells(("mnist", "cifar10"), MODELS, ("noise",), options)
    return study("free-tableB2", wanted, options, ("val_acc", "translation"))
