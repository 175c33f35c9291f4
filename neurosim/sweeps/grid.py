"""A grid of configurations: read, checked as far as that is cheap, and spread out into points."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from neurosim.errors import InvalidArgument, require
from neurosim.sweeps.options import REQUIRED, Config, Option, defaults, find_option


class Point(NamedTuple):
    """One configuration, and the name that follows from it."""

    key: str
    config: Config


@dataclass(frozen=True)
class Grid:
    """Every combination of the values of every option, the last option varying fastest."""

    study: str
    values: Mapping[str, tuple[Any, ...]]
    defaults: Config

    def __len__(self) -> int:
        count = 1
        for values in self.values.values():
            count *= len(values)
        return count

    def __iter__(self) -> Iterator[Point]:
        for combination in itertools.product(*self.values.values()):
            yield self.point(dict(zip(self.values, combination, strict=True)))

    def point(self, config: Config) -> Point:
        """A configuration with its name."""
        return Point(config_hash(self.study, config, self.defaults), config)

    def at(self, number: int) -> Config:
        """The configuration with this number, counted from 0."""
        config: Config = {}
        for name in reversed(list(self.values)):
            number, index = divmod(number, len(self.values[name]))
            config[name] = self.values[name][index]
        return config

    def corners(self, most: int = 64) -> Iterator[tuple[Config, bool]]:
        """Configurations to check before anything starts, and whether to check them thoroughly.

        Every value once, beside the first of the others; thoroughly, a few spread over the grid.
        """
        for name, values in self.values.items():
            for value in values:
                yield self.at(0) | {name: value}, False
        for number in sorted({n * (len(self) - 1) // (most - 1) for n in range(most)}):
            yield self.at(number), True


def config_hash(study: str, config: Mapping[str, Any], usual: Mapping[str, Any]) -> str:
    """The name of a configuration; what is left at its default does not change it."""
    said = {k: v for k, v in config.items() if k not in usual or usual[k] != v}
    text = json.dumps([study, said], sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()


def read_words(words: Sequence[str]) -> dict[str, list[str]]:
    """The grid of a command line: `key=v1,v2 other=v3`."""
    found: dict[str, list[str]] = {}
    for word in words:
        name, equals, values = word.partition("=")
        require(name and equals and values, "--grid", word, "pairs such as alpha=1,3,10")
        require(name not in found, "--grid", word, "without repeated keys")
        found[name] = values.split(",")
    return found


def _plain(value: Any) -> Any:
    """A number of numpy's as Python's own, which JSON has."""
    return value.item() if isinstance(value, np.generic) else value


def build_grid(
    study: str,
    options: Mapping[str, Option],
    given: Mapping[str, Any],
    seeds: int | None = None,
) -> Grid:
    """The grid of what was given: a list or a 1-d array of values for a key, or one value."""
    values: dict[str, tuple[Any, ...]] = {}
    for name, column in given.items():
        option = find_option(name, options)
        require(option.name not in values, "--grid key", name, "given once")
        column = column.tolist() if isinstance(column, np.ndarray | np.generic) else column
        several = column if isinstance(column, list | tuple | range) else [column]
        read = tuple(option.read(_plain(value)) for value in several)
        require(len(read) > 0, f"--grid {name}", column, "at least one value")
        once = len({json.dumps(value) for value in read}) == len(read)
        require(once, f"--grid {name}", column, "without repetitions")
        values[option.name] = read
    if seeds is not None:
        whole = isinstance(seeds, int | np.integer)
        require(whole and seeds >= 1, "--seeds", seeds, "a number of seeds, >= 1")
        seed = next((name for name in ("seed", "seeds") if name in options), None)
        if seed is None:
            raise InvalidArgument(f"--seeds must be left out: {study} has no seed")
        if seed in values:
            raise InvalidArgument(f"--seeds and the key {seed} exclude each other: give one")
        values[seed] = tuple(range(int(seeds)))
    missing = [o.name for o in options.values() if o.default is REQUIRED and o.name not in values]
    if missing:
        raise InvalidArgument(f"--grid must have the key {missing[0]}, which has no default")
    return Grid(study, values, defaults(options))
