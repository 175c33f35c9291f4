"""`neurosim ...`: the command line.

Every command is a function here; its docstring and annotations are its help. Errors raised on
purpose become one line and exit code 2, Ctrl-C becomes exit code 130.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial, wraps
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from experiments.convergence import ConvergenceStudy, run_study
from experiments.registry import experiment
from experiments.report import Report, RunOptions, as_json
from neurosim.errors import InvalidArgument, NeurosimError, require
from neurosim.recording import RunReader, describe_lines, describe_values

Experiment = Literal["fig4a", "fig4b", "fig5a", "fig5b", "theorem1", "integrators"]


def converge(study: ConvergenceStudy, options: RunOptions, name: str = "converge") -> None:
    """Run a convergence study: every combination of the listed values, one run file, one figure.

    Example: how does the final -log SNR depend on inhibition and presentation time?
        neurosim converge --alphas 1 3 10 30 --durations 50 150 450 --kernels 3 --gammas 0.01

    Args:
        study: The grid.
        options: Where results go.
        name: Name of the run file and figures.
    """
    valid = Path(name).name == name and name not in ("", "..")
    require(valid, "--name", name, "a file name without folders")
    _show(run_study(study, name, options), options)


def reproduce(
    experiment_name: Annotated[Experiment, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")],
    options: RunOptions,
) -> None:
    """Reproduce a published figure, or a study of ours, and print it beside the theory.

    fig4a: the ideal rule (Eq. 4) reaches the minimum of Eq. 5.
    fig4b: the rate circuit (Eq. 8) gets there within minutes of simulated time.
    fig5a: the biased rule (Eq. 21), and where finite inhibition leads.
    fig5b: the rate circuit beside the same limits.
    theorem1: what per-neuron noise leaves, against the exact floor and the theorem's bound.
    integrators: error against step size of every integrator, with observed orders.

    Args:
        experiment_name: What to reproduce.
        options: Where results go.
    """
    _show(experiment(experiment_name)(options), options)


def demo(options: RunOptions) -> None:
    """A small Fig. 4B in a few seconds: the rate circuit equalises the weights of 100 neurons.

    Args:
        options: Where results go.
    """
    study = ConvergenceStudy(kernels=(3,), presentations=3_000, trials=3)
    _show(run_study(study, "demo", options), options)


def inspect(file: Annotated[Path, tyro.conf.Positional], json: bool = False) -> None:
    """Print what a run file holds, also while it is being written.

    Args:
        file: The run file (.h5).
        json: Print it as JSON.
    """
    with RunReader(file) as run:
        if json:
            print(as_json(describe_values(run)))
        else:
            print("\n".join(describe_lines(run)))


COMMANDS: dict[str, Callable[..., None]] = {
    "converge": converge,
    "reproduce": reproduce,
    "demo": demo,
    "inspect": inspect,
}


def _show(report: Report, options: RunOptions) -> None:
    """Print what an experiment found."""
    if options.json:
        print(report.as_json())
    elif not options.quiet:
        print(report.text())


def _later(command: Callable[..., None]) -> Callable[..., Callable[[], None]]:
    """The same command, which is only put together when called: parse first, then run."""

    @wraps(command)
    def put_together(*args: Any, **kwargs: Any) -> Callable[[], None]:
        return partial(command, *args, **kwargs)

    return put_together


def _parse(arguments: Sequence[str] | None) -> Callable[[], None]:
    """The command that was asked for; help and mistakes end here."""
    shown = io.StringIO()  # tyro draws a box around a mistake
    try:
        with contextlib.redirect_stderr(shown):
            return tyro.extras.subcommand_cli_from_dict(
                {name: _later(command) for name, command in COMMANDS.items()},
                prog="neurosim",
                description="Weight sharing without shared weights: simulate the circuit, "
                "reproduce the papers, look into run files.",
                args=arguments,
                config=(tyro.conf.OmitArgPrefixes,),
            )
    except SystemExit as stop:
        if stop.code:
            raise InvalidArgument(_without_box(shown.getvalue())) from stop
        raise


def _without_box(text: str) -> str:
    """The words of a message that stands in a box of several parts."""
    parts = re.split(r"\n\W*─{8,}\W*\n", text.strip())
    words = (" ".join(re.sub(r"[│╭╮╰╯]|─{2,}.*|─ .* ─", " ", part).split()) for part in parts)
    return "; ".join(word for word in words if word)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code."""
    try:
        _parse(arguments)()
    except NeurosimError as error:
        message = " ".join(str(error).split())
        print(f"neurosim: error: {message}", file=sys.stderr)
        return 2
    except (OSError, MemoryError, OverflowError) as error:
        print(f"neurosim: error: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("neurosim: interrupted; what was recorded so far is in the run file", file=sys.stderr)
        return 130
    return 0
