"""What the settings of a convergence study are called."""

from __future__ import annotations

from typing import Any

from analysis.convergence.snr import ConvergenceCurves

SYMBOLS = {
    "gamma": "γ", "kernel": "k", "alpha": "α", "neurons": "N", "noise": "σ", "tau": "τ",
    "duration": "T", "dt": "dt",
}  # fmt: skip


def label(axis: str, value: Any) -> str:
    """'γ = 0.1'."""
    shown = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{SYMBOLS.get(axis, axis)} = {shown}"


def setting_name(study: ConvergenceCurves, number: int) -> str:
    """'γ = 0.1, k = 3', or the study's name where all settings are one."""
    varying = {axis: values[number] for axis, values in study.varying.items()}
    shown = [label(axis, value) for axis, value in varying.items() if value is not None]
    return ", ".join(shown) or study.study or "all"
