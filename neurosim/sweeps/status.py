"""How far a sweep is: one live line, and a file that another terminal reads."""

from __future__ import annotations

import time
from dataclasses import dataclass

from neurosim.files import write_json
from neurosim.progress import StatusLine, duration
from neurosim.sweeps.folder import StudyFolder, age
from neurosim.sweeps.index import COMPLETE, FAILED, states

WRITE_SECONDS = 2.0


@dataclass
class Counts:
    """Points of a sweep by how they stand."""

    total: int | None
    kept: int = 0
    """Finished before this sweep."""
    done: int = 0
    """Finished, those included."""
    failed: int = 0
    running: int = 0
    workers: int = 0


class Monitor:
    """Shows and writes how far a sweep is."""

    def __init__(self, folder: StudyFolder, counts: Counts, dashboard: str, *, quiet: bool = False):
        self.folder, self.counts, self.dashboard = folder, counts, dashboard
        self.line = StatusLine(quiet=quiet)
        self._start = time.monotonic()
        self._written = float("-inf")

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self.line.say(text)

    def tick(self, *, last: bool = False) -> None:
        """Show the state, and write it if the last one is old."""
        now = time.monotonic()
        self.line.update(lambda: describe(self.counts, now - self._start))
        if last or now - self._written >= WRITE_SECONDS:
            self._written = now
            state = vars(self.counts) | {
                "seconds": now - self._start, "dashboard": self.dashboard, "ended": last
            }  # fmt: skip
            write_json(self.folder.path / "status.json", state)

    def end(self) -> float:
        """Close the line; how many seconds it took."""
        self.tick(last=True)
        self.line.clear()
        return time.monotonic() - self._start


def describe(counts: Counts, seconds: float) -> str:
    """'120/400 done, 2 failed, 8 running on 2 workers, 12.5 points/s, 22 s left'."""
    of = "" if counts.total is None else f"/{counts.total}"
    parts = [f"{counts.done}{of} done", f"{counts.failed} failed"]
    parts.append(f"{counts.running} running on {counts.workers} workers")
    ended = counts.done - counts.kept + counts.failed
    rate = ended / seconds if seconds > 0 else 0.0
    parts.append(f"{rate:.3g} points/s")
    if counts.total is not None and rate > 0:
        parts.append(f"{duration((counts.total - counts.done - counts.failed) / rate)} left")
    return ", ".join(parts) if counts.workers else f"{parts[0]}, waiting for workers"


def status_lines(folder: StudyFolder) -> list[str]:
    """What `neurosim sweep --status` prints: read from files, whoever writes them."""
    import json

    about, swept = folder.about(), folder.swept()
    found = list(states(folder.index).values())
    counts = {name: found.count(name) for name in (COMPLETE, FAILED)}
    head = f"{folder.path}: a study of {about['study']}, {'being swept' if swept else 'at rest'}"
    lines = [head, f"in the index: {counts[COMPLETE]} complete, {counts[FAILED]} failed"]
    path = folder.path / "status.json"
    if path.exists():
        state = json.loads(path.read_text())
        counted = Counts(**{name: state[name] for name in Counts.__dataclass_fields__})
        when = "last sweep" if state["ended"] or not swept else f"{age(path):.0f} s ago"
        cut = " (cut short)" if not swept and not state["ended"] else ""
        lines.append(f"{when}{cut}: {describe(counted, state['seconds'])}")
        if swept:
            lines.append(f"dashboard: {state['dashboard']}")
    return lines
