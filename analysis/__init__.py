"""Analysis: reads run files and activations, returns numbers first, figures second."""

from analysis.sweeps import collect as collect
from analysis.sweeps import collect_array as collect_array
