"""Fig. 5: filters of a free layer become alike if images are translated, and only then.

Claim: the mean distance between filters 1 and 4 positions apart falls while the network trains on
translated images, the more the farther they are translated, and rises without translation.
"""

from __future__ import annotations

from experiments.common.result import Report
from experiments.free_conv.drift import drift_study
from experiments.free_conv.protocol import FreeOptions, cells


def run(options: FreeOptions) -> Report:
    """Fig. 5: distances between the first layer's filters over epochs, by translation.

    Args:
        options: What to train on, how long, and where results go.
    """
    wanted = cells(("mnist",), ("fcn",), ("translation",), options)
    return drift_study("free-fig5", wanted, options)
