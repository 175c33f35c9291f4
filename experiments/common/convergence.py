"""Convergence studies: a grid of populations, one run file, one figure.

`neurosim converge` runs any grid; the published figures (`dynamic_sharing`) are grids with
names.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from analysis import figures
from analysis.convergence import figures as convergence_figures
from analysis.convergence.snr import convergence_curves, log_inverse_snr
from experiments.common.convergence_grid import AXES, OPTIONS, ConvergenceStudy
from experiments.common.options import RunOptions
from experiments.common.result import Report, table
from neurosim.dynamics import check_setting, simulate_ensemble
from neurosim.errors import NeurosimError, renaming
from neurosim.progress import track
from neurosim.recording import RunReader, RunWriter


def run_study(study: ConvergenceStudy, name: str, options: RunOptions) -> Report:
    """Simulate the grid, write NAME.h5 while it runs, and draw NAME.png and NAME.pdf from it."""
    study.check()
    options.check()
    points = study.points()
    with renaming(**OPTIONS):
        settings = [study.setting(p, trial) for p in points for trial in range(study.trials)]
        for point, setting in zip(points, settings[:: study.trials], strict=True):
            try:
                check_setting(setting)
            except NeurosimError as error:
                varying = {k: v for k, v in point.items() if len(getattr(study, AXES[k])) > 1}
                where = ", ".join(f"{key} = {value}" for key, value in varying.items())
                raise type(error)(f"{error} [{where}]" if where else str(error)) from error
    path = options.run_file(name)
    with _writer(study, name, path, options, points) as run:
        results = simulate_ensemble(
            settings,
            seed=options.seed,
            record_every=study.record_every,
            threads=options.threads,
            check=False,
        )
        for index, trajectory in track(
            results, total=len(settings), title=name, quiet=options.quiet
        ):
            where = divmod(index, study.trials)
            run.write("inverse_snr", trajectory.inverse_snr, index=where)
            run.write("snr", trajectory.snr, index=where)
            run.write("alignment", trajectory.alignment, index=where)
            run.write("norm", np.linalg.norm(trajectory.mean, axis=1), index=where)
            run.flush()
    return report(name, path)


def _writer(
    study: ConvergenceStudy,
    name: str,
    path: Path,
    options: RunOptions,
    points: list[dict[str, Any]],
) -> RunWriter:
    """A started run file with everything declared."""
    run = RunWriter(
        path,
        kind="convergence",
        config={"study": name, **asdict(study)},
        seed=options.seed,
        overwrite=options.overwrite,
    )
    run.scale("setting", np.arange(len(points)), description="combination of the grid")
    run.scale("trial", np.arange(study.trials), description="population of a combination")
    recorded = np.arange(study.record_every, study.presentations + 1, study.record_every)
    run.scale("presentation", recorded, description="inputs shown so far")
    for axis in AXES:
        column = [math.nan if point[axis] is None else point[axis] for point in points]
        values = np.array(column)
        run.constant(f"grid/{axis}", values, dims=("setting",), description=f"{axis} of a setting")
    limits = [study.limits(point) for point in points]
    for limit in limits[0]:
        run.constant(
            f"limit/{limit}",
            np.array([row[limit] for row in limits]),
            dims=("setting",),
            description=f"where theory says that inverse_snr ends ({limit})",
        )
    for quantity, description in {
        "inverse_snr": "mean over weights of var / mean^2, as the published figures plot it",
        "snr": "mean over weights of mean^2 / var, Eq. 6",
        "alignment": "cosine of the mean weight with its start",
        "norm": "Euclidean norm of the mean weight",
    }.items():
        dims = ("setting", "trial", "presentation")
        run.dataset(quantity, dims=dims, dtype="f8", description=description)
    run.start()
    return run


def report(name: str, path: Path) -> Report:
    """Table and figures of a study, from its run file alone."""
    with RunReader(path) as run:
        curves = convergence_curves(run)
        drawn = figures.save(convergence_figures.convergence(curves), path.with_suffix(""))
    limits = {k: log_inverse_snr(v) for k, v in curves.limits.items() if np.isfinite(v).any()}
    header = [
        *curves.varying,
        "-log SNR",
        "std",
        *(convergence_figures.LIMIT_NAMES[key] for key in limits),
    ]
    rows, values = [], []
    for index, (mean, high) in enumerate(zip(curves.mean[:, -1], curves.high[:, -1], strict=True)):
        point = {key: column[index] for key, column in curves.varying.items()}
        theirs = {key: float(limit[index]) for key, limit in limits.items()}
        values.append({**point, "minus_log_snr": mean, "std": high - mean, "limits": theirs})
        shown = [f"{v:g}" if isinstance(v, float) else str(v) for v in point.values()]
        numbers = (mean, high - mean, *theirs.values())
        rows.append([*shown, *("-" if np.isnan(v) else f"{v:.3f}" for v in numbers)])
    lines = table(header, rows)
    if curves.floored.any():
        lines.append("Values at the floor of double precision are shown as that floor.")
    return Report(name, path, drawn, lines, {"settings": values})
