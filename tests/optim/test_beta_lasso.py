"""beta-LASSO against Algorithm 1 written out for single numbers, and against what it reduces to."""

# Layers are reached by name, of which torch does not know the types.
# pyright: reportAttributeAccessIssue=false, reportIndexIssue=false, reportCallIssue=false
# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportReturnType=false

from __future__ import annotations

import copy
import math
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from neurosim.errors import InvalidArgument
from neurosim.models import simple
from neurosim.nn import LocallyConnected2d
from neurosim.optim import BetaLasso, lasso_groups
from neurosim.optim.step import flat, in_order_of, step_of

FORMS = ["reference", "foreach", "cpu"]


def algorithm1(
    theta: float, gradients: Iterable[float], lr: float, l1: float, beta: float
) -> float:
    """As the paper has it, for one weight."""
    for gradient in gradients:
        sign = (theta > 0) - (theta < 0)
        theta = theta - lr * (gradient + l1 * sign)
        theta = theta if abs(theta) >= beta * l1 else 0.0
    return theta


def stepped(weight: Tensor, gradients: Iterable[Tensor], **options: object) -> Tensor:
    parameter = nn.Parameter(weight.clone())
    optimizer = BetaLasso([parameter], **options)
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
    return parameter.detach()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.sampled_from([(1, 1), (3, 5), (2, 3, 2, 2), (1, 300)]),
    lr=st.floats(0, 2),
    l1=st.sampled_from([0.0, 1e-3, 0.05, 1.0]),
    beta=st.sampled_from([0.0, 1.0, 50.0]),
    form=st.sampled_from([*FORMS, "auto"]),
)
def test_algorithm_1_for_every_weight(
    seed: int, shape: tuple[int, ...], lr: float, l1: float, beta: float, form: str
) -> None:
    random = torch.Generator().manual_seed(seed)
    weight = torch.randn(shape, generator=random, dtype=torch.float64)
    weight[torch.rand(shape, generator=random) < 0.2] = 0  # sign(0) is 0
    gradients = [torch.randn(shape, generator=random, dtype=torch.float64) for _ in range(3)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of emptied layers
        found = stepped(weight, gradients, lr=lr, l1=l1, beta=beta, backend=form).flatten()
    for number, theta in enumerate(weight.flatten().tolist()):
        series = [gradient.flatten()[number].item() for gradient in gradients]
        expected = algorithm1(theta, series, lr, l1, beta)
        assert found[number].item() == pytest.approx(expected, rel=1e-12, abs=1e-13)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("form", FORMS)
def test_without_penalty_it_is_sgd(form: str, momentum: float) -> None:
    torch.manual_seed(0)
    weight, gradients = torch.randn(40, 30), [torch.randn(40, 30) for _ in range(5)]
    plain = nn.Parameter(weight.clone())
    sgd = torch.optim.SGD([plain], 0.1, momentum=momentum)
    for gradient in gradients:
        plain.grad = gradient.clone()
        sgd.step()
    found = stepped(weight, gradients, lr=0.1, l1=0.0, momentum=momentum, backend=form)
    torch.testing.assert_close(found, plain.detach(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_without_threshold_it_is_a_penalty_in_the_loss(form: str) -> None:
    """The subgradient of l1 |theta| by autograd, with momentum on both, as torch's SGD has it."""
    torch.manual_seed(0)
    weight, target = torch.randn(6, 7), torch.randn(6, 7)
    plain, own = nn.Parameter(weight.clone()), nn.Parameter(weight.clone())
    sgd = torch.optim.SGD([plain], 0.05, momentum=0.8)
    lasso = BetaLasso([own], 0.05, l1=0.3, beta=0, momentum=0.8, backend=form)
    for _ in range(20):
        sgd.zero_grad()
        ((plain - target).square().sum() / 2 + 0.3 * plain.abs().sum()).backward()
        sgd.step()
        lasso.zero_grad()
        ((own - target).square().sum() / 2).backward()
        lasso.step()
    torch.testing.assert_close(own.detach(), plain.detach(), rtol=1e-5, atol=1e-5)


def test_a_quadratic_ends_at_soft_thresholding_beyond_the_threshold() -> None:
    """min (theta - t)^2 / 2 + l1 |theta| has theta = t - l1 sign(t) where that is large enough."""
    target = torch.tensor([[2.0, -1.0, 0.2, 0.05, -0.6]])
    parameter = nn.Parameter(target.clone())
    optimizer = BetaLasso([parameter], 0.1, l1=0.1, beta=3)
    for _ in range(300):
        optimizer.zero_grad()
        ((parameter - target).square().sum() / 2).backward()
        optimizer.step()
    expected = torch.tensor([[1.9, -0.9, 0.0, 0.0, -0.5]])
    torch.testing.assert_close(parameter.detach(), expected, rtol=1e-5, atol=1e-5)


def test_zero_weights_stay_unless_one_step_takes_them_past_the_threshold() -> None:
    weight = torch.zeros(1, 3)
    gradient = torch.tensor([[-0.9, -1.1, 1.1]])
    found = stepped(weight, [gradient], lr=1.0, l1=0.1, beta=10)
    torch.testing.assert_close(found, torch.tensor([[0.0, 1.1, -1.1]]))


def test_adam_divides_by_the_root_of_squares_and_keeps_penalty_and_threshold() -> None:
    """Gradients of one size: Adam's ratio is their sign, whatever the size."""
    weight = torch.tensor([[1.0, -1.0, 0.06, 0.3]])
    gradients = [torch.tensor([[5.0, 1e-3, 0.0, 0.0]])] * 4
    found = stepped(weight, gradients, lr=0.01, l1=0.5, beta=0.1, adam=(0.9, 0.999))
    expected = [1 - 4 * 0.015, -1 - 4 * 0.005, 0.0, 0.3 - 4 * 0.005]  # 0.06 falls below 0.05
    torch.testing.assert_close(found, torch.tensor([expected]), rtol=1e-4, atol=1e-5)
    same = stepped(weight, gradients, lr=0.01, l1=0.0, adam=(0.9, 0.999))
    adam = nn.Parameter(weight.clone())
    optimizer = torch.optim.Adam([adam], 0.01)
    for gradient in gradients:
        adam.grad = gradient.clone()
        optimizer.step()
    torch.testing.assert_close(same, adam.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_nan_is_not_thresholded_away(form: str) -> None:
    weight = torch.tensor([[math.nan, 1.0, 1.0]])
    gradient = torch.tensor([[0.0, math.nan, math.inf]])
    found = stepped(weight, [gradient], lr=0.1, l1=0.1, beta=5, backend=form)
    assert found.isnan().tolist() == [[True, True, False]]
    assert found[0, 2] == -math.inf


# Which parameters


def test_vectors_take_plain_steps_unless_told_otherwise() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    before = [p.detach().clone() for p in model.parameters()]
    for vectors in (False, True):
        for parameter, value in zip(model.parameters(), before, strict=True):
            parameter.data.copy_(value)
            parameter.grad = torch.zeros_like(parameter)
        BetaLasso(model.parameters(), 0.1, l1=0.5, beta=0, vectors=vectors).step()
        moved = [not p.equal(v) for p, v in zip(model.parameters(), before, strict=True)]
        assert moved == [True, vectors, vectors, False]  # BatchNorm1d's bias is 0
        assert bool(model[1].bias.abs().sum() == 0)


# The forms


def layouts() -> list[tuple[Tensor, Tensor]]:
    """Weights and gradients as they may lie in memory."""
    torch.manual_seed(3)
    plain = torch.randn(8, 6, 5, 5)
    last = torch.randn(8, 6, 5, 5).contiguous(memory_format=torch.channels_last)
    local = LocallyConnected2d(3, 4, 3, 6).weight.detach()
    gaps = torch.randn(9, 14)[:, ::2]
    weights = [plain, last, local, gaps, torch.randn(3, 700_000)]
    return [(w, torch.randn(w.shape)) for w in weights]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("form", FORMS[1:])
def test_forms_agree_however_weights_lie_in_memory(form: str, momentum: float) -> None:
    for weight, gradient in layouts():
        found = {}
        for backend in ("reference", form):
            parameter = nn.Parameter(weight.detach())  # keeps strides, gaps too
            parameter.data = weight.clone() if weight.is_contiguous() else weight.detach()
            before = weight.clone()
            optimizer = BetaLasso([parameter], 0.2, 0.01, 20, momentum, backend=backend)
            for factor in (1, -2, 0.5):
                parameter.grad = factor * gradient
                optimizer.step()
            found[backend] = parameter.detach().clone()
            with torch.no_grad():
                weight.copy_(before)
        same = (found["reference"] == 0) == (found[form] == 0)
        assert same.float().mean() > 0.9999  # rounding may tip a weight at the threshold
        difference = (found["reference"] - found[form])[same]
        assert difference.abs().max() < 1e-5
        assert (found[form] == 0).any()


def test_results_do_not_depend_on_threads() -> None:
    torch.manual_seed(0)
    weight, gradient = torch.randn(3, 700_001), torch.randn(3, 700_001)
    found, threads = [], torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            found.append(stepped(weight, [gradient], lr=0.1, l1=0.01, backend="cpu"))
    finally:
        torch.set_num_threads(threads)
    assert found[0].equal(found[1])


def test_flat_is_a_view_of_all_elements() -> None:
    for weight, gradient in layouts():
        values = flat(weight)
        if values is None:
            assert not weight.is_contiguous()
            continue
        assert values.data_ptr() == weight.data_ptr()
        assert values.numel() == weight.numel()
        ordered = flat(in_order_of(weight, gradient))
        assert ordered is not None
        # Pairs of elements belong together: the sum of products is that of the tensors.
        expected = (weight.double() * gradient.double()).sum()
        torch.testing.assert_close(ordered.double() @ values.double(), expected)


def test_half_precision_goes_by_foreach() -> None:
    weight = torch.randn(4, 4).bfloat16()
    found = stepped(weight, [torch.zeros(4, 4).bfloat16()], lr=0.1, l1=1e-2, beta=10)
    assert found.dtype == torch.bfloat16
    kept = (weight.float() - 1e-3 * weight.float().sign()).abs() >= 0.1
    assert ((found != 0) == kept).float().mean() > 0.9


def test_triton_in_its_interpreter() -> None:
    """The GPU's kernel, run by Triton on this CPU, with and without momentum."""
    pytest.importorskip("triton")
    script = Path(__file__).with_name("triton_by_hand.py")
    done = subprocess.run(
        [sys.executable, str(script)], cwd=script.parents[2], capture_output=True, text=True,
        env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["equal"] * 4


# As an optimizer of torch


def train(model: nn.Module, optimizer: BetaLasso, steps: int, seed: int = 0) -> None:
    random = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        x = torch.randn(8, 1, 16, 16, generator=random)
        y = torch.randint(10, (8,), generator=random)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()


@pytest.mark.parametrize("options", [{"momentum": 0.9}, {"adam": (0.9, 0.99)}])
def test_state_dict_goes_on_bit_for_bit(options: dict) -> None:
    models = []
    for interrupted in (False, True):
        torch.manual_seed(0)
        model = simple(connectivity="local")
        optimizer = BetaLasso(lasso_groups(model, 1e-3, first=2e-3), 0.05, 1e-3, 10, **options)
        train(model, optimizer, 3)
        if interrupted:
            saved = optimizer.state_dict()
            optimizer = BetaLasso(lasso_groups(model, 0.5), 9.0, 0.5, 3)
            with pytest.raises(ValueError, match="group"):
                optimizer.load_state_dict(saved)  # two groups are not three
            optimizer = BetaLasso(lasso_groups(model, 0.5, first=0.6), 9.0, 0.5, 3)
            optimizer.load_state_dict(saved)
        train(model, optimizer, 3, seed=1)
        models.append(model)
    for one, other in zip(*(m.parameters() for m in models), strict=True):
        assert one.equal(other)


def test_schedulers_scale_the_rate() -> None:
    parameter = nn.Parameter(torch.ones(2, 2))
    optimizer = BetaLasso([parameter], 0.4, l1=0.5, beta=0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    for _ in range(2):
        parameter.grad = torch.zeros(2, 2)
        optimizer.step()
        scheduler.step()
    torch.testing.assert_close(parameter.detach(), torch.full((2, 2), 1 - 0.2 - 0.1))


def test_autocast_and_scaled_gradients() -> None:
    model = nn.Linear(4, 3)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    optimizer = BetaLasso(model.parameters(), 0.1, 1e-3)
    before = model.weight.detach().clone()
    for bad in (True, False):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(torch.ones(2, 4)).float().square().sum() * (math.inf if bad else 1)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        assert model.weight.equal(before) == bad
    assert model.weight.dtype == torch.float32
    assert model.weight.isfinite().all()


def test_a_closure_is_called_once_and_its_loss_returned() -> None:
    parameter = nn.Parameter(torch.ones(2, 2))
    optimizer, calls = BetaLasso([parameter], 0.1, 0.0), []

    def closure() -> Tensor:
        calls.append(1)
        optimizer.zero_grad()
        loss = parameter.sum()
        loss.backward()
        return loss

    assert float(optimizer.step(closure)) == 4  # type: ignore[arg-type]
    assert calls == [1]
    torch.testing.assert_close(parameter.detach(), torch.full((2, 2), 0.9))


# Bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": -1}, "beta must be finite and >= 0, got -1"),
        ({"l1": -1e-3}, "l1 must be finite and >= 0, got -0.001"),
        ({"lr": math.nan}, "lr must be finite"),
        ({"momentum": 1.0}, "momentum must be at least 0, below 1, got 1.0"),
        ({"adam": (0.9, 1.0)}, "adam must be None or two numbers"),
        ({"adam": (0.9, 0.99), "momentum": 0.5}, "momentum must be 0 with adam"),
        ({"backend": "foreech"}, "did you mean 'foreach'"),
    ],
)
def test_bad_arguments(options: dict, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message.replace("(", r"\(")):
        BetaLasso([nn.Parameter(torch.ones(2, 2))], **{"lr": 0.1, "l1": 1e-3} | options)


def test_bad_numbers_of_a_group() -> None:
    with pytest.raises(InvalidArgument, match="l1 must be finite and >= 0, got -2"):
        BetaLasso([{"params": [nn.Parameter(torch.ones(2, 2))], "l1": -2}], 0.1, 1e-3)


def test_a_closure_that_returns_nothing() -> None:
    optimizer = BetaLasso([nn.Parameter(torch.ones(2, 2))], 0.1, 1e-3)
    with pytest.raises(InvalidArgument, match="closure must return the loss, got None"):
        optimizer.step(lambda: None)


def test_sparse_gradients() -> None:
    embedding = nn.Embedding(5, 3, sparse=True)
    embedding(torch.tensor([1, 2])).sum().backward()
    with pytest.raises(InvalidArgument, match="gradients must be dense"):
        BetaLasso(embedding.parameters(), 0.1, 1e-3).step()


@pytest.mark.gpu
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("form", ["auto", "foreach", "triton"])
def test_on_a_gpu(form: str, momentum: float) -> None:
    """Convolutions' weights lie channels-last there."""
    torch.manual_seed(0)
    for shape in ((97, 101), (8, 5, 3, 3)):
        weight, gradients = torch.randn(shape), [torch.randn(shape) for _ in range(5)]
        options = {"lr": 0.1, "l1": 0.02, "beta": 20, "momentum": momentum}
        wanted = stepped(weight, gradients, backend="reference", **options)
        there = weight.cuda()
        if weight.dim() == 4:
            there = there.contiguous(memory_format=torch.channels_last)
        found = stepped(there, [g.cuda() for g in gradients], backend=form, **options)
        torch.testing.assert_close(found.cpu(), wanted, rtol=1e-5, atol=1e-6)
        assert (wanted == 0).any()


def test_a_backend_that_cannot_run() -> None:
    half = nn.Parameter(torch.ones(2, 2, dtype=torch.bfloat16))
    with pytest.raises(InvalidArgument, match=r'backend must be "foreach" for other than float32'):
        step_of("cpu", [half])


@pytest.mark.parametrize("form", FORMS)
def test_layers_left_without_weights_are_told_of_once(form: str) -> None:
    model = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3))
    model[0].weight.data.clamp_(-0.01, 0.01)
    optimizer = BetaLasso(model.parameters(), 1e-3, l1=1e-3, beta=50, backend=form)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    message = r"all 20 weights of shape \(4, 5\) are below the threshold beta \* l1 = 0.05"
    with pytest.warns(UserWarning, match=message) as told:
        optimizer.step()
    assert len(told) == 1
    assert "lower l1 = 0.001 or beta = 50" in str(told[0].message)
    assert not model[0].weight.any()
    assert model[1].weight.any()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(101):
            optimizer.step()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("form", FORMS)
def test_torch_knows_what_a_step_has_changed(form: str, momentum: float) -> None:
    """A graph that needs the weights of before is refused, not answered with those of after."""
    layer = nn.Linear(4, 4)
    optimizer = BetaLasso(layer.parameters(), 0.1, 0.0, momentum=momentum, backend=form)
    x = torch.randn(2, 4, requires_grad=True)
    loss = layer(x).sum()
    loss.backward(retain_graph=True)
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("how", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_copies_go_on(how) -> None:
    layer = nn.Linear(4, 4)
    optimizer = BetaLasso(layer.parameters(), 0.1, 0.1, momentum=0.9, backend="foreach")
    for own in (optimizer, how(optimizer)):
        assert own.backend == "foreach"
        (group,) = own.param_groups
        for parameter in group["params"]:
            parameter.grad = torch.ones_like(parameter)
        own.step()
    ours, theirs = (o.param_groups[0]["params"][0] for o in (optimizer, own))
    assert ours is not theirs
    assert torch.equal(ours, theirs)
