"""One HTML page about runs, which needs no network: what `neurosim report` does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from analysis.convergence.snr import convergence_curves
from analysis.report import PageSettings, overview, page, study_section, training_section
from analysis.report.markup import Markup
from analysis.training import TrainingCurves, training_curves
from analysis.trajectories.filters import RADII
from analysis.trajectories.series import Wanted
from experiments.common.options import check_name
from experiments.common.result import Report, refuse_existing, results_folder
from experiments.common.run_files import run_files, sort_of, why_not
from neurosim.errors import require
from neurosim.files import write_text
from neurosim.progress import StatusLine
from neurosim.recording import RunReader


@dataclass(frozen=True)
class ReportOptions:
    """What the page shows, and where it goes."""

    layers: tuple[str, ...] | None = None
    """Layers to show the weights of: names or patterns such as 'layer1.*' (default: all)."""
    radii: tuple[int, ...] = RADII
    """Rings of neighbours for distances between filters (1 and 4 in the paper)."""
    snapshots: int = 12
    """Snapshots of weights shown of every run, evenly spaced."""
    channels: int = 4
    """Output channels of a layer whose filters are pictured."""
    title: str = "neurosim report"
    """Title of the page."""
    name: str = "report"
    """Name of the page, NAME.html."""
    out: Path | None = None
    """Folder for the page (default: runs/NAME, or the next free one)."""
    overwrite: bool = False
    """Replace a page that is already in the folder."""
    quiet: bool = False
    """No progress, only errors."""
    json: bool = False
    """Print where the page is as JSON on standard output."""

    def check(self) -> None:
        """Refuse values that make no sense."""
        check_name(self.name)
        require(len(self.radii) > 0, "--radii", self.radii, "at least one")
        require(1 <= self.snapshots <= 100, "--snapshots", self.snapshots, "from 1 to 100")
        require(1 <= self.channels <= 64, "--channels", self.channels, "from 1 to 64")
        Wanted(radii=self.radii).check()


def run(runs: tuple[Path, ...], options: ReportOptions) -> Report:
    """One self-contained HTML page: open it in any browser, also without a network.

    Learning curves, SNR of every layer with sleeps marked, filters as pictures with a time
    slider, distances between filters, what sleeps did, configuration and environment:
        neurosim report runs/train

    Args:
        runs: Run files, or folders of them.
        options: What the page shows, and where it goes.
    """
    options.check()
    files = run_files(runs)
    folder = results_folder(options.out, options.name)
    path = folder / f"{options.name}.html"
    refuse_existing([path], overwrite=options.overwrite)
    settings = PageSettings(
        options.layers, options.radii, options.snapshots, channels=options.channels
    )
    line = StatusLine(quiet=options.quiet)
    sections: dict[str, Markup] = {}
    trained: dict[str, TrainingCurves] = {}
    for label, file in files.items():
        line.update(lambda file=file: f"reading {file}")
        with RunReader(file) as opened:
            match sort_of(opened):
                case "training":
                    trained[label] = training_curves(opened)
                    sections[label] = training_section(opened, trained[label], settings)
                case "convergence":
                    sections[label] = study_section(opened, convergence_curves(opened))
                case "other":
                    line.say(why_not(opened))
    line.clear()
    require(sections, "runs", [*map(str, files.values())], "of training or of a convergence study")
    write_text(path, page(options.title, overview(trained), sections))
    size = path.stat().st_size
    lines = [f"report    {path}, {size / 2**20:.1f} MiB; open it in a browser"]
    return Report(options.name, folder, [], lines, {"page": str(path), "bytes": size})
