"""Every registered experiment can be looked at before it runs."""

from __future__ import annotations

import pytest

from experiments.commands.studies.find import find_study
from experiments.common.registry import EXPERIMENTS, load, variants_of
from neurosim.errors import InvalidArgument


def small(name: str, **config: object) -> dict[str, object]:
    """A point of an experiment, on built-in images."""
    known = find_study([name]).options
    return config | ({"dataset": "digits-translated"} if "dataset" in known else {})


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_is_checked_thoroughly(name: str) -> None:
    study = find_study([name])
    study.check(small(name), True)
    assert callable(load(EXPERIMENTS[name]))
    if variants_of(EXPERIMENTS[name]) is not None:
        with pytest.raises(InvalidArgument, match="--variants"):
            study.check(small(name, variants="nobody"), True)
        with pytest.raises(InvalidArgument, match="--device"):
            study.check(small(name, device="nowhere"), True)


def test_networks_that_cannot_be_are_refused_before_they_run() -> None:
    study = find_study(["table13"])
    study.check(small("table13", variants="ws1-conv1"), True)
    with pytest.raises(InvalidArgument, match="--variants"):
        study.check(small("table13", variants="ws1"), True)
