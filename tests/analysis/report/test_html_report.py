"""The page: what is in it, that it needs nothing else, and that its script works in a browser."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from analysis.report import pictures
from analysis.report.charts import MOST_POINTS, Chart, Line, chart, thinned, ticks
from analysis.report.markup import Markup, element, listed
from analysis.report.pictures import MOST_POSITIONS
from experiments.commands.report import ReportOptions
from experiments.commands.report import run as html_report
from neurosim.errors import InvalidArgument
from neurosim.recording import RunWriter, Status
from neurosim.training import (
    DataSettings,
    NetworkSettings,
    OptimisationSettings,
    Place,
    RecordSettings,
    SleepSettings,
    TrainSettings,
    train,
)

SETTINGS = TrainSettings(
    DataSettings(subset=120, test_subset=50),
    NetworkSettings(width=0.5),
    OptimisationSettings(batch_size=30, epochs=2),
    SleepSettings("instant", every=3, phase="global"),
    RecordSettings(record_every=2, snapshot_every=4),
)
ATTACK = "</script><img src=x onerror=alert(1)>&\"'"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


class Page(HTMLParser):
    """Every element of a page with its attributes, and its text by element."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == [], "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "input", "br", "hr", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.text.append((self.open[-1], data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def texts(self, tag: str) -> list[str]:
        return [text for name, text in self.text if name == tag]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with snapshots and sleeps, one without, one that was hostile, and a study."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("runs")
    train(SETTINGS, Place(folder / "sleeps.h5", device="cpu", quiet=True))
    shared = NetworkSettings(width=0.5, connectivity="conv")
    plain = replace(SETTINGS, network=shared, sleep=SleepSettings(), record=RecordSettings())
    train(plain, Place(folder / "plain.h5", device="cpu", quiet=True))
    hostile(folder / "hostile.h5")
    with RunWriter(folder / "study.h5", "convergence", {"study": ATTACK}) as run:
        run.scale("setting", np.arange(2))
        run.scale("trial", np.arange(3))
        run.scale("presentation", np.array([10, 20]))
        run.constant("grid/gamma", np.array([0.1, 0.01]), dims=("setting",))
        run.constant("limit/eq5", np.array([0.1, 0.2]), dims=("setting",))
        run.dataset("inverse_snr", dims=("setting", "trial", "presentation"))
        run.start()
        run.write("inverse_snr", np.exp(-np.arange(12.0)).reshape(2, 3, 2))
    return folder


def declare(run: RunWriter, layer: str) -> None:
    """What every training run declares, with one layer and two measures."""
    columns = {"step": ("loss",), "epoch": ("top1", "top5", "test_loss", "seconds"), "sleep": ()}
    for scale, names in columns.items():
        run.scale(scale, dtype="i8")
        for name in names:
            run.dataset(name, (scale,))
    run.scale("layer", [layer])
    run.scale("measure", ["inverse_snr", "spread"])
    run.scale("moment", ["before", "after"])
    run.dataset("statistics", ("step", "layer", "measure"))
    run.dataset("sleep_statistics", ("sleep", "moment", "layer", "measure"))


def hostile(path: Path) -> None:
    """A run file all of whose texts would be markup, and in which no loss is a number."""
    with RunWriter(path, "training", {ATTACK: {"nested": ATTACK}}) as run:
        declare(run, "<b>layer</b>")
        run.start()
        for step in range(3):
            run.append("step", {"step": step, "loss": np.nan, "statistics": np.ones((1, 2))})
        run.close(Status.FAILED, ATTACK)


def written(path: Path, out: Path, **given: Any) -> str:
    found = html_report([path], ReportOptions(out=out, quiet=True, **given))
    return Path(found.values["page"]).read_text(encoding="utf-8")


def test_one_page_about_everything(folder: Path, tmp_path: Path) -> None:
    text = written(folder, tmp_path, title=ATTACK)
    page = Page(text)
    assert page.texts("h1") == [ATTACK]
    assert page.texts("h2") == ["hostile", "plain", "sleeps", "study"]
    figures = page.texts("figcaption")
    for name in (
        "Accuracy", "Training loss", "−log SNR over interior positions", "Spread within grids",
        "Euclidean distance, r = 4", "Cosine distance, r = 1", "Effective rank",
        "Euclidean distance over radius, conv1", "Spread after a sleep / before it", "output 0",
    ):  # fmt: skip
        assert name in figures, name
    assert "The network did not sleep." in page.texts("p")
    assert any("--snapshot-every" in words for words in page.texts("p"))
    assert {"Configuration", "Environment"} <= set(page.texts("summary"))
    assert "γ = 0.01" in page.texts("th")
    assert "instant" in page.texts("dd")


def test_texts_are_escaped(folder: Path, tmp_path: Path) -> None:
    """What is hostile appears as text, and adds no element."""
    page = Page(written(folder / "hostile.h5", tmp_path))
    assert ATTACK in page.texts("dt")
    assert ATTACK in page.texts("dd")
    assert any(ATTACK in words for words in page.texts("dd") if words.startswith("failed"))
    assert page.all("img") == []
    assert page.all("b") == []
    assert "<b>layer</b>" in page.texts("li")
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)


def test_nothing_from_outside(folder: Path, tmp_path: Path) -> None:
    text = written(folder, tmp_path)
    page = Page(text)
    for tag, attributes in page.elements:
        for name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
            address = attributes.get(name) or "#"
            assert address.startswith(("#", "data:image/png;base64,")), (tag, address)
    assert "http:" not in text
    assert "https:" not in text
    assert not re.search(r"@import|url\(|\beval\(|new Function", text)
    assert not {"link", "iframe", "object", "embed", "base"} & {tag for tag, _ in page.elements}
    policy = next(m for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert (policy["content"] or "").startswith("default-src 'none'")


def test_for_keyboards_and_phones(folder: Path, tmp_path: Path) -> None:
    page = Page(written(folder / "sleeps.h5", tmp_path))
    (slider,) = page.all("input")
    assert slider["type"] == "range"
    assert json.loads(slider["data-steps"] or "") == [0, 4, 8]
    assert (slider["min"], slider["max"], slider["value"]) == ("0", "2", "2")
    assert page.texts("label") == ["Time"]
    charts = [f for f in page.all("figure") if f.get("class") == "chart"]
    assert len(charts) > 8
    assert all(f["tabindex"] == "0" and f["aria-label"] for f in charts)
    assert all(image["alt"] for image in page.all("img"))
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in page.all("svg"))
    assert any(m.get("name") == "viewport" for m in page.all("meta"))
    text = "".join(page.texts("style"))
    assert "prefers-color-scheme: dark" in text
    assert "focus-visible" in text


def test_pictures_of_a_run_that_diverged() -> None:
    """What is not finite is blank; the rest is shown as ever."""
    filters = np.random.default_rng(0).normal(size=(2, 2, 3, 3, 1))
    broken = filters.copy()
    broken[1, 1, 0, 0] = np.nan
    limit = pictures.full_colour(np.stack([filters, broken]))
    assert limit == pytest.approx(np.abs(filters).max(), rel=0.1)
    whole, found = (pictures._tiled(frame, limit) for frame in (filters, broken))
    assert (whole != found).sum() == 1
    assert pictures.full_colour(np.full((1, 2), np.nan)) == 1


def test_pictures_show_the_weights(tmp_path: Path) -> None:
    """Red where a weight is positive, blue where it is negative, of the middle of large maps."""
    weight = np.ones((1, 18, 4, 2, 1, 2, 2), np.float32)
    weight[:, 1, 0, 0] = -1  # the first row that is shown
    weight[0, 1, 1, 0, 0] = [[0, 1], [1, 0]]
    path = tmp_path / "run.h5"
    with RunWriter(path, "training", {}) as run:
        declare(run, "a")
        run.scale("snapshot", dtype="i8")
        axes = [f"weights/a/axis{i}" for i in range(6)]
        for axis, size in zip(axes, weight.shape[1:], strict=True):
            run.scale(axis, np.arange(size))
        run.dataset("weights/a/weight", ("snapshot", *axes), "f4")
        run.start()
        run.append("snapshot", {"snapshot": 0, "weights/a/weight": weight[0]})
    page = Page(written(path, tmp_path / "out", channels=1))
    (image,) = page.all("img")
    code = (image["src"] or "").removeprefix("data:image/png;base64,")
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(code))).convert("RGBA")).astype(int)
    assert picture.shape == (3 * MOST_POSITIONS - 1, 3 * 4 - 1, 4)
    red, blue, white = picture[0, 4], picture[0, 0], picture[0, 3]
    assert red[0] > 2 * red[2]
    assert blue[2] > 2 * blue[0]
    assert white.min() > 240
    assert picture[2, 0, 3] == 0  # the gap is transparent
    assert any("rows 1 to 16" in words for words in page.texts("p"))


