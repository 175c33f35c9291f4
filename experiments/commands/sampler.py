"""Points that optuna chooses while others are being trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from neurosim.errors import InvalidArgument
from neurosim.sweeps import Asked, Point, Record, read_records

FILE = "optuna.jsonl"  # in the study's folder: appended, as its index is


class Range(NamedTuple):
    """Values of which the smallest and largest bound what may be chosen."""

    lrs: tuple[float, ...]
    decays: tuple[float, ...]


@dataclass
class _Pair:
    """A pair that was chosen, and what it has reached with the seeds that are done."""

    study: Any
    number: int  # of optuna's trial
    left: int
    scores: list[float] = field(default_factory=list)


class Sampled(Asked):
    """So many pairs of rate and decay for every network, each run with every seed.

    A search that is continued forgets nothing: pairs that were being trained when it was cut
    short are the first ones again, and their runs go on from their checkpoints.
    """

    def __init__(
        self,
        folder: Path,
        point: Callable[[str, float, float, int], Point],
        ranges: Mapping[str, Range],
        seeds: Sequence[int],
        samples: int,
        sampler: str,
    ):
        self._point, self._ranges, self._seeds, self._samples = point, ranges, tuple(seeds), samples
        self._studies = {name: _study(folder / FILE, name, sampler) for name in ranges}
        self._begun = {  # but for what a kill left half chosen
            name: [trial for trial in study.trials if len(trial.params) == len(Range._fields)]
            for name, study in self._studies.items()
        }
        records = [r for r in read_records(folder / "index") if "top1" in r.metrics]
        self._known = {
            key: score
            for r in records
            for key, score in zip(r.points, r.metrics["top1"], strict=True)
        }
        self._waiting: dict[str, _Pair] = {}
        self.asked: list[Point] = []

    def __len__(self) -> int:
        """Points that are still to be run."""
        ended = (t.state.is_finished() for b in self._begun.values() for t in b[: self._samples])
        return (self._samples * len(self._ranges) - sum(ended)) * len(self._seeds)

    def __iter__(self) -> Iterator[Point]:
        for number in range(self._samples):
            for network in self._ranges:
                yield from self._ask(network, number)

    def hear(self, record: Record) -> None:
        """What became of points: optuna is told once all seeds of a pair are there."""
        scores = record.metrics.get("top1") or [None] * len(record.points)
        for key, score in zip(record.points, scores, strict=True):
            if (pair := self._waiting.pop(key, None)) is not None:
                self._hear_seed(pair, score)

    def _ask(self, network: str, number: int) -> Iterator[Point]:
        """The points of a pair that are not finished yet."""
        study, begun, values = self._studies[network], self._begun[network], self._ranges[network]
        if number < len(begun):
            trial, ended = begun[number], begun[number].state.is_finished()
            lr, decay = trial.params["lr"], trial.params["weight_decay"]
        else:
            trial, ended = study.ask(), False
            lr = trial.suggest_float("lr", min(values.lrs), max(values.lrs), log=True)
            decay = trial.suggest_float(
                "weight_decay", min(values.decays), max(values.decays), log=True
            )
        points = [self._point(network, lr, decay, seed) for seed in self._seeds]
        self.asked += points
        if ended:
            return
        pair = _Pair(study, trial.number, len(points))
        for point in points:
            if point.key in self._known:  # finished, and the end came before optuna heard of it
                self._hear_seed(pair, self._known[point.key])
            else:
                self._waiting[point.key] = pair
                yield point

    @staticmethod
    def _hear_seed(pair: _Pair, score: float | None) -> None:
        pair.left -= 1
        if score is not None:
            pair.scores.append(score)
        if pair.left == 0:
            pair.study.tell(pair.number, float(np.mean(pair.scores)) if pair.scores else None,
                            state=None if pair.scores else _failed())  # fmt: skip


def _study(file: Path, network: str, sampler: str) -> Any:
    """Optuna's memory of a network's search, new or begun."""
    try:
        import optuna
        from optuna.storages.journal import JournalFileBackend
    except ImportError as error:
        raise InvalidArgument(
            f"--samples needs optuna: pip install 'neurosim[cluster]' ({error})"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(file)))
    study = optuna.create_study(
        study_name=network, storage=storage, direction="maximize", load_if_exists=True
    )
    seed = len(study.trials)  # a search that goes on must not draw the same pairs again
    if sampler == "random":
        study.sampler = optuna.samplers.RandomSampler(seed=seed)
    else:
        study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
    return study


def _failed() -> Any:
    from optuna.trial import TrialState

    return TrialState.FAIL
