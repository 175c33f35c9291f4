"""What the parts of a benchmark have in common."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Self, TypeVar

from experiments.common.result import as_json, table
from experiments.performance.machine import machine
from neurosim.errors import InvalidArgument, require
from neurosim.files import write_text

T = TypeVar("T")
BATCH = {"cpu": 64, "cuda": 512}


@dataclass(frozen=True)
class OnDevice:
    """What benchmarks of layers and networks are told."""

    device: str = "cpu"
    batch: int = 64
    repeats: int = 5
    out: Path | None = None

    @classmethod
    def given(cls, device: str, batch: int | None, **others: Any) -> Self:
        """From a command line, on which the batch depends on the device."""
        return cls(device, BATCH[device] if batch is None else batch, **others)

    def check(self) -> None:
        """Refuse what cannot be measured."""
        import torch  # the circuit's benchmark runs without it

        require(self.batch >= 1, "--batch", self.batch, ">= 1")
        require(self.repeats >= 1, "--repeats", self.repeats, ">= 1")
        possible = self.device == "cpu" or torch.cuda.is_available()
        require(possible, "--device", self.device, "cpu where no GPU is found")


@dataclass(frozen=True)
class Findings:
    """What a part measured, to print and to keep."""

    lines: list[str]
    values: dict[str, Any]


@dataclass(frozen=True)
class Target:
    """A number that must not pass a bound."""

    name: str
    value: float
    bound: float
    at_least: bool

    def line(self) -> str:
        """One line: value, bound and verdict."""
        met = self.value >= self.bound if self.at_least else self.value <= self.bound
        relation = "at least" if self.at_least else "at most"
        verdict = "met" if met else "NOT MET"
        return f"{self.name}: {self.value:.3g} ({relation} {self.bound:g}: {verdict})"


class Disagreement(Exception):
    """Fast and plain results differ by more than they may."""


def listed(title: str, values: dict[str, float]) -> Findings:
    """One line for every value."""
    rows = [[name, f"{value:.4g}"] for name, value in values.items()]
    return Findings(table([title, ""], rows), values)


def shown(title: str, rows: Sequence[dict[str, Any]], digits: int) -> list[str]:
    """A table under a title."""
    cells = [
        [f"{v:.{digits}f}" if isinstance(v, float) else str(v) for v in r.values()] for r in rows
    ]
    return ["", title, *table([*rows[0]], cells)]


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """How long a call takes, and what it returns."""
    start = time.perf_counter()
    value = work()
    return time.perf_counter() - start, value


def own_peak() -> float:
    """MiB that this process has held at most; NaN where there is no /proc (Linux has it).

    getrusage would do everywhere, but remembers what the parent held before the fork.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024


def command_line(doc: str | None) -> argparse.ArgumentParser:
    """A parser that explains itself by the docstring of its script; all of them have --out."""
    summary, _, details = (doc or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="folder for the numbers, as text and JSON")
    return parser


def device_command_line(doc: str | None, repeats: int) -> argparse.ArgumentParser:
    """A parser for `OnDevice`."""
    parser = command_line(doc)
    parser.add_argument("--device", choices=tuple(BATCH), default="cpu")
    parser.add_argument("--batch", type=int, help="images per batch (64 on a CPU, 512 on a GPU)")
    most = f"of which the fastest counts ({repeats})"
    parser.add_argument("--repeats", type=int, default=repeats, help=most)
    return parser


def execute(
    parser: argparse.ArgumentParser, options: Callable[..., T], main: Callable[[T], int | None]
) -> NoReturn:
    """Run a benchmark with the options given to it; one line says what is wrong with them."""
    try:
        raise SystemExit(main(options(**vars(parser.parse_args()))))
    except InvalidArgument as error:
        parser.error(str(error))


def keep(out: Path | None, stem: str, lines: Sequence[str], results: dict[str, Any]) -> None:
    """Write STEM.txt and STEM.json, with what they were measured on, if there is a folder."""
    if out is None:
        return
    about = machine()
    if (torch := sys.modules.get("torch")) is not None:
        about |= {"torch": torch.__version__, "threads": torch.get_num_threads()}
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / f"{stem}.txt", "\n".join(lines) + "\n")
    write_text(out / f"{stem}.json", as_json({"machine": about} | results) + "\n")
