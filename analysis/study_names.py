"""What the settings of a convergence study are called."""

from __future__ import annotations

from analysis.figures import label
from analysis.snr import ConvergenceCurves


def setting_name(study: ConvergenceCurves, number: int) -> str:
    """'γ = 0.1, k = 3', or the study's name where all settings are one."""
    varying = {axis: values[number] for axis, values in study.varying.items()}
    shown = [label(axis, value) for axis, value in varying.items() if value is not None]
    return ", ".join(shown) or study.study or "all"
