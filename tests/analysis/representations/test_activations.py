"""Extraction of layers: right, resumable after a kill, and refused with one sentence."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from analysis.representations.activations import (
    Activations,
    Extraction,
    block_names,
    extract,
)
from analysis.representations.fingerprints import weights_fingerprint
from analysis.representations.stimuli import PictureFiles, Pictures, View
from neurosim.errors import InvalidArgument, RunFileError
from neurosim.recording import RunReader, RunWriter

VIEW = View((12, 12))
LAYERS = ["conv", "bn", "relu", "fc"]


def network() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(3, 4, 3),
            bn=nn.BatchNorm2d(4),
            relu=nn.ReLU(inplace=True),
            drop=nn.Dropout(0.5),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            fc=nn.Linear(4, 5),
        )
    )


def pictures(count: int = 11) -> Pictures:
    pixels = np.random.default_rng(1).integers(0, 256, (count, 12, 12, 3), np.uint8)
    return Pictures(tuple(f"stimulus {number}" for number in range(count)), pixels)


def test_activations_are_those_of_the_layers(tmp_path: Path) -> None:
    """In evaluation mode; an in-place ReLU does not reach back into the layer before it."""
    model, shown = network(), pictures()
    model.train()
    path = extract(model, shown, LAYERS, tmp_path / "a.h5", view=VIEW,
                   settings=Extraction(batch=4))  # fmt: skip
    assert model.training
    assert model.drop.training
    found = Activations(path)
    model.eval()
    with torch.no_grad():
        x = VIEW(shown.images(0, 11))
        conv = model.conv(x)
        bn = model.bn(conv)
        expected = {"conv": conv, "bn": bn, "relu": bn.clamp(min=0), "fc": model(x)}
    assert tuple(found) == tuple(LAYERS)
    assert found.ids == shown.ids
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values.flatten(1).numpy(), atol=1e-6)
    assert found.maps("conv").shape == (11, 4, 10, 10)
    assert found.maps("fc").shape == (11, 5)


def test_axes_are_labelled(tmp_path: Path) -> None:
    path = extract(network(), pictures(), ["conv", "fc"], tmp_path / "a.h5", view=VIEW)
    with RunReader(path) as run:
        assert run.kind == "activations"
        axes = [name.rpartition("/")[2] for name in run.dims("layers/conv/activation")]
        assert axes == ["stimulus", "channel", "row", "column"]
        assert run.dims("layers/fc/activation")[1] == "layers/fc/feature"


def test_dtype_and_pooling(tmp_path: Path) -> None:
    settings = Extraction(dtype="float16", pool=2)
    path = extract(network(), pictures(), ["conv", "fc"], tmp_path / "a.h5", view=VIEW,
                   settings=settings)  # fmt: skip
    full = Activations(extract(network(), pictures(), ["conv"], tmp_path / "b.h5", view=VIEW))
    found = Activations(path)
    blocks = full.maps("conv").reshape(11, 4, 2, 5, 2, 5).mean((3, 5))
    assert found.maps("conv").dtype == np.float16
    np.testing.assert_allclose(found.maps("conv"), blocks, atol=2e-3)
    assert found.maps("fc").shape == (11, 5)


def test_extraction_repeats_bit_for_bit(tmp_path: Path) -> None:
    paths = [extract(network(), pictures(), LAYERS, tmp_path / f"{n}.h5", view=VIEW)
             for n in range(2)]  # fmt: skip
    first, second = map(Activations, paths)
    assert all(np.array_equal(first[name], second[name]) for name in LAYERS)


SLOW = """
import sys, time
sys.path.insert(0, {tests!r})
from test_activations import *

class Slow(Pictures):
    def images(self, start, stop):
        time.sleep(0.05)
        return super().images(start, stop)

