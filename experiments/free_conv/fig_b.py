"""Figs. B.6 and B.7: rotations and noise do not make filters alike.

Claim: under rotation the mean distance between filters rises at every strength; under noise it
rises too, but for very strong noise (0.8 and more).
"""

from __future__ import annotations

from experiments.common.result import Report
from experiments.free_conv.drift import drift_study
from experiments.free_conv.protocol import FreeOptions, cells


def run(options: FreeOptions) -> Report:
    """Figs. B.6 and B.7: distances between filters over epochs, by rotation and by noise.

    Args:
        options: What to train on, how long, and where results go.
    """
    wanted = cells(("mnist",), ("fcn",), ("rotation", "noise"), options)
    return drift_study("free-figB", wanted, options)
