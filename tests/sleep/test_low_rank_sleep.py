"""An instant sleep of a low-rank layer is that of the locally connected layer it equals."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from neurosim.errors import InvalidArgument
from neurosim.nn import Bank, LocallyConnected2d, LowRankLocal2d
from neurosim.nn.masked import sever_inputs
from neurosim.sleep import Circuit, Hebbian, Instant, Sleep, share, share_moments
from neurosim.sleep.layers import slept_parameters

EXACT = [
    {"sharing": "position"},
    {"sharing": "position", "normalisation": "none"},
    {"sharing": "row"},
    {"sharing": "column"},
    {"sharing": "row", "normalisation": "none"},
    {"sharing": "row+column", "normalisation": "none"},
]
GEOMETRIES = [
    {"padding": 1},
    {"stride": 2, "padding": (0, 1)},
    {"dilation": 2, "padding": 2},
    {"kernel_size": (3, 2)},
]


def random_layer(**options: Any) -> LowRankLocal2d:
    given = {"kernel_size": 3, "rank": 4, **options}
    layer = LowRankLocal2d(2, 3, input_size=(9, 8), dtype=torch.float64, **given)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return layer


@pytest.mark.parametrize("weights", EXACT)
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_like_the_layer_it_equals(weights: dict[str, Any], geometry: dict[str, Any]) -> None:
    layer = random_layer(**weights, **geometry)
    expected = layer.expanded()
    share(expected)
    banks = layer.bases[0].detach().clone()
    share(layer)
    assert torch.equal(layer.bases[0], banks)
    torch.testing.assert_close(layer.expanded().weight, expected.weight)


def test_all_that_a_sleep_changes_is_known() -> None:
    """Processes that train together have to agree on it."""
    model = nn.Sequential(
        LocallyConnected2d(2, 2, 3, (9, 8), padding=1, dtype=torch.float64, bias="position"),
        random_layer(sharing="row+column", normalisation="none", padding=1),
    )
    before = {name: value.clone() for name, value in model.named_parameters()}
    share(model)
    changed = {id(p) for name, p in model.named_parameters() if not p.equal(before[name])}
    assert changed == {id(p) for p in slept_parameters(model)}


@pytest.mark.parametrize("weights", [w for w in EXACT if w.get("normalisation") == "none"])
def test_moments_are_averaged_like_tables(weights: dict[str, Any]) -> None:
    """Without normalisation a sleep averages tables, and moments that equal them end as they do."""
    layer = random_layer(**weights, padding=1)
    optimizer = torch.optim.SGD(layer.parameters(), 0.1, momentum=0.9)
    tables = [*layer.combine.parameters()]
    bank = torch.randn_like(layer.bases[0])
    optimizer.state[layer.bases[0]]["momentum_buffer"] = bank.clone()
    for table in tables:
        optimizer.state[table]["momentum_buffer"] = table.detach().clone()
    share_moments(optimizer, layer)
    share(layer)
    for table in tables:
        torch.testing.assert_close(optimizer.state[table]["momentum_buffer"], table.detach())
    assert optimizer.state[layer.bases[0]]["momentum_buffer"].equal(bank)


def test_border_positions_can_stay_out_of_a_full_table() -> None:
    layer = random_layer(sharing="position", padding=1)
    expected = layer.expanded()
    share(expected, border="exclude")
    share(layer, border="exclude")
    torch.testing.assert_close(layer.expanded().weight, expected.weight)


def test_banks_of_mixed_structure_have_the_grids_of_the_largest() -> None:
    banks = [Bank(3), Bank(5), Bank(3, 2), Bank(1)]
    layer = random_layer(kernel_size=banks, padding="same", sharing="position")
    expected = layer.expanded()
    assert expected.kernel_size == (5, 5)
    share(expected)
    share(layer)
    torch.testing.assert_close(layer.expanded().weight, expected.weight)


def test_together_with_locally_connected_layers() -> None:
    low = LowRankLocal2d(2, 3, 3, 8, 2, sharing="row", init="random")
    model = nn.Sequential(low, LocallyConnected2d(3, 2, 3, 6))
    slept = share(model)
    assert set(slept) == {"1"}  # statistics are of locally connected layers
    assert slept["1"].after.spread < 1e-6
    combining = low.combining()[:, :, 0]
    torch.testing.assert_close(combining[:, 0], combining[:, 3])


REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({}, {}, "sharing of low-rank layer 'layer' must be"),
    ({"normalisation": "norm", "sharing": "position"}, {}, "normalisation .* got 'norm'"),
    ({"input_dependent": True}, {}, "combining weights .* got 'input-dependent'"),
    ({"sharing": "position"}, {"mechanism": Circuit()}, "mechanism .* got 'Circuit'"),
    ({"sharing": "position"}, {"mechanism": Hebbian()}, "mechanism .* got 'Hebbian'"),
    ({"sharing": "row"}, {"border": "exclude"}, "border .* got 'exclude'"),
    ({"sharing": "row"}, {"scaling": "layer"}, "scaling .* got 'layer'"),
]


@pytest.mark.parametrize(("layer", "sleep", "message"), REFUSED)
def test_refused(layer: dict[str, Any], sleep: dict[str, Any], message: str) -> None:
    made, asked = random_layer(**layer), Sleep(**{"mechanism": Instant(), **sleep})
    before = {name: p.detach().clone() for name, p in made.named_parameters()}
    for attempt in (asked.check, asked):
        with pytest.raises(InvalidArgument, match=message):
            attempt(made)
    assert all(torch.equal(p, before[name]) for name, p in made.named_parameters())


def test_absent_inputs_are_refused() -> None:
    """Positions would see different parts of the same filters."""
    layer = random_layer(sharing="position", padding=1)
    sever_inputs(layer, 0.3)
    with pytest.raises(InvalidArgument, match="connections of low-rank layer 'layer' must be all"):
        share(layer)
