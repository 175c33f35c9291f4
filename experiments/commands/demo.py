"""A first look: the circuit equalises weights, and a network profits from it.

The rate circuit of Fig. 4B, small, and then translated digits (`dynamic_sharing.digits`) with one
seed: a convolutional network, a locally connected one, and one that sleeps after every batch.
"""

from __future__ import annotations

from experiments.common.convergence import run_study
from experiments.common.convergence_grid import ConvergenceStudy
from experiments.common.options import RunOptions, TrainingOptions
from experiments.common.result import Report
from experiments.common.variants import report, run_variants
from experiments.dynamic_sharing import digits

STUDY = ConvergenceStudy(kernels=(3,), presentations=3_000, trials=3)
VARIANTS = ("conv", "lc", "ws1")


def run(options: RunOptions) -> Report:
    """The circuit equalises the weights of 100 neurons; then a network sleeps. About a minute.

    Args:
        options: Where results go.
    """
    circuit = run_study(STUDY, "demo", options)
    folder = circuit.run_file.parent
    training = TrainingOptions(
        out=folder,
        seeds=(options.seed,),
        variants=VARIANTS,
        overwrite=options.overwrite,
        quiet=options.quiet,
        device="cpu",
    )
    _, outcomes = run_variants("digits", digits.variants(training), training, ())
    network = report("digits", folder, outcomes, {})
    recovered, _, _ = digits.recovery(outcomes)["ws1"]
    return Report(
        "demo",
        circuit.run_file,
        [*circuit.figures, *network.figures],
        [
            "The circuit equalises weights (lower is more equal):",
            *circuit.lines,
            "",
            "Digits, each at one place of a large canvas; ws1 sleeps after every batch:",
            *network.lines,
            f"sleep recovers {recovered:.2f} of the gap from lc to conv",
        ],
        {**circuit.values, **network.values},
        table=network.table,
    )
