"""Studies by name: `converge`, `train` and every experiment of the registry.

A point of a sweep is what the command would do with one value for every option. Options are found
in the functions' signatures, so that what is registered can be swept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from experiments.common.registry import EXPERIMENTS
from neurosim.errors import require_choice
from neurosim.sweeps import Study
from neurosim.sweeps.options import Option, options_of

# What a sweep decides by itself: where results go, and how much is said.
OWN = (
    "out", "name", "resume", "overwrite", "quiet", "json", "threads",
    "checkpoint_every", "keep", "keep_checkpoints",
)  # fmt: skip


def find_study(words: Sequence[str]) -> Study:
    """The study of a command: converge, train, or the name of an experiment."""
    names = words[1:] if tuple(words[:1]) == ("reproduce",) else words
    require_choice("STUDY", " ".join(names), ("converge", "train", *EXPERIMENTS))
    (name,) = names
    if name == "converge":  # whose workers need no torch
        from experiments.commands.studies.converge import Converge, check, converge_point

        return Study(name, _options(converge_point), Converge(), check=check)
    if name == "train":
        from experiments.commands.studies.train import Train

        runner = Train()
        return Study(name, _options(runner.function), runner, alone=True, check=runner.check)
    from experiments.commands.studies.reproduce import Reproduce

    experiment = Reproduce(name)
    options = _options(experiment.function)
    return Study(name, options, experiment, alone=True, check=experiment.check)


def _options(function: Callable[..., Any]) -> dict[str, Option]:
    return {name: option for name, option in options_of(function).items() if name not in OWN}
