"""Compact forms: equal outputs, memory in proportion to what is not zero."""

# Layers are reached by name, of which torch does not know the types.
# pyright: reportAttributeAccessIssue=false, reportIndexIssue=false, reportCallIssue=false
# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportReturnType=false

from __future__ import annotations

import pytest
import torch
from torch import nn

from neurosim.errors import InvalidArgument
from neurosim.models import shallow
from neurosim.nn import SparseLinear, to_sparse
from neurosim.nn.masked import sever_weights


def thinned(model: nn.Module, density: float) -> nn.Module:
    torch.manual_seed(0)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Linear):
                module.weight.mul_(torch.rand(module.weight.shape) < density)
    return model.eval()


@pytest.mark.parametrize("shape", [(7,), (3, 7), (2, 5, 7)])
@pytest.mark.parametrize("bias", [True, False])
def test_equal_outputs_whatever_stands_before_the_inputs(
    shape: tuple[int, ...], bias: bool
) -> None:
    layer = thinned(nn.Linear(7, 9, bias=bias), 0.4)
    layer.weight.data[3] = 0  # a unit without any weight
    x = torch.randn(shape)
    torch.testing.assert_close(to_sparse(layer)(x), layer(x))


@pytest.mark.parametrize("density", [0.3, 0.05, 0.0])
def test_a_network_takes_memory_for_what_is_not_zero(density: float) -> None:
    model = thinned(shallow(10, "dense", 16, 1, alpha=4), density)
    sparse, x = to_sparse(model), torch.randn(6, 1, 16, 16)
    torch.testing.assert_close(sparse(x), model(x))
    for name in ("conv1", "linear2"):
        layer, compact = model.get_submodule(name), sparse.get_submodule(name)
        assert isinstance(compact, SparseLinear)
        count = int(layer.weight.count_nonzero())
        assert compact.nbytes == 8 * count + 4 * (layer.out_features + 1)
        assert compact.nbytes <= (2 * density + 0.05) * layer.weight.nbytes
    assert isinstance(model.conv1, nn.Linear)  # a copy was made


def test_dense_layers_stay_as_they_are() -> None:
    model = nn.Sequential(nn.Linear(8, 8), thinned(nn.Linear(8, 8), 0.2))
    sparse = to_sparse(model)
    assert [type(m) for m in sparse] == [nn.Linear, SparseLinear]
    assert isinstance(to_sparse(model, 1.0)[0], SparseLinear)


def test_a_network_of_another_density_can_be_loaded(tmp_path) -> None:
    one, other = (to_sparse(thinned(nn.Linear(20, 10), d)) for d in (0.4, 0.1))
    torch.save(one.state_dict(), tmp_path / "compact.pt")
    other.load_state_dict(torch.load(tmp_path / "compact.pt", weights_only=True))
    x = torch.randn(4, 20)
    torch.testing.assert_close(other(x), one(x))


def test_gradients_reach_the_input() -> None:
    layer = thinned(nn.Linear(6, 5), 0.5)
    x, y = (torch.ones(2, 6, requires_grad=True) for _ in range(2))
    to_sparse(layer)(x).sum().backward()
    layer(y).sum().backward()
    torch.testing.assert_close(x.grad, y.grad)


def test_severed_connections_are_left_out() -> None:
    layer = sever_weights(nn.Linear(30, 20), 0.8)
    layer.weight.data.fill_(1.0)  # whatever somebody wrote there
    x = torch.randn(3, 30)
    sparse = SparseLinear(layer)  # type: ignore[arg-type]
    torch.testing.assert_close(sparse(x), layer(x))
    assert len(sparse.values) == int(layer.present.sum())  # type: ignore[union-attr]


def test_bad_input() -> None:
    with pytest.raises(InvalidArgument, match="model must have a linear layer, got ReLU"):
        to_sparse(nn.ReLU())
    with pytest.raises(InvalidArgument, match="max_density must be above 0 and at most 1, got 2"):
        to_sparse(nn.Linear(2, 2), 2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype) -> None:
    layer = nn.Linear(20, 5)
    nn.init.sparse_(layer.weight, 0.9)
    sparse, x = to_sparse(nn.Sequential(layer)), torch.randn(3, 20)
    with torch.autocast("cpu", dtype):
        found = sparse(x)
    torch.testing.assert_close(found.float(), layer(x), atol=0.05, rtol=0.05)
    whole = torch.arange(20)[None]
    torch.testing.assert_close(sparse(whole), layer(whole.float()))
    assert sparse(x.double()).dtype is torch.float64
    low = sparse.to(dtype)(x.to(dtype))
    assert low.dtype is dtype
    torch.testing.assert_close(low.float(), layer(x), atol=0.05, rtol=0.05)
