"""The locally connected product in any number of dimensions, by several backends."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor

from neurosim.errors import InvalidArgument, require_choice
from neurosim.nn.ops.local import cpu as _cpu
from neurosim.nn.ops.local.geometry import Geometry as Geometry
from neurosim.nn.ops.local.layout import from_storage as from_storage
from neurosim.nn.ops.local.layout import to_storage as to_storage
from neurosim.nn.ops.local.matmul import local_matmul
from neurosim.nn.ops.local.naive import local_naive
from neurosim.nn.ops.transforms import looked_into

BACKENDS: dict[str, Callable[[Tensor, Tensor, Geometry], Tensor]] = {
    "naive": local_naive,
    "matmul": local_matmul,
    "cpu": _cpu.local_cpu,
}
COMPILED: dict[str, ModuleType] = {"cpu": _cpu}  # these cannot take every input, and say why
try:
    from neurosim.nn.ops.local import triton as _triton
except (ImportError, RuntimeError) as error:  # some versions cannot do without a GPU
    _triton, _NO_TRITON = None, f"Triton cannot be imported ({error})"
else:
    BACKENDS["triton"], COMPILED["triton"] = _triton.local_triton, _triton

# Complex numbers would need conjugates in the gradients, integers have none.
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def check_dtype(dtype: torch.dtype) -> None:
    """Activations and weights are floating-point numbers of 16 bits or more."""
    if dtype not in DTYPES:
        known = ", ".join(str(allowed).removeprefix("torch.") for allowed in DTYPES)
        raise InvalidArgument(f"dtype must be one of {known}, got {dtype}")


def check_backend(backend: str) -> None:
    """A backend is "auto" or one of `BACKENDS`; "triton" only where it is installed."""
    if backend == "triton" and _triton is None:
        raise InvalidArgument(f'backend "triton" cannot run: {_NO_TRITON}; use backend="matmul"')
    require_choice("backend", backend, ("auto", *BACKENDS))


def _check_operands(x: Tensor, weight: Tensor, geometry: Geometry) -> None:
    """What kernels rely on, who know addresses only."""
    g, outputs = geometry, weight.shape[len(geometry.output_size)]
    channels = weight.shape[len(g.output_size) + 1] * g.groups
    filters = (*g.output_size, outputs, channels // g.groups, *g.kernel_size)
    if tuple(weight.shape) != filters or outputs % g.groups:
        raise InvalidArgument(
            f"weight must be (*output, O, C / groups, *kernel) with output {g.output_size}, kernel "
            f"{g.kernel_size} and groups {g.groups}, got {tuple(weight.shape)}"
        )
    if tuple(x.shape[1:]) != (channels, *g.input_size):
        raise InvalidArgument(
            f"x must be (N, {channels}, *{g.input_size}) for these filters, got {tuple(x.shape)}"
        )
    if x.dtype != weight.dtype or x.device != weight.device:
        raise InvalidArgument(
            f"x and weight must have one dtype and device, got {x.dtype} on {x.device} and "
            f"{weight.dtype} on {weight.device}"
        )


def local_product(x: Tensor, weight: Tensor, geometry: Geometry, backend: str = "auto") -> Tensor:
    """y[n, o, p]: input (N, C, *input) seen through filters (*output, O, C / groups, *kernel).

    "auto" is "triton" on a GPU and "cpu" on a CPU where these can run, and "matmul" else; "naive"
    for what torch does not let them be asked: derivatives in forward mode and those of torch.func.
    """
    check_backend(backend)
    check_dtype(x.dtype)
    _check_operands(x, weight, geometry)
    if backend != "naive" and looked_into(x, weight):
        if backend != "auto":
            raise InvalidArgument(
                f'backend "{backend}" cannot run: it is unknown to torch.func and to derivatives '
                'in forward mode; use backend="naive"'
            )
        backend = "naive"
    if backend in COMPILED and (reason := COMPILED[backend].cannot_run(x)):
        raise InvalidArgument(f'backend "{backend}" cannot run: {reason}; use backend="matmul"')
    if backend == "auto":
        backend = {"cpu": "cpu", "cuda": "triton"}.get(x.device.type, "matmul")
        if backend not in COMPILED or COMPILED[backend].cannot_run(x):
            backend = "matmul"
    return BACKENDS[backend](x, weight, geometry)
