"""Convergence studies: a point is one combination, with all its trials."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from analysis.convergence.snr import log_inverse_snr
from experiments.common.convergence_grid import AXES, OPTIONS, ConvergenceStudy
from neurosim.dynamics import check_setting, simulate_setting
from neurosim.errors import renaming
from neurosim.sweeps.options import Config, arguments


def spread_axes(given: Mapping[str, Any]) -> dict[str, Any]:
    """A grid, and the axes that it does not name where their defaults are several values."""
    usual = ConvergenceStudy()
    named = {name.replace("-", "_") for name in given}
    rest = {
        name: getattr(usual, name)
        for axis, name in AXES.items()
        if len(getattr(usual, name)) > 1 and not named & {axis, name}
    }
    return {**given, **rest}


def converge_point(study: ConvergenceStudy, seed: int = 0) -> tuple[ConvergenceStudy, int]:
    """One combination of a convergence study, all its trials."""
    return study, seed


def check(config: Config, thorough: bool) -> None:
    """Refuse what makes no sense; thoroughly: also what lies beyond a stability bound."""
    study, _ = converge_point(**arguments(converge_point, config))
    study.check()
    (point,) = study.points()
    with renaming(**OPTIONS):
        setting = study.setting(point, 0)
        if thorough:
            check_setting(setting)


class Combination(NamedTuple):
    """What runs that differ in their seed have in common."""

    study: ConvergenceStudy
    point: dict[str, Any]
    limits: dict[str, float]


class Converge:
    """The curves of a population, or of several trials, and where theory says they end."""

    def __call__(self, config: Config, place: Path) -> dict[str, Any]:
        """What `neurosim converge` records of this combination."""
        seedless = {name: value for name, value in config.items() if name != "seed"}
        study, point, limits = _combination(json.dumps(seedless))
        found = [
            simulate_setting(
                study.setting(point, trial),
                seed=config.get("seed", 0),
                record_every=study.record_every,
                check=False,  # the combination was checked
            )
            for trial in range(study.trials)
        ]
        inverse_snr = np.stack([run.inverse_snr for run in found])  # (trials, R)
        return {
            "log_inverse_snr": float(log_inverse_snr(inverse_snr[:, -1]).mean()),
            "limit": limits,
            "inverse_snr": inverse_snr,
            "snr": np.stack([run.snr for run in found]),
            "alignment": np.stack([run.alignment for run in found]),
            "norm": np.stack([np.linalg.norm(run.mean, axis=1) for run in found]),
        }


@lru_cache(maxsize=4096)
def _combination(config: str) -> Combination:
    """A combination without its seed, checked: that takes longer than a small run."""
    values = json.loads(config)
    check(values, thorough=True)
    study, _ = converge_point(**arguments(converge_point, values))
    (point,) = study.points()
    return Combination(study, point, study.limits(point))
