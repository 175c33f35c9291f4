"""Studies of many runs: one table of all, and figures of it."""

from analysis.sweeps.collect import collect as collect
from analysis.sweeps.collect import collect_array as collect_array
