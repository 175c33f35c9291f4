"""What is left of a layer whose weights are mostly zero: memory and work for the others only.

"The current implementation does not benefit from sparsity in terms of memory or computation"
(Neyshabur 2020, Sec. 5). A sparse layer keeps of a linear one the non-zero weights, row by row
(CSR), with 8 bytes each: the value and the number of its input. For inference; gradients reach the
input, not the weights.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from neurosim.errors import require
from neurosim.nn.masked import present_weight


class SparseLinear(nn.Module):
    """The non-zero weights of a linear or `Dense` layer; the same inputs and outputs.

    `values`, `columns` and `starts` are the compressed rows: those of unit i are the elements
    from starts[i] to starts[i + 1], and `columns` the inputs that they are for. A state dict of
    another number of non-zero weights can be loaded.
    """

    values: Tensor
    columns: Tensor
    starts: Tensor
    bias: Tensor | None

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        shapes = (getattr(layer, "input_shape", None), getattr(layer, "output_shape", None))
        self.input_shape, self.output_shape = shapes
        weight = present_weight(layer).detach()  # patterns need no memory of their own from here
        counts = weight.count_nonzero(1)
        total = int(counts.sum())
        require(total < 2**31, "number of non-zero weights", total, "below 2^31")
        starts = torch.zeros(len(counts) + 1, dtype=torch.int32, device=weight.device)
        starts[1:] = counts.cumsum(0)
        rows, columns = weight.nonzero(as_tuple=True)
        self.register_buffer("values", weight[rows, columns])
        self.register_buffer("columns", columns.to(torch.int32))
        self.register_buffer("starts", starts)
        bias = None if layer.bias is None else layer.bias.detach().clone()
        self.register_buffer("bias", bias)

    @property
    def weight(self) -> Tensor:
        """The matrix in torch's own sparse form, over the same memory."""
        return self._matrix(self.values)

    def _matrix(self, values: Tensor) -> Tensor:
        size = (self.out_features, self.in_features)
        with warnings.catch_warnings():  # torch calls its sparse forms a prototype, once
            warnings.simplefilter("ignore", UserWarning)
            return torch.sparse_csr_tensor(
                self.starts, self.columns, values, size, check_invariants=False
            )

    @property
    def nbytes(self) -> int:
        """Memory that the layer takes."""
        return sum(buffer.nbytes for buffer in self.buffers())

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002, torch's name
        """(N, inputs) -> (N, outputs), with `Dense`'s shapes if it was one.

        In half precision, too, sums are in single: torch has no other sparse products there.
        """
        x = input if self.input_shape is None else input.flatten(1)
        flat = x.reshape(-1, self.in_features)
        kind = torch.promote_types(self.values.dtype, x.dtype)
        kind = torch.promote_types(kind, torch.float32)
        with torch.autocast(x.device.type, enabled=False):
            y = (self._matrix(self.values.to(kind)) @ flat.to(kind).T.contiguous()).T
            y = y if self.bias is None else y + self.bias
        y = y.to(x.dtype) if x.is_floating_point() else y
        y = y.reshape(*x.shape[:-1], self.out_features)
        return y if self.output_shape is None else y.unflatten(1, self.output_shape)

    def extra_repr(self) -> str:
        """Sizes and density."""
        density = len(self.values) / (self.in_features * self.out_features)
        return f"{self.in_features}, {self.out_features}, density={density:.3g}"

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        for name in ("values", "columns"):
            if (given := state_dict.get(prefix + name)) is not None:
                setattr(self, name, getattr(self, name).new_empty(given.shape))
        super()._load_from_state_dict(state_dict, prefix, *rest)