def test_size_is_bounded(folder: Path, tmp_path: Path) -> None:
    few = written(folder / "sleeps.h5", tmp_path / "few", snapshots=1, channels=1)
    assert len(Page(few).all("img")) == 3
    rng = np.random.default_rng(0)
    lines = [Line(str(n), np.arange(100_000), rng.normal(size=100_000)) for n in range(50)]
    assert len(chart(Chart("", "", "", lines))) < 300_000


def test_thinning_keeps_extremes() -> None:
    y = np.zeros(10_000)
    y[1234], y[5678] = 7, -7
    name, x, kept = thinned(Line("a", np.arange(10_000), y))
    assert name == "a"
    assert len(x) <= MOST_POINTS
    assert {1234, 5678} <= set(x)
    assert (kept.max(), kept.min()) == (7, -7)


def test_ticks() -> None:
    np.testing.assert_allclose(ticks(0, 1), [0, 0.2, 0.4, 0.6, 0.8, 1])
    np.testing.assert_allclose(ticks(-1.3, 4.1), [-1, 0, 1, 2, 3, 4])
    assert len(ticks(1e-9, 1.1e-9)) <= 7


def test_odd_lines() -> None:
    """Nothing to draw draws nothing; gaps, infinities and constants are drawn around."""
    assert chart(Chart("", "", "", [])) == ""
    assert chart(Chart("", "", "", [Line("a", [1, 2], [np.nan, np.inf])])) == ""
    x, y = [0, 1, 2, 3, 4], [1, np.nan, 1, np.inf, 1]
    (path,) = Page(chart(Chart("t", "x", "y", [Line("a", x, y)]))).all("path")
    assert (path["d"] or "").count("M") == 3
    logs = chart(Chart("t", "x", "y", [Line("a", x, [1, 0, 10, -1, 100])], logarithmic=True))
    assert [t for t in Page(logs).texts("text") if t.startswith("1e")] == ["1e0", "1e1", "1e2"]


