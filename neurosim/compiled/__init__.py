"""How the package computes on CPUs where numpy and torch are too slow: compiled with numba.

`tiles` has products in registers, `threads` what runs parts side by side; that one needs torch,
which the circuit level does without.
"""

from neurosim.compiled.jit import INTERPRETED as INTERPRETED
from neurosim.compiled.jit import compiled as compiled
