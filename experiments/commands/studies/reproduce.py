"""Published experiments: a point is one run of the experiment, in a folder of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from experiments.common.registry import EXPERIMENTS, load, variants_of
from experiments.common.variants import chosen
from neurosim.sweeps.options import Config, arguments


@dataclass(frozen=True)
class Reproduce:
    """One run of a published experiment, in a folder of its own."""

    name: str

    @property
    def function(self) -> Callable[..., Any]:
        """The experiment."""
        return load(EXPERIMENTS[self.name])

    def check(self, config: Config, thorough: bool) -> None:
        """Refuse what the experiment's own settings refuse, and networks that cannot be."""
        given = arguments(self.function, config)
        for group in given.values():
            if callable(check := getattr(group, "check", None)):
                check()
        variants = variants_of(EXPERIMENTS[self.name])
        if thorough and variants is not None:
            for variant in chosen(variants(*given.values()), given["options"].variants):
                variant.settings.check()

    def __call__(self, config: Config, place: Path) -> dict[str, Any]:
        """What the experiment reports, by name."""
        begun = place.exists()
        place.mkdir(exist_ok=True)
        given = {
            name: _placed(group, place, begun)
            for name, group in arguments(self.function, config).items()
        }
        return named(self.function(**given).values)


def _placed(group: Any, place: Path, begun: bool) -> Any:
    """Options of an experiment: its folder, silence, and what to do with what is there."""
    if not is_dataclass(group) or isinstance(group, type):
        return group
    known = {field.name for field in fields(group)}
    if "out" not in known:
        return group
    changes: dict[str, Any] = {"out": place, "quiet": True}
    if "threads" in known:
        changes["threads"] = int(os.environ.get("OMP_NUM_THREADS", 1))
    if begun and "resume" in known:
        changes["resume"] = True
    elif begun and "overwrite" in known:
        changes["overwrite"] = True
    return replace(group, **changes)


def named(values: Any) -> dict[str, Any]:
    """A report's values with a name for each: rows of a table by their first text, or number."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found[str(name)] = named(value)
        elif isinstance(value, list) and value and all(isinstance(row, Mapping) for row in value):
            rows = {_title(row, number): named(row) for number, row in enumerate(value)}
            found[str(name)] = rows if len(value) > 1 else next(iter(rows.values()))
        elif isinstance(value, list | tuple) and any(isinstance(item, str) for item in value):
            found[str(name)] = "; ".join(map(str, value))
        else:
            found[str(name)] = value
    return found


def _title(row: Mapping[str, Any], number: int) -> str:
    return next((value for value in row.values() if isinstance(value, str)), str(number))
