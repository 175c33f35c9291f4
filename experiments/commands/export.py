"""A checkpoint as a model plugin for brain-score/vision: what `neurosim export brainscore` does.

The folder goes below brainscore_vision/models/ of a clone, or into the zip file of a submission.
It holds what the library asks for: __init__.py, which enters the model in `model_registry`,
model.py, test.py and requirements.txt; region_layer_map/ if layers were committed to regions;
and the network itself as a description and weights, tensors only. neurosim builds it there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from analysis.representations.activations import block_names, check_layers, layer_names
from experiments.common.networks import restore
from experiments.common.result import results_folder
from neurosim import __version__
from neurosim.errors import InvalidArgument, require, require_choice
from neurosim.files import replacing, write_text

REGIONS = ("V1", "V2", "V4", "IT")

INIT = '''"""{identifier}, exported by neurosim {version}."""

from brainscore_vision import model_registry
from brainscore_vision.model_helpers.brain_transformation import ModelCommitment

from .model import LAYERS, REGION_LAYERS, get_model

model_registry["{identifier}"] = lambda: ModelCommitment(
    identifier="{identifier}",
    activations_model=get_model(),
    layers=LAYERS,
    region_layer_map=REGION_LAYERS,
    visual_degrees={degrees!r},
)
'''

MODEL = '''"""The network of {identifier} and how it sees images."""

from pathlib import Path

import torch
from brainscore_vision.model_helpers.activations.pytorch import PytorchWrapper

from analysis.representations.stimuli import read_image
from experiments.common.networks import Description

HERE = Path(__file__).parent
LAYERS = {layers}
REGION_LAYERS = {regions}

BIBTEX = """@inproceedings{{pogodin2021,
  title={{Towards Biologically Plausible Convolutional Networks}},
  author={{Pogodin, Roman and Mehta, Yash and Lillicrap, Timothy and Latham, Peter E}},
  booktitle={{Advances in Neural Information Processing Systems}},
  year={{2021}}
}}"""


def get_model():
    """The network, wrapped for the extraction of activations."""
    about = Description.from_json((HERE / "network.json").read_text())
    network = about.build()
    network.load_state_dict(torch.load(HERE / "weights.pt", weights_only=True))
    for module in network.modules():
        if isinstance(module, torch.nn.ReLU):
            module.inplace = False  # activations are kept without a copy

    def preprocess(paths):
        images = [read_image(path, str(path)) for path in paths]
        return about.view(images).numpy()

    wrapper = PytorchWrapper(
        identifier="{identifier}", model=network.eval(), preprocessing=preprocess
    )
    wrapper.image_size = about.size[0]
    return wrapper
'''

TEST = """import brainscore_vision
import pytest


@pytest.mark.travis_slow
def test_has_identifier():
    model = brainscore_vision.load_model("{identifier}")
    assert model.identifier == "{identifier}"
"""


@dataclass(frozen=True)
class ExportOptions:
    """How the model is called, and what stands for what."""

    identifier: str = "neurosim_model"
    """Name of the model and its folder: letters, digits and underscores."""
    layers: tuple[str, ...] | None = None
    """Layers that may stand for a region (default: the outputs of all blocks); the last one is
    read out for behaviour."""
    regions: tuple[str, ...] = ()
    """Layers that do, as V1=LAYER (default: Brain-Score chooses on its public benchmarks)."""
    degrees: float = 8
    """Width of the network's field of view, in degrees."""
    out: Path | None = None
    """Folder below which the plugin's is made (default: runs/brainscore, or the next free one)."""


def run(checkpoint: Path, options: ExportOptions) -> str:
    """Write a model plugin folder for brain-score/vision.

    Args:
        checkpoint: A checkpoint (.pt, its folder, or its run file).
        options: How the model is called, and what stands for what.
    """
    folder = export(checkpoint, options)
    files = "\n".join(f"  {path.relative_to(folder)}" for path in sorted(folder.rglob("*.*")))
    return f"{folder}, for brainscore_vision/models/:\n{files}"


def export(checkpoint: Path, options: ExportOptions) -> Path:
    """Write the folder and return it."""
    identifier = options.identifier
    plain = re.fullmatch(r"[A-Za-z]\w*", identifier, re.ASCII)
    require(plain, "--identifier", identifier, "letters, digits and underscores, a letter first")
    require(options.degrees > 0, "--degrees", options.degrees, "> 0")
    about, module = restore(checkpoint)
    layers = list(options.layers or block_names(module))
    check_layers(layers, layer_names(module))
    committed = _committed(options.regions, layers)
    folder = results_folder(options.out, "brainscore") / identifier
    if folder.exists():
        raise InvalidArgument(f"{folder} exists already: choose another --out or --identifier")
    words = {
        "identifier": identifier,
        "version": __version__,
        "degrees": options.degrees,
        "layers": json.dumps(layers),
        "regions": json.dumps(committed) if committed else None,
    }
    with replacing(folder) as new:
        new.mkdir()
        for name, text in {"__init__.py": INIT, "model.py": MODEL, "test.py": TEST}.items():
            write_text(new / name, text.format(**words))
        write_text(new / "requirements.txt", f"neurosim=={__version__}\n")
        write_text(new / "network.json", about.as_json() + "\n")
        torch.save(module.state_dict(), new / "weights.pt")
        if committed:
            place = new / "region_layer_map" / f"{identifier}.json"
            place.parent.mkdir()
            write_text(place, json.dumps(committed) + "\n")
    return folder


def _committed(pairs: Sequence[str], layers: Sequence[str]) -> dict[str, str]:
    """{"V1": layer, ...} from ["V1=layer", ...]; all regions or none, as the library wants it."""
    found = {}
    for pair in pairs:
        region, equals, layer = pair.partition("=")
        require(equals, "--regions", pair, "pairs such as IT=layer3")
        require_choice("--regions", region, REGIONS)
        check_layers([layer], layers)
        found[region] = layer
    if found and (lacking := [region for region in REGIONS if region not in found]):
        raise InvalidArgument(f"--regions must name a layer for all or none, {lacking[0]} lacks")
    return found
