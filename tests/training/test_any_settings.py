"""Whatever is asked for: a run that ends, or one clear sentence why not."""

from __future__ import annotations

import math
import tempfile
import warnings
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from scenes import GROUPS, write_images

from neurosim.errors import NeurosimError
from neurosim.recording import RunReader, Status
from neurosim.training import Place, TrainSettings, train

# Plausible values often, others now and then; whatever is not named here is drawn by its type.
NUMBERS: dict[Any, list[Any]] = {
    int: [1, 2, 3, 5] * 5 + [0, -1, 1000],
    float: [0.1, 0.5, 1.0, 1e-3, 3.0] * 4 + [0.0, -1.0, 100.0, math.nan, math.inf],
    bool: [False, True],
    type(None): [None],
}
SMALL = ["simple", "simple", "simple", "transformer", "perceptron", "lrlc"]
VALUES: dict[str, list[Any]] = {
    "model": SMALL,
    "width": [0.25, 0.05, 1.0],
    "channels": [1, 2],
    "conv_layers": [(), ("conv2",), ("conv?",), ("nothing",)],
    "distort": [None, "translation:0.2", "noise:0.1", "swap", "translation:9", "foo"],
    "evaluations": [(), ("translation:0.25",), ("swap", "rotation:0.1")],
    "at_steps": [(), (1, 3), (0,), (2, 2)],
    "snapshot_layers": [("*",), ("conv1",), ("nothing",), ()],
    "epochs": [1, 2],
    "batch_size": [6, 4, 8, 24, 1],
    "presentations": [None, 1, 5],
    "compile": [False],  # takes too long
    "data": [None],
}


ALWAYS = [
    *(("network", name) for name in ("model", "width")),
    *(("optimisation", name) for name in ("batch_size", "epochs")),
    *(("sleep", name) for name in ("sleep", "presentations")),
]


def choices(name: str, hint: Any) -> list[Any]:
    """Values of a setting to draw from."""
    if name in VALUES:
        return VALUES[name]
    kinds = (hint, *get_args(hint))
    literal = [c for kind in kinds if get_origin(kind) is Literal for c in get_args(kind)]
    return literal + [n for kind in kinds for n in NUMBERS.get(kind, [])]


@st.composite
def any_settings(draw: st.DrawFn, images: str) -> TrainSettings:
    """A few settings that are not the default ones; local networks that sleep, often."""
    hints = {
        (group, name): hint
        for group, kind in GROUPS.items()
        for name, hint in get_type_hints(kind).items()
        if name != "dataset"
    }
    changed = draw(st.lists(st.sampled_from(sorted(hints)), max_size=5, unique=True))
    given: dict[str, dict[str, Any]] = {group: {} for group in GROUPS}
    given["data"]["dataset"] = images
    for group, name in sorted({*changed, *ALWAYS}):  # the same in every process
        given[group][name] = draw(st.sampled_from(choices(name, hints[group, name])))
    if given["sleep"]["sleep"] in ("none", "instant"):
        del given["sleep"]["presentations"]
    if given["network"]["model"] not in ("simple", "perceptron"):
        del given["network"]["width"]
    if given["network"]["model"] == "perceptron":
        given["network"] |= {"connectivity": "dense", "width": 0.05}  # it is large
    return TrainSettings(**{name: GROUPS[name](**values) for name, values in given.items()})  # type: ignore[operator]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_images(tmp_path_factory.mktemp("images") / "images.npz"))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_it_runs_or_says_why_not(images: str, data: st.DataObject) -> None:
    wanted = data.draw(any_settings(images))
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of layers that beta-LASSO empties, say
        place = Place(Path(folder) / "run.h5", "cpu", quiet=True)
        result = said = None
        try:
            result = train(wanted, place)
        except NeurosimError as error:
            said = str(error)
        event("trained" if said is None else "refused")
        if result is None:
            assert said
            assert "\n" not in said
            return
        with RunReader(place.run_file) as run:
            assert run.status is Status.COMPLETE
            assert len(run["epoch"]) == result.epochs >= 1
            assert np.isfinite(run["loss"]).all()


def test_every_setting_has_values_to_draw() -> None:
    """One that is added has to be of a known type, or named above."""
    for kind in GROUPS.values():
        for name, hint in get_type_hints(kind).items():
            if name != "dataset":
                assert choices(name, hint), name
