"""Networks by name: from a checkpoint, from a function of one's own, or the stimuli themselves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import nn

from analysis.benchmark.candidates import Network, pixels
from analysis.representations.activations import Extraction, block_names
from analysis.representations.stimuli import View
from neurosim.errors import InvalidArgument
from neurosim.training import NetworkSettings
from neurosim.training.build import build_network
from neurosim.training.checkpoint import Checkpoints
from neurosim.training.checkpoint import load as load_checkpoint


@dataclass(frozen=True)
class Description:
    """All that it takes to build a network of ours again and show it images."""

    network: NetworkSettings
    classes: int
    channels: int
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def view(self) -> View:
        """How the network sees."""
        return View(self.size, self.mean, self.std)

    def build(self) -> nn.Module:
        """The network with new weights."""
        return build_network(self.network, self, self.size)

    def as_json(self) -> str:
        """For `from_json`."""
        return json.dumps(asdict(self), indent=2)

    @staticmethod
    def from_json(text: str) -> Description:
        """What `as_json` wrote."""
        return Description.of(json.loads(text))

    @staticmethod
    def of(values: dict[str, Any]) -> Description:
        """From plain values, as JSON and checkpoints have them."""
        listed = {name: tuple(values[name]) for name in ("size", "mean", "std")}
        network = NetworkSettings(**values["network"])
        return Description(network, values["classes"], values["channels"], **listed)


def restore(path: str | Path) -> tuple[Description, nn.Module]:
    """The network of a checkpoint: a .pt file, a folder of them, or the run file beside it."""
    state = load_checkpoint(_newest(Path(path)))
    if (own := state.get("own")) is not None:
        raise InvalidArgument(
            f"{path}: holds the weights of a network of one's own, {own.partition(':')[0]}: name a "
            "function module:function that makes it and loads them (under 'model' in the .pt file)"
        )
    about = Description.of({"network": state["settings"]["network"], **state["shown"]})
    module = about.build()
    module.load_state_dict(state["model"])
    return about, module.eval()


def candidate(
    text: str,
    layers: Sequence[str] | None = None,
    *,
    settings: Extraction | None = None,
    device: str = "cpu",
) -> Network:
    """A model to score: 'pixels', 'untrained:CHECKPOINT', a checkpoint, or 'module:function'.

    The function takes no arguments and returns a torch network, or a `Network` that says how it
    sees images. It is imported, which runs its module: name only code that you would run. An
    untrained network is that of a checkpoint with new weights.
    """
    settings = settings or Extraction()
    if text == "pixels":
        return pixels()
    if text.startswith("untrained:"):
        about, _ = restore(text.removeprefix("untrained:"))
        torch.manual_seed(0)
        return _network(text.partition(":")[0], about.build(), layers, about.view, settings, device)
    if Path(text).exists():
        about, module = restore(text)
        return _network(_name(Path(text)), module, layers, about.view, settings, device)
    made = _call(text)
    if isinstance(made, Network):
        return made
    if not isinstance(made, nn.Module):
        kind = type(made).__name__
        raise InvalidArgument(f"{text}: must return a torch network, returned {kind}")
    return _network(text.partition(":")[2], made, layers, View((224, 224)), settings, device)


def _network(
    name: str, module: nn.Module, layers: Sequence[str] | None, view: View,
    settings: Extraction, device: str,
) -> Network:  # fmt: skip
    return Network(name, module, tuple(layers or block_names(module)), view, settings, device)


def _call(text: str) -> Any:
    """What the function of 'module:function' returns."""
    name, colon, function = text.partition(":")
    if not colon:
        raise InvalidArgument(
            f"model must be 'pixels', a checkpoint that exists or module:function, got {text!r}"
        )
    try:
        found = getattr(import_module(name), function)
    except (ImportError, AttributeError) as error:
        raise InvalidArgument(f"model {text!r} cannot be imported: {error}") from error
    try:
        signature(found).bind()
    except TypeError as error:
        raise InvalidArgument(f"model {text!r} must take no arguments: {error}") from error
    return found()


def _newest(path: Path) -> Path:
    if path.suffix == ".pt":
        return path
    folder = path if path.is_dir() else path.with_suffix(".checkpoints")
    runs = sorted(folder.glob("*.checkpoints"))
    if len(runs) > 1:
        raise InvalidArgument(
            f"{path}: must be one run, and holds {len(runs)}: name one, such as "
            f"{runs[0].with_suffix('.h5')}"
        )
    folder = runs[0] if runs else folder
    if not (found := Checkpoints(folder).paths()):
        raise InvalidArgument(f"{path}: no checkpoint there, nor in {folder}")
    return found[-1]


def _name(path: Path) -> str:
    """Of the run that a checkpoint belongs to; a folder with one run has its own name."""
    return path.parent.stem if path.suffix == ".pt" and path.parent.suffix else path.stem
