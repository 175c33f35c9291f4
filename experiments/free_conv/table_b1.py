"""Table B.1: noise along the edges does not teach a network to recognise translated images.

Claim: trained on images with noise along their edges, free and convolutional networks recognise
translated ones no better than without (0.33 to 0.38 on MNIST). The text has the noise in a frame
of 5 pixels; the published code cuts it along another axis, and the numbers are the code's
(`--edge-noise code`, the default).
"""

from __future__ import annotations

from experiments.common.result import Report
from experiments.free_conv.protocol import MODELS, FreeOptions, cells
from experiments.free_conv.study import study


def run(options: FreeOptions) -> Report:
    """Table B.1: CNN and FCN on MNIST and CIFAR-10, by the strength of edge noise.

    Args:
        options: What to train on, how long, and where results go.
    """
    wanted = cells(("mnist", "cifar10"), MODELS, ("edge_noise",), options)
    return study("free-tableB1", wanted, options, ("val_acc", "translation"))
