"""Table B.3: rotations do not teach a network to recognise translated images.

Claim: trained on rotated images, free and convolutional networks recognise translated ones hardly
better than without (0.29 to 0.39 on MNIST); on CIFAR-10 rotations by up to a tenth of a turn help
a little (0.43 to 0.46 for the free network).
"""

from __future__ import annotations

from experiments.common.result import Report
from experiments.free_conv.protocol import MODELS, FreeOptions, cells
from experiments.free_conv.study import study


def run(options: FreeOptions) -> Report:
    """Table B.3: CNN and FCN on MNIST and CIFAR-10, by the strength of rotation.

    Args:
        options: What to train on, how long, and where results go.
    """
    wanted = cells(("mnist", "cifar10"), MODELS, ("rotation",), options)
    return study("free-tableB3", wanted, options, ("val_acc", "translation"))