slow = Slow(pictures(200).ids, pictures(200).pixels)
print("go", flush=True)
extract(network(), slow, LAYERS, {path!r}, view=VIEW, settings=Extraction(batch=4))
"""


def test_a_killed_extraction_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    root = Path(__file__).parents[3]
    code = textwrap.dedent(SLOW).format(tests=str(Path(__file__).parent), path=str(path))
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment)
    deadline = time.monotonic() + 120
    try:
        while time.monotonic() < deadline:
            assert process.poll() is None, "ended before it was killed"
            if path.exists():
                with RunReader(path) as run:
                    if len(run["stimulus"]) > 20:
                        break
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    with pytest.raises(RunFileError, match="extract again with resume"):
        Activations(path)
    shown, settings = pictures(200), Extraction(batch=4)
    again = {"view": VIEW, "settings": settings, "resume": True}
    with pytest.raises(RunFileError, match="config must be that of the run to resume"):
        extract(network(), shown, LAYERS, path, **{**again, "view": View((12, 13))})
    extract(network(), shown, LAYERS, path, **again)
    whole = Activations(extract(network(), shown, LAYERS, tmp_path / "b.h5", view=VIEW,
                                settings=settings))  # fmt: skip
    found = Activations(path)
    assert all(np.array_equal(found[name], whole[name]) for name in LAYERS)
    with RunReader(path) as run:
        assert len(run.segments) == 2
    before = sorted(tmp_path.iterdir())
    extract(network(), shown, LAYERS, path, **again)  # complete: nothing to do
    assert sorted(tmp_path.iterdir()) == before


def test_other_weights_are_another_network() -> None:
    model = network()
    before = weights_fingerprint(model)
    assert before == weights_fingerprint(network())
    with torch.no_grad():
        model.fc.bias[0] += 1e-3
    assert weights_fingerprint(model) != before


def test_block_names_leave_out_the_classifier() -> None:
    model = nn.Sequential(
        OrderedDict(stem=nn.Conv2d(3, 4, 1), body=nn.Sequential(nn.ReLU(), nn.ReLU()),
                    fc=nn.Linear(4, 2))
    )  # fmt: skip
    assert block_names(model) == ["stem", "body.0", "body.1"]


def test_image_files_in_a_folder_and_an_archive(tmp_path: Path) -> None:
    from zipfile import ZipFile

    from PIL import Image

    shown = pictures(3)
    files = tuple(f"{number}.png" for number in range(3))
    for name, image in zip(files, shown.pixels, strict=True):
        Image.fromarray(image).save(tmp_path / name)
    with ZipFile(tmp_path / "images.zip", "w") as archive:
        for name in files:
            archive.write(tmp_path / name, name)
    for place in (tmp_path, tmp_path / "images.zip"):
        found = PictureFiles(shown.ids, place, files).images(0, 3)
        np.testing.assert_array_equal(np.stack(found), shown.pixels)
    before = {place: PictureFiles(shown.ids, place, files).fingerprint for place in
              (tmp_path, tmp_path / "images.zip")}  # fmt: skip
    Image.fromarray(shown.pixels[0] ^ 255).save(tmp_path / "1.png")  # another one of that name
    with ZipFile(tmp_path / "images.zip", "w") as archive:
        for name in files:
            archive.write(tmp_path / name, name)
    for place, fingerprint in before.items():
        assert PictureFiles(shown.ids, place, files).fingerprint != fingerprint
    with pytest.raises(InvalidArgument, match=r"9\.png in .*: no such file in the archive"):
        PictureFiles(("a",), tmp_path / "images.zip", ("9.png",)).images(0, 1)
    (tmp_path / "bad.png").write_bytes(b"not an image")
    with pytest.raises(InvalidArgument, match="cannot be read as an image"):
        PictureFiles(("a",), tmp_path, ("bad.png",)).images(0, 1)


def test_view_normalises_resizes_and_converts_channels() -> None:
    colour = np.full((8, 8, 3), 255, np.uint8)
    seen = View(None, (0.5,) * 3, (0.25,) * 3)([colour])
    np.testing.assert_allclose(seen, 2.0)
    grey = View((4, 6), (0.0,), (1.0,))([colour])
    assert grey.shape == (1, 1, 4, 6)
    np.testing.assert_allclose(grey, 1.0, atol=1e-6)
    assert View((4, 4))([colour[:, :, :1]]).shape == (1, 3, 4, 4)
    with pytest.raises(InvalidArgument, match="different sizes"):
        View(None)([colour, colour[:4]])


def test_fields_of_view_wider_and_narrower_than_the_screen() -> None:
    """8 degrees of stimulus in a field of 16 fill its middle; in 4, only their middle is seen."""
    image = np.random.default_rng(2).integers(0, 256, (8, 8, 3), np.uint8)
    plain = {"mean": (0.0,) * 3, "std": (1.0,) * 3}
    wide = View(None, **plain, degrees=16)([image], 8)[0].numpy() * 255
    assert wide.shape == (3, 16, 16)
    np.testing.assert_allclose(wide[:, 4:12, 4:12].transpose(1, 2, 0), image, atol=1e-3)
    np.testing.assert_allclose(wide[:, :4], 128, atol=1e-3)
    narrow = View(None, **plain, degrees=4)([image], 8)[0].numpy() * 255
    np.testing.assert_allclose(narrow.transpose(1, 2, 0), image[2:6, 2:6], atol=1e-3)


class Tuple(nn.Module):
    def forward(self, x: torch.Tensor) -> dict:
        return {"x": x}


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (["convv"], "got 'convv'; the nearest is 'conv'"),
        ([], "layers must be one or more"),
        (["conv", "conv"], "without repetitions"),
    ],
)
def test_bad_layers(tmp_path: Path, layers: list[str], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        extract(network(), pictures(), layers, tmp_path / "a.h5", view=VIEW)
    assert not list(tmp_path.iterdir())


def test_bad_outputs(tmp_path: Path) -> None:
    model = nn.Sequential(OrderedDict(dictionary=Tuple()))
    with pytest.raises(InvalidArgument, match=r"must give one tensor .* got dict"):
        extract(model, pictures(), ["dictionary"], tmp_path / "a.h5", view=VIEW)
    huge = network()
    huge.fc.bias.data.fill_(1e6)
    half = Extraction(dtype="float16")
    with (
        pytest.raises(InvalidArgument, match="'fc' must be finite in float16"),
        np.errstate(over="ignore"),
    ):
        extract(huge, pictures(), ["fc"], tmp_path / "b.h5", view=VIEW, settings=half)
    silent = network()
    silent.forward = lambda x: x
    with pytest.raises(InvalidArgument, match="took no part"):
        extract(silent, pictures(), ["fc"], tmp_path / "c.h5", view=VIEW)


def test_other_run_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with RunWriter(path, kind="training", config={}) as file:
        file.start()
    with pytest.raises(RunFileError, match="must be of kind 'activations'"):
        Activations(path)
    path = extract(network(), pictures(), ["conv"], tmp_path / "b.h5", view=VIEW)
    with pytest.raises(InvalidArgument, match="the nearest is 'conv'"):
        Activations(path)["con"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Pictures(("a",), np.zeros((2, 4, 4, 3), np.uint8)), "one per stimulus"),
        (lambda: Pictures(("a", "a"), np.zeros((2, 4, 4, 3), np.uint8)), "occurs more than once"),
        (lambda: Pictures(("a",), np.zeros((1, 4, 4, 3))), "must be uint8"),
        (lambda: View(mean=(0.5, 0.5)), "1 or 3 values"),
        (lambda: View(std=(0.0,) * 3), "std must be > 0"),
        (lambda: Extraction(dtype="float64"), "dtype must be one of"),
        (lambda: Extraction(batch=0), "batch must be >= 1"),
    ],
)
def test_bad_settings(make, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        make()
