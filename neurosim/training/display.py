"""What a run shows while it goes: how far, how good, how fast, how long."""

from __future__ import annotations

import math

from neurosim.progress import StatusLine, duration
from neurosim.training.meters import Clock

FORMATS = {"loss": ".3f", "SNR": ".3g", "images/s": ",.0f", "top-1": ".3f"}


class Display:
    """One live line, and a line that stays after the first and every tenth epoch."""

    def __init__(
        self, name: str, epochs: int, batches: int, clock: Clock, *, quiet: bool, live: bool
    ) -> None:
        self.name, self.epochs, self.batches, self.clock = name, epochs, batches, clock
        self.shown = dict.fromkeys(FORMATS, math.nan)
        self._first: tuple[int, float] | None = None  # step: what compiles has compiled after it
        self._line = StatusLine(quiet=quiet, live=live, every=10 if live else 30)

    def resume(self, step: int) -> None:
        """Say where a resumed run goes on."""
        self._line.say(f"{self.name}: going on after step {step}")

    def update(self, step: int) -> None:
        """Show a step and the numbers in `shown`."""
        self._first = self._first or (step, self.clock.seconds)
        self._line.update(lambda: self._text(step))

    def keep(self, epoch: int, step: int) -> None:
        """Let some epochs have a line that stays."""
        if epoch == 1 or epoch % 10 == 0:
            self._line.say(f"{self._text(step)}, {duration(self.clock.seconds)} so far")

    def say(self, what: str) -> None:
        """A line of its own."""
        self._line.say(f"{self.name}: {what}")

    def clear(self) -> None:
        """Make room for what is printed next."""
        self._line.clear()

    def _text(self, step: int) -> str:
        parts = [f"{self.name}: epoch {step / self.batches:.1f}/{self.epochs}"]
        parts += [f"{k} {v:{FORMATS[k]}}" for k, v in self.shown.items() if not math.isnan(v)]
        if self._first is not None and step > self._first[0]:
            first, then = self._first
            each = (self.clock.seconds - then) / (step - first)
            parts.append(f"{duration(each * (self.epochs * self.batches - step))} left")
        return ", ".join(parts)
