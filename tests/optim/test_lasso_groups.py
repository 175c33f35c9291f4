"""Which weights beta-LASSO penalises, and by how much."""

# Layers are reached by name, of which torch does not know the types.
# pyright: reportAttributeAccessIssue=false, reportIndexIssue=false, reportCallIssue=false

from __future__ import annotations

import pytest
import torch
from torch import nn

from neurosim.errors import InvalidArgument
from neurosim.nn import LocallyConnected2d
from neurosim.optim import BetaLasso, lasso_groups


def test_groups_know_layers() -> None:
    model = nn.Sequential(
        LocallyConnected2d(1, 2, 3, 6, bias="position"), nn.Flatten(), nn.Linear(32, 5),
        nn.BatchNorm1d(5), nn.Linear(5, 4),
    )  # fmt: skip
    groups = lasso_groups(model, 0.1, first=0.7, by_layer={"4": 0.2})
    found = {id(p): group["l1"] for group in groups for p in group["params"]}
    assert len(found) == sum(len(group["params"]) for group in groups)
    assert {id(p) for p in model.parameters()} == found.keys()
    for name, expected in {"0.weight": 0.7, "2.weight": 0.1, "4.weight": 0.2, "0.bias": 0}.items():
        assert found[id(dict(model.named_parameters())[name])] == expected
    assert found[id(model[3].weight)] == 0
    with pytest.raises(InvalidArgument, match="by_layer must be a pattern that some layer matches"):
        lasso_groups(model, 0.1, by_layer={"conv*": 1})


def test_each_group_has_numbers_of_its_own() -> None:
    one, other = (nn.Parameter(torch.full((2, 2), 0.3)) for _ in range(2))
    for parameter in (one, other):
        parameter.grad = torch.zeros(2, 2)
    groups = [{"params": [one], "l1": 0.2, "beta": 1}, {"params": [other], "lr": 0.5}]
    BetaLasso(groups, 0.1, l1=0.01, beta=2).step()
    torch.testing.assert_close(one.detach(), torch.full((2, 2), 0.28))
    torch.testing.assert_close(other.detach(), torch.full((2, 2), 0.295))


def test_a_weight_that_two_layers_share_moves_once() -> None:
    first, second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
    second.weight = first.weight
    groups = lasso_groups(nn.Sequential(first, second), 0.0, first=0.1)
    assert [(len(g["params"]), g["l1"]) for g in groups] == [(1, 0.1)]


def test_normalisation_of_maps_is_not_penalised() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.LayerNorm([2, 4, 4]), nn.RMSNorm([2, 4, 4]))
    weights, rest = lasso_groups(model, 0.5)
    assert [p.shape for p in weights["params"]] == [model[0].weight.shape]
    assert len(rest["params"]) == 4
    assert rest["l1"] == 0
