"""Networks that answer differently are told apart, also where their weights are the same."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from analysis.representations.activations import Activations, extract
from analysis.representations.fingerprints import structure_fingerprint, weights_fingerprint
from analysis.representations.stimuli import Pictures, View
from neurosim.errors import RunFileError


def net(activation: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), activation)


def written(forward: str, scale: float = 1.0) -> Any:
    """A network as a notebook defines it, with this line in `forward`."""
    scope: dict[str, Any] = {"nn": nn, "__name__": "__main__"}
    exec(
        "class Net(nn.Module):\n"
        "    def __init__(self, scale):\n"
        "        super().__init__()\n"
        "        self.scale = scale\n"
        f"    def forward(self, x):\n        return {forward}\n",
        scope,
    )
    return scope["Net"](scale)


def hooked(hook: Any) -> nn.Module:
    model = net(nn.ReLU())
    model[0].register_forward_hook(hook)
    return model


DIFFERENT = {
    "activations": [net(nn.ReLU()), net(nn.Tanh()), net(nn.Identity())],
    "options": [net(nn.LeakyReLU(0.1)), net(nn.LeakyReLU(0.2)), net(nn.Softmax(1))],
    "attributes": [written("self.scale * x"), written("self.scale * x", 2.0)],
    "code": [written("x + 1"), written("x + 2"), written("x * 2"), written("x.relu()")],
    "hooks": [
        net(nn.ReLU()),
        hooked(lambda module, given, output: output + 1),
        hooked(lambda module, given, output: output + 2),
        hooked(partial(max, 1)),
        hooked(partial(max, 2)),
    ],
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_what_computes_differently_is_told_apart(what: str) -> None:
    models = DIFFERENT[what]
    assert len({structure_fingerprint(model) for model in models}) == len(models)


def test_what_is_kept_of_one_network_is_not_given_out_for_another(tmp_path: Path) -> None:
    """ReLU, Tanh and Identity have no weights to differ in."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    shown, path = Pictures(("a", "b", "c"), pixels), tmp_path / "a.h5"
    options: dict[str, Any] = {"view": View((8, 8)), "resume": True}
    extract(net(nn.ReLU()), shown, ["1"], path, **options)
    assert Activations(path)["1"].min() == 0
    extract(net(nn.ReLU()), shown, ["1"], path, **options)  # is there already
    with pytest.raises(RunFileError, match="config must be that of the run to resume"):
        extract(net(nn.Identity()), shown, ["1"], path, **options)


def test_the_same_in_every_process() -> None:
    program = (
        "from analysis.representations.fingerprints import structure_fingerprint\n"
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def forward(self, x):\n"
        "        return x if self.training in {1, 'a', 'b'} else (lambda y: y)(x)\n"
        "print(structure_fingerprint(nn.Sequential(Net(), nn.Conv2d(3, 4, 3))))\n"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(answers) == 1


def test_training_mode_and_device_do_not_matter_but_buffers_do() -> None:
    model = net(nn.ReLU())
    assert structure_fingerprint(model.train()) == structure_fingerprint(model.eval())
    before = weights_fingerprint(model)
    model.register_buffer("gain", torch.ones(1), persistent=False)
    one = weights_fingerprint(model)
    model.get_buffer("gain").mul_(2)
    assert len({before, one, weights_fingerprint(model)}) == 3
