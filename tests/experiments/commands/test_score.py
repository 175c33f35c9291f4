"""Scoring and exporting from checkpoints: from files to tables and to a plugin."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from analysis.benchmark.candidates import pixels
from analysis.benchmark.form import Benchmark, Dissimilarities, Recording
from analysis.representations.stimuli import Pictures
from experiments.commands.export import ExportOptions, export
from experiments.commands.score import ScoreOptions, distinct, find_benchmark, run
from experiments.common.networks import Description, candidate, restore
from experiments.dynamic_sharing import table3
from neurosim.errors import InvalidArgument
from neurosim.training import (
    DataSettings,
    NetworkSettings,
    OptimisationSettings,
    Place,
    TrainSettings,
    train,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run file of a small locally connected network after one epoch of digits."""
    path = tmp_path_factory.mktemp("run") / "small.h5"
    settings = TrainSettings(
        data=DataSettings(dataset="digits", subset=100),
        network=NetworkSettings(model="simple", connectivity="local"),
        optimisation=OptimisationSettings(batch_size=50, epochs=1),
    )
    train(settings, Place(path, device="cpu", quiet=True))
    return path


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    """Two regions that follow the brightness of parts of the images."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (120, 8, 8, 3), np.uint8)
    parts = pixels.reshape(120, 2, 4, 2, 4, 3).mean((2, 4)).reshape(120, 12)
    responses = parts[:, None] + 20 * random.standard_normal((120, 4, 12))
    names = tuple(f"n{number}" for number in range(6))
    measured = {
        "V4": Recording(responses[..., :6], names),
        "IT": Recording(responses[..., 6:], names),
    }
    ids = tuple(f"s{number}" for number in range(120))
    return Benchmark("bright", Pictures(ids, pixels), measured).write(tmp_path / "bright.h5")


def test_restored_networks_are_those_that_were_trained(trained: Path) -> None:
    about, module = restore(trained)
    folder = trained.with_suffix(".checkpoints")
    newest = sorted(folder.glob("*.pt"))[-1]
    state = torch.load(newest, weights_only=True)["model"]
    for path in (folder, newest):
        assert restore(path)[0] == about
    assert all(torch.equal(state[name], value) for name, value in module.state_dict().items())
    assert (about.channels, about.classes) == (1, 10)
    assert Description.from_json(about.as_json()) == about
    assert not module.training


def test_score_writes_tables_and_figure(trained: Path, benchmark: Path, tmp_path: Path) -> None:
    out, models = tmp_path / "out", (str(trained), f"untrained:{trained}", "pixels")
    options = ScoreOptions(benchmark=str(benchmark), metric="ridge", out=out, quiet=True)
    report = run(models, options)
    names = {path.name for path in out.iterdir()}
    assert {"score.csv", "score.tex", "score.png", "score.pdf", "small-bright.h5"} <= names
    assert [s["model"] for s in report.values["scores"]][::2] == ["small", "untrained", "pixels"]
    best = {s["model"]: s["raw"] for s in report.values["scores"] if s["region"] == "V4"}
    assert best["pixels"] > 0.5
    json.loads(report.as_json())
    assert "95% interval" in report.text()
    before = report.values["scores"]
    with pytest.raises(InvalidArgument, match=r"score.csv exists already.*--overwrite"):
        run(models, options)
    assert run(models, replace(options, overwrite=True)).values["scores"] == before


def network_of_ones_own() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten())


def number() -> int:
    return 3


def test_models_from_functions() -> None:
    found = candidate(f"{__name__}:network_of_ones_own", ["0", "1"])
    assert (found.name, found.layers) == ("network_of_ones_own", ("0", "1"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing", "'pixels', a checkpoint that exists or module:function, got 'nothing'"),
        ("no.such.module:f", "cannot be imported"),
        (f"{__name__}:absent", "cannot be imported"),
        (f"{__name__}:number", "must return a torch network, returned int"),
    ],
)
def test_bad_models(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        candidate(text)


def test_bad_benchmarks_and_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="benchmark must be one of kriegeskorte2008"):
        find_benchmark("cowley")
    with pytest.raises(InvalidArgument, match="no checkpoint there"):
        restore(tmp_path / "run.h5")


class Wrapper:
    """The part of Brain-Score's PytorchWrapper that a plugin meets."""

    def __init__(self, identifier: str, model: nn.Module, preprocessing) -> None:
        self.identifier, self.model, self.preprocessing = identifier, model, preprocessing

    def activations(self, paths: list[str], layer: str) -> np.ndarray:
        """As Brain-Score extracts them: a hook that keeps the output without a copy."""
        kept = []
        module = self.model.get_submodule(layer)
        hook = module.register_forward_hook(lambda m, i, o: kept.append(o.cpu().data.numpy()))
        with torch.no_grad():
            self.model(torch.from_numpy(self.preprocessing(paths)))
        hook.remove()
        return kept[0]


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> dict:
    """Stand-ins for the parts of brainscore_vision that a plugin imports; its registry."""
    registry: dict = {}
    helpers = "brainscore_vision.model_helpers"
    for name, contents in {
        "brainscore_vision": {"model_registry": registry},
        helpers: {},
        f"{helpers}.brain_transformation": {"ModelCommitment": SimpleNamespace},
        f"{helpers}.activations": {},
        f"{helpers}.activations.pytorch": {"PytorchWrapper": Wrapper},
    }.items():
        module = ModuleType(name)
        module.__dict__.update(contents)
        monkeypatch.setitem(sys.modules, name, module)
    return registry


