"""A GPU for machines that have none: `pytest --pretend-gpu -m gpu`.

Tensors of the pretended device hold one in the CPU's memory, where all is computed. What CUDA
would refuse is refused: operands on two devices, another device's generator, numpy on its memory.
So tests marked `gpu` find here what forgets to move its tensors. They say nothing of kernels
(Triton's are replaced by the products of `matmul`), compilers, speed or memory.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch._inductor.decomposition  # which takes `torch.Generator` for a type while it loads
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
GIB = 2**30

# What may have operands on both devices: copies, and elements chosen by numbers on the CPU.
COPIES = {"copy_", "_to_copy", "_copy_from", "set_"}
CHOICES = {"index", "_unsafe_index", "index_put", "index_put_", "_index_put_impl_"}


class GpuTensor(Tensor):
    """A tensor of the pretended device; to torch's own C++ it is one on the CPU."""

    held: Tensor
    device = property(lambda self: GPU)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_cpu = property(lambda self: False)  # type: ignore[assignment]
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, held: Tensor) -> GpuTensor:
        made = Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(),
            dtype=held.dtype, device=CPU,
        )  # fmt: skip
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})

    def cpu(self, *_: Any) -> Tensor:  # type: ignore[override]
        """Also in threads, which know nothing of `_Functions`."""
        return _to(self, "cpu")

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if id(self) not in memo:
            new = self.detach().clone()
            parameter = isinstance(self, torch.nn.Parameter)
            memo[id(self)] = torch.nn.Parameter(new) if parameter else new
            memo[id(self)].requires_grad_(self.requires_grad)
        return memo[id(self)]

    def __reduce_ex__(self, protocol: Any) -> Any:  # saved like any tensor; `_load` puts it back
        return self.held.detach().clone().__reduce_ex__(protocol)

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"GpuTensor({self.held})"


def held(value: Any) -> Any:
    return value.held if isinstance(value, GpuTensor) else value


def is_gpu(device: Any) -> bool:
    return device is not None and (isinstance(device, int) or torch.device(device).type == "cuda")


class GpuGenerator(torch.Generator):
    """A generator of the pretended device; torch hands it on as a plain one."""

    device = property(lambda self: GPU)  # type: ignore[assignment]
    known: dict[int, torch.Generator] = {}  # noqa: RUF012 (kept, so that addresses stay theirs)

    @classmethod
    def make(cls, device: Any = "cpu") -> torch.Generator:
        """What `torch.Generator` is replaced by."""
        if not is_gpu(device):
            return _Generator()
        made = cls()
        cls.known[made._cdata] = made  # type: ignore[attr-defined]
        return made


_Generator = torch.Generator
default = GpuGenerator.make("cuda")