def test_markup() -> None:
    assert element("p", "<", Markup("<b>"), class_="a", hidden=True, id=None) == (
        '<p class="a" hidden>&lt;<b></p>'
    )
    assert element("input", data_steps='"') == '<input data-steps="&quot;">'
    assert "none" in listed({"a": None, "b": ()})


def test_bad_input(folder: Path, tmp_path: Path) -> None:
    written(folder / "study.h5", tmp_path)
    with pytest.raises(InvalidArgument, match=r"exists already.*--overwrite"):
        written(folder / "study.h5", tmp_path)
    with pytest.raises(InvalidArgument, match="mean 'conv1'"):
        written(folder / "sleeps.h5", tmp_path / "a", layers=("conv11",))
    with pytest.raises(InvalidArgument, match="--snapshots must be from 1 to 100, got 0"):
        written(folder / "sleeps.h5", tmp_path / "b", snapshots=0)


PROBE = """
<script>
const slider = document.querySelector("input[data-steps]");
const seen = () => [...document.querySelectorAll("img")].filter((i) => i.offsetHeight > 0);
const result = { start: [...new Set(seen().map((i) => i.dataset.frame))] };
slider.value = 0;
slider.dispatchEvent(new Event("input"));
result.moved = [...new Set(seen().map((i) => i.dataset.frame))];
result.said = slider.getAttribute("aria-valuetext");
const figure = document.querySelector("figure.chart");
figure.dispatchEvent(new KeyboardEvent("keydown", { key: "Home" }));
result.read = figure.querySelector("output").textContent;
result.wide = document.documentElement.scrollWidth > document.documentElement.clientWidth;
const found = document.createElement("pre");
found.id = "probe";
found.textContent = JSON.stringify(result);
document.body.append(found);
</script>
"""


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium to open the page in")
@pytest.mark.parametrize("width", [390, 1200])
def test_in_a_browser(folder: Path, tmp_path: Path, width: int) -> None:
    """Slider and arrow keys work, and nothing sticks out of a phone's screen."""
    page = tmp_path / "probe.html"
    page.write_text(written(folder / "sleeps.h5", tmp_path) + PROBE, encoding="utf-8")
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu",
        "--disable-background-networking", f"--user-data-dir={tmp_path / 'profile'}",
        f"--window-size={width},900", "--dump-dom", page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    found = json.loads("".join(Page(done.stdout).texts("pre")))
    assert found["start"] == ["2"]
    assert found["moved"] == ["0"]
    assert found["said"] == "after step 0"
    assert re.fullmatch(r"epochs 1: top-1 [\d.]+, top-5 [\d.]+", found["read"])
    assert not found["wide"]