def test_exported_plugin_gives_the_same_activations(
    trained: Path, library: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    regions = ("V1=relu1", "V2=relu2", "V4=relu2", "IT=relu3")
    options = ExportOptions(identifier="small_local", out=tmp_path / "models", regions=regions)
    folder = export(trained, options)
    assert {path.name for path in folder.iterdir()} == {
        "__init__.py", "model.py", "test.py", "requirements.txt", "network.json", "weights.pt",
        "region_layer_map",
    }  # fmt: skip
    # The library finds plugins by this line.
    assert 'model_registry["small_local"]' in (folder / "__init__.py").read_text()
    monkeypatch.syspath_prepend(str(folder.parent))
    importlib.import_module("small_local")
    model = library["small_local"]()
    assert model.identifier == "small_local"
    assert model.region_layer_map == json.loads(
        (folder / "region_layer_map" / "small_local.json").read_text()
    )
    assert model.layers[-1] == "flatten"
    pixels = np.random.default_rng(1).integers(0, 256, (3, 20, 20, 3), np.uint8)
    paths = [str(tmp_path / f"{number}.png") for number in range(3)]
    for path, image in zip(paths, pixels, strict=True):
        Image.fromarray(image).save(path)
    about, module = restore(trained)
    with torch.no_grad():
        x = about.view(list(pixels))
        expected = module.get_submodule("bn1")(module.get_submodule("conv1")(x))
    wrapped = model.activations_model
    np.testing.assert_allclose(wrapped.activations(paths, "bn1"), expected, atol=1e-6)
    assert wrapped.image_size == 8
    with pytest.raises(InvalidArgument, match="exists already"):
        export(trained, options)


def test_a_plugin_is_whole_or_not_there(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("the disk is full")

    options = ExportOptions(identifier="whole", out=tmp_path / "models")
    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", full)
        with pytest.raises(OSError, match="full"):
            export(trained, options)
    assert not list((tmp_path / "models").iterdir())
    assert (export(trained, options) / "weights.pt").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"identifier": "my-model"}, "letters, digits and underscores"),
        ({"layers": ("conv9",)}, "got 'conv9'; the nearest is"),
        ({"regions": ("IT=relu3",)}, "a layer for all or none, V1 lacks"),
        ({"regions": ("MT=relu3",)}, "--regions must be one of V1"),
        ({"regions": ("IT",)}, "pairs such as IT=layer3"),
        ({"degrees": 0}, "--degrees must be > 0"),
    ],
)
def test_bad_exports(trained: Path, tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        export(trained, replace(ExportOptions(out=tmp_path / "models"), **changes))


def test_table3_scores_what_is_there(
    benchmark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our benchmark stands in for an assembly; what is not there is named."""
    held = find_benchmark(str(benchmark))
    source = table3.Source("V4, IT", "MajajHong2015.public", lambda path: held)
    monkeypatch.setattr(table3, "ASSEMBLIES", (*table3.ASSEMBLIES[::2], source))
    (tmp_path / "assemblies" / "MajajHong2015.public").mkdir(parents=True)
    options = table3.TableOptions(data=tmp_path, out=tmp_path / "out", quiet=True)
    settings = table3.Table3(
        assemblies=tmp_path / "assemblies", size=16, layers=("conv1", "layer1")
    )
    report = table3.run(settings, options)
    text = report.text()
    for missing in ("FreemanZiemba2013.public", "Rajalingham2018", "macaque_v4", "Marques2020"):
        assert missing in text
    models = {s["model"] for s in report.values["scores"]}
    assert models == {"untrained conv", "untrained local", "pixels"}
    assert {s["region"] for s in report.values["scores"]} == {"V4 bright", "IT bright"}
    assert report.values["published"]["ws1"]["average"] == 0.396
    with pytest.raises(InvalidArgument, match=r"table3.csv exists already.*--overwrite"):
        table3.run(settings, options)
    again = table3.run(settings, replace(options, overwrite=True))
    assert again.values["scores"] == report.values["scores"]
    with pytest.raises(InvalidArgument, match="no benchmark was found"):
        table3.run(table3.Table3(), options)
    with pytest.raises(InvalidArgument, match="pairs such as conv=CHECKPOINT"):
        table3.run(replace(settings, models=("conv",)), replace(options, out=tmp_path / "other"))


def test_published_averages_are_those_of_the_columns() -> None:
    """The paper's first column is the mean of the others, to its rounding."""
    for row in table3.PUBLISHED.values():
        assert np.mean(row[1:]) == pytest.approx(row[0], abs=1.1e-3)


def test_models_of_one_name_are_told_apart() -> None:
    """Runs of one seed in two folders, say; others keep their short names."""
    texts = ["a/run.h5", "b/run.h5", "pixels"]
    named = [replace(pixels(), name=name) for name in ("run", "run", "pixels")]
    assert [found.name for found in distinct(named, texts)] == texts


def test_no_models() -> None:
    with pytest.raises(InvalidArgument, match=r"models must be one or more: .* got \(\)"):
        run((), ScoreOptions())


def test_a_metric_of_responses_is_refused_where_there_are_none(
    benchmark: Path, tmp_path: Path
) -> None:
    matrices = 1 - np.eye(120)[None]
    measured = {"IT": Dissimilarities(matrices, ("one",))}
    path = replace(find_benchmark(str(benchmark)), name="alike", measured=measured).write(
        tmp_path / "alike.h5"
    )
    options = ScoreOptions(benchmark=str(path), metric="rdm", out=tmp_path / "out", quiet=True)
    with pytest.raises(InvalidArgument, match="--metric must be left out for alike"):
        run(("pixels",), options)


def test_a_network_for_other_images_is_named(benchmark: Path, tmp_path: Path) -> None:
    network = replace(pixels(), name="mine", module=nn.Sequential(nn.Linear(7, 2)), layers=("0",))
    with pytest.raises(InvalidArgument, match=r"mine: cannot be shown images of \(32, 32\) pixels"):
        network.features(find_benchmark(str(benchmark)), tmp_path)
