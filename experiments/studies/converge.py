"""Convergence studies: a point is one combination, with all its trials."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from analysis.convergence.snr import log_inverse_snr
from experiments.convergence import AXES, ConvergenceStudy
from neurosim.dynamics import check_setting, simulate_ensemble
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
    setting = study.setting(point, 0)
    if thorough:
        check_setting(setting)


class Converge:
    """The curves of a population, or of several trials, and where theory says they end."""

    def __call__(self, config: Config, place: Path) -> dict[str, Any]:
        """What `neurosim converge` records of this combination."""
        study, seed = converge_point(**arguments(converge_point, config))
        limits = _limits(json.dumps({k: v for k, v in config.items() if k != "seed"}))
        (point,) = study.points()
        settings = [study.setting(point, trial) for trial in range(study.trials)]
        runs = dict(
            simulate_ensemble(
                settings, seed=seed, record_every=study.record_every, threads=1, check=False
            )
        )
        found = [runs[trial] for trial in range(study.trials)]
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
def _limits(config: str) -> dict[str, float]:
    """Limits of a combination without its seed, whose settings are checked on the way."""
    values = json.loads(config)
    check(values, thorough=True)
    study, _ = converge_point(**arguments(converge_point, values))
    (point,) = study.points()
    return study.limits(point)
