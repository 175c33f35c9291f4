"""How the error of each integrator depends on its step, against the matrix exponential.

Claims: forward Euler, which the published simulation uses, converges with order 1 and the
classical Runge-Kutta method with order 4; adaptive methods reach the tolerance they are asked
for. While x is constant the whole circuit is linear, so the exact solution of a presentation is
one matrix exponential, here of the full system: the right-hand side itself, applied to unit
vectors, gives its matrix. Constant rate, no momentum, 5 neurons, 4 inputs, 3 presentations of
150 ms. For adaptive methods the order is that of error against evaluations of the slope; LSODA
raises its order as the tolerance falls, so that its figure is no fixed order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import expm

from analysis import figures
from analysis.convergence import figures as convergence_figures
from analysis.convergence.integrators import integrator_orders
from experiments.common.options import RunOptions
from experiments.common.result import Report, table
from neurosim.dynamics import Constant, Continuous, Given, Plasticity, RateCircuit, simulate
from neurosim.dynamics.continuous import circuit_slope, pack
from neurosim.dynamics.problem import Problem, Solver
from neurosim.progress import track
from neurosim.recording import RunReader, RunWriter

NEURONS, DIMENSION, PRESENTATIONS = 5, 4, 3
RATE, GAMMA = 1e-2, 0.1
CIRCUIT = RateCircuit()
EULER_STEPS = (0.5, 0.25, 0.125, 0.0625, 0.03125)
RK4_STEPS = (0.75, 0.375, 0.1875, 0.09375)
TOLERANCES = (1e-4, 1e-6, 1e-8, 1e-10)


class CountingRate:
    """A constant rate that counts how often it is asked: once per slope evaluation."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, t: np.ndarray) -> np.ndarray:
        """eta(t)."""
        self.calls += 1
        return np.full(np.shape(t), RATE)


def exact_weights(problem: Problem) -> np.ndarray:
    """The weights after all presentations, by one matrix exponential each."""
    y = np.append(pack(problem.start()), 1.0)  # the last component carries the constant term
    for x in problem.inputs.array():
        slope = circuit_slope(problem, x[None], lambda t: RATE)
        size = len(y) - 1
        constant = slope(0.0, np.zeros(size))
        generator = np.zeros((size + 1, size + 1))
        generator[:-1, -1] = constant
        for column, unit in enumerate(np.eye(size)):
            generator[:-1, column] = slope(0.0, unit) - constant
        y = expm(generator * problem.response.steps * problem.response.dt) @ y
    return y[problem.neurons + 1 : -1].reshape(problem.weights.shape)


def _cases() -> list[tuple[str, float, RateCircuit, str | Solver]]:
    """Method, its step or tolerance, the circuit it steps, the solver."""
    cases: list[tuple[str, float, RateCircuit, str | Solver]] = []
    cases += [("Euler", dt, CIRCUIT.with_dt(dt), "euler") for dt in EULER_STEPS]
    cases += [("RK4", dt, CIRCUIT, Continuous("RK4", dt=dt)) for dt in RK4_STEPS]
    for method in ("RK45", "DOP853", "LSODA"):
        cases += [
            (method, tol, CIRCUIT, Continuous(method, rtol=tol, atol=tol / 1e3))
            for tol in TOLERANCES
        ]
    return cases


def run(options: RunOptions) -> Report:
    """Integrate with every method and step, fit the orders and draw the figure."""
    path = options.run_file("integrators")
    generator = np.random.default_rng(options.seed)
    weights = generator.normal(1, 1, (NEURONS, DIMENSION))
    inputs = Given.of(generator.standard_normal((PRESENTATIONS, DIMENSION)))
    plasticity = Plasticity(Constant(RATE), GAMMA, momentum=0.0)
    exact = exact_weights(Problem(weights, inputs, CIRCUIT, plasticity))
    cases = _cases()
    config: dict[str, Any] = {
        "study": "integrators", "circuit": repr(CIRCUIT), "rate": RATE, "gamma": GAMMA,
        "neurons": NEURONS, "dimension": DIMENSION, "presentations": PRESENTATIONS,
    }  # fmt: skip
    writer = RunWriter(
        path, kind="convergence", config=config, seed=options.seed, overwrite=options.overwrite
    )
    with writer as file:
        file.scale("case", np.arange(len(cases)), description="method with a step or tolerance")
        names = np.array([name for name, *_ in cases])
        file.constant("method", names, dims=("case",), description="integrator")
        file.constant(
            "step",
            np.array([step for _, step, *_ in cases]),
            dims=("case",),
            description="step in ms (Euler, RK4) or relative tolerance (adaptive)",
        )
        file.dataset("evaluations", dims=("case",), dtype="f8", description="slope evaluations")
        file.dataset("error", dims=("case",), dtype="f8", description="|w - exact| / |exact|")
        file.start()
        for index, (name, _, circuit, solver) in track(
            enumerate(cases), total=len(cases), title="integrators", quiet=options.quiet
        ):
            rate = CountingRate()
            result = simulate(
                weights, inputs, response=circuit, solver=solver,
                plasticity=Plasticity(rate, GAMMA, momentum=0.0), check=False,
            )  # fmt: skip
            error = np.linalg.norm(result.weights - exact) / np.linalg.norm(exact)
            steps = PRESENTATIONS * circuit.steps
            calls = steps if name == "Euler" else rate.calls
            file.write("evaluations", np.array(float(calls)), index=(index,))
            file.write("error", np.array(error), index=(index,))
            file.flush()
    with RunReader(path) as file:
        orders = integrator_orders(file)
    drawn = figures.save(convergence_figures.integrators(orders), path.with_suffix(""))
    rows = [
        [o.method, f"{step:g}", f"{evaluations:.0f}", f"{error:.3g}"]
        for o in orders
        for step, evaluations, error in zip(o.steps, o.evaluations, o.errors, strict=True)
    ]
    lines = [
        *table(["method", "step or rtol", "evaluations", "error"], rows),
        "",
        *(f"observed order of {o.method}: {o.order:.3f}" for o in orders),
    ]
    return Report(
        "integrators", path, drawn, lines, {"orders": {o.method: o.order for o in orders}}
    )
