"""How the package computes on CPUs where numpy and torch are too slow: compiled with numba."""

from neurosim.compiled.jit import compiled as compiled
from neurosim.compiled.threads import run_parts as run_parts