def compute(func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """An operation of torch on whatever device its operands are, which must be one."""
    _, _, name = func._schema.name.partition("::")
    tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
    there = [tensor for tensor in tensors if isinstance(tensor, GpuTensor)]
    here = [t for t in tensors if not isinstance(t, GpuTensor) and t.dim()]
    chosen = name in CHOICES and isinstance(args[0], GpuTensor)
    if there and here and name not in COPIES and not chosen:
        shapes = ", ".join(f"{tuple(t.shape)} on {t.device}" for t in tensors)
        raise RuntimeError(f"tensors of {func} must be on one device, got {shapes}")

    device = kwargs.get("device")
    on_gpu = bool(there) if device is None else is_gpu(device)
    if name == "copy_":
        on_gpu = isinstance(args[0], GpuTensor)
    if there and (name.startswith("new_") or (name == "_to_copy" and not moving.now)):
        on_gpu = True  # torch's C++ asks for the device that it takes a tensor to be on
    kwargs = kwargs | ({} if device is None or not on_gpu else {"device": CPU})
    if "generator" in {argument.name for argument in func._schema.arguments}:
        given = kwargs.get("generator")
        if given is not None and (given._cdata in GpuGenerator.known) != on_gpu:
            raise RuntimeError(f"generator of {func} must be on the device of its result")
        if given is None and on_gpu:
            kwargs["generator"] = default
    if name.startswith("local_triton"):
        func = getattr(torch.ops.neurosim, name.replace("triton", "matmul"))
    kwargs.pop("pin_memory", None)

    found = func(*tree_map(held, args), **tree_map(held, kwargs))
    known = {id(tensor.held): tensor for tensor in there}  # what was changed in place stays itself

    def put(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return known[id(value)] if id(value) in known else GpuTensor(value)

    return tree_map(put, found) if on_gpu else found


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


class _Functions(TorchFunctionMode):
    """What torch decides before an operation is chosen: from which device to which."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        special = SPECIAL.get(func)
        return func(*args, **kwargs) if special is None else special(*args, **kwargs)


class _Moving(threading.local):
    """Whether a tensor is about to leave the device, or to come to it: in this thread, since the
    recorder's takes tensors away while another one trains."""

    now = False


moving = _Moving()


def _to(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    given = [*args, *kwargs.values()]
    like = [value for value in given if isinstance(value, Tensor)]
    dtypes = [value for value in given if isinstance(value, torch.dtype)] + [t.dtype for t in like]
    devices = [value for value in given if isinstance(value, str | torch.device)]
    devices += [GPU if isinstance(value, GpuTensor) else CPU for value in like]
    dtype = dtypes[0] if dtypes else self.dtype
    away = bool(devices) and is_gpu(devices[0]) != isinstance(self, GpuTensor)
    if not away:
        kept = {name: kwargs[name] for name in ("copy", "memory_format") if name in kwargs}
        return Tensor.to(self, dtype, **kept)
    moving.now = True
    try:
        target = GPU if is_gpu(devices[0]) else CPU
        layout = kwargs.get("memory_format") or torch.preserve_format
        return torch.ops.aten._to_copy(self, dtype=dtype, device=target, memory_format=layout)
    finally:
        moving.now = False


def _refuse(self: Tensor, *args: Any, **kwargs: Any) -> Any:
    if isinstance(self, GpuTensor):
        raise TypeError("cannot convert a tensor on cuda:0 to numpy: use Tensor.cpu() first")
    return Tensor.numpy(self, *args, **kwargs)


def _made(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def from_data(data: Any, *, device: Any = None, **options: Any) -> Tensor:
        if isinstance(data, GpuTensor):
            device = GPU if device is None else device
            data = data if make is torch.as_tensor else data.detach().clone()
            return _to(data, *options.values(), device)
        numbers = tree_map(lambda x: x.item() if isinstance(x, GpuTensor) else x, data)
        made = make(numbers, **options)
        return made if device is None else _to(made, device)

    return from_data


def _new_tensor(self: Tensor, data: Any, **options: Any) -> Tensor:
    options = {"dtype": self.dtype, "device": self.device} | options
    return _made(torch.tensor)(data, **options)


SPECIAL: dict[Any, Callable[..., Any]] = {
    Tensor.to: _to,
    Tensor.cpu: lambda self: _to(self, CPU),
    Tensor.cuda: lambda self: _to(self, GPU),
    Tensor.numpy: _refuse,
    Tensor.__array__: _refuse,
    Tensor.tolist: lambda self: Tensor.tolist(_to(self, CPU)),
    Tensor.data_ptr: lambda self: Tensor.data_ptr(held(self)),
    Tensor.new_tensor: _new_tensor,
    Tensor.pin_memory: lambda self, *_: self,
    Tensor.is_pinned: lambda self, *_: False,
    torch.tensor: _made(torch.tensor),
    torch.as_tensor: _made(torch.as_tensor),
}


def _load(load: Callable[..., Any]) -> Callable[..., Any]:
    def put_back(*args: Any, map_location: Any = None, **kwargs: Any) -> Any:
        found = load(*args, map_location=CPU, **kwargs)
        if not is_gpu(map_location):
            return found
        return tree_map(
            lambda value: _to(value, GPU) if isinstance(value, Tensor) else value, found
        )

    return put_back


def _on_cpu(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of autocast, which asks what kind of device a tensor is on."""
    return lambda kind="cpu", *rest: function("cpu" if kind == "cuda" else kind, *rest)


def install() -> None:
    """From here on torch has a GPU, for good."""
    patch, device = pytest.MonkeyPatch(), torch.cuda
    patch.setattr(torch, "Generator", GpuGenerator.make)
    patch.setattr(torch, "load", _load(torch.load))
    torch.__future__.set_swap_module_params_on_conversion(True)
    for name in ("is_autocast_enabled", "get_autocast_dtype"):
        patch.setattr(torch, name, _on_cpu(getattr(torch, name)))
    begin = torch.autocast.__init__
    patch.setattr(
        torch.autocast, "__init__",
        lambda self, kind, *a, **k: begin(self, "cpu" if kind == "cuda" else kind, *a, **k),
    )  # fmt: skip
    for name, value in {
        "_lazy_init": None, "is_available": True, "device_count": 1, "current_device": 0,
        "set_device": None, "synchronize": None, "mem_get_info": (100 * GIB, 140 * GIB),
        "is_bf16_supported": True, "get_device_name": "a pretended GPU",
        "get_device_capability": (9, 0), "is_current_stream_capturing": False,
    }.items():  # fmt: skip
        patch.setattr(device, name, lambda *_, value=value, **__: value)
    for name in ("device", "device_of"):
        patch.setattr(device, name, lambda *_: nullcontext())
    patch.setattr(device, "manual_seed", default.manual_seed)
    patch.setattr(device, "get_rng_state", lambda *_: default.get_state())
    patch.setattr(device, "set_rng_state", lambda state, *_: default.set_state(state))
    seed = torch.manual_seed
    patch.setattr(torch, "manual_seed", lambda n: [default.manual_seed(n), seed(n)][1])
    patch.setitem(sys.modules, "neurosim.sleep.presentation_triton", None)  # no operator of torch
    _Operations().__enter__()
    _Functions().__enter__()
