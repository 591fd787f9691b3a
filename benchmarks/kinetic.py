"""Bias of E[U] against the step of kinetic Langevin dynamics by several solvers, and strong errors
on common paths: U = x²/2 − log cosh 2x, two wells, e^{−U} the mixture of N(±2, 1). The picture has
both against gradients, the tables against steps.

Chains start in that law; the standard errors of the biases come from the chains. The exact E[U] is
a quadrature.

    python benchmarks/kinetic.py [--chains 4096] [--plot docs/img/kinetic-bias.png]
"""

import math
from pathlib import Path

import click
import torch
from torch import Tensor

from expint.dynamics import kinetic_langevin, splitting_plan
from expint.execution import execute
from expint.noise import initial_state, per_sample
from expint.noise.paths.composed import ComposedNoise
from expint.plans import compile_plan
from expint.results import new_figure, save_figure, table_text

STEPS = (0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.4)
SOLVERS = ("ubu", "baoab", "obabo", "nystrom-3", "quicsort", "seeds-1", "seeds-2", "seeds-sra")
PLANS = SOLVERS[:5]
ONE_GRADIENT = ("ubu", "baoab", "obabo", "seeds-1")


def potential(x: Tensor) -> Tensor:
    """Two wells."""
    return 0.5 * x**2 - torch.log(torch.cosh(2 * x))


def gradient(x: Tensor) -> Tensor:
    """Its derivative."""
    return x - 2 * torch.tanh(2 * x)


def exact() -> float:
    """E[U] of e^{−U}."""
    x = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    weights = torch.exp(-potential(x))
    return float((weights * potential(x)).sum() / weights.sum())


def bias(solver: str, step: float, chains: int, time: float = 60.0) -> tuple[float, float]:
    """Of E[U], and its standard error: from means over each chain after a third of the time."""
    x = initial_state(per_sample(1, chains), (1,), torch.float64)
    x[1::2], x[::2] = x[1::2] + 2.0, x[::2] - 2.0
    steps = round(time / step)
    run = kinetic_langevin(gradient, 1.0, x, step=step, steps=steps, solver=solver)
    means = potential(run.x[steps // 3 :]).mean((0, 2))
    return float(means.mean()) - exact(), float(means.std()) / math.sqrt(chains)


def strong(solver: str, counts: tuple[int, ...], paths: int = 256) -> list[float]:
    """Root mean square distances from nystrom-3 with 512 steps on the same paths, over t = 2."""
    grid = torch.linspace(0.0, 2.0, 2049, dtype=torch.float64)
    u = torch.zeros(paths, 2, 1, dtype=torch.float64)
    u[:, 0] = 0.5

    def end(name: str, n: int) -> Tensor:
        plan = splitting_plan(name if name in PLANS else "ubu", 1.0, 2.0 / n, n)
        if name not in PLANS:
            plan = compile_plan(plan.sde, name, plan.grid)
        noise = ComposedNoise(plan.sde, range(paths), grid)
        return execute(plan, lambda u, t: -gradient(u[:, :1]), u, noise)

    reference = end("nystrom-3", 512)
    return [float((end(solver, n) - reference).square().mean().sqrt()) for n in counts]


@click.command(help=__doc__)
@click.option("--chains", default=4096)
@click.option("--plot", type=click.Path(path_type=Path))
def main(chains: int, plot: Path | None) -> None:
    """Run it."""
    torch.set_num_threads(1)
    found = {name: [bias(name, h, chains) for h in STEPS] for name in SOLVERS}
    rows = [("bias of E[U]", *(f"h = {h:g}" for h in STEPS))]
    for name, values in found.items():
        rows.append((name, *(f"{b:+.4f} ± {e:.4f}" for b, e in values)))
    print(f"two wells, gamma = 1, {chains} chains\n\n{table_text(rows)}")
    counts = (8, 16, 32, 64)
    errors = {name: strong(name, counts) for name in SOLVERS if name not in ("baoab", "obabo")}
    rows = [("strong error", *(f"{n} steps" for n in counts), "gradients a step")]
    for name, values in errors.items():
        rows.append((name, *(f"{v:.2e}" for v in values), "1" if name in ONE_GRADIENT else "2"))
    print(f"\n{table_text(rows)}")
    if plot is None:
        return
    figure = new_figure(10.4, 4.6)
    left, right = figure.subplots(1, 2)
    for i, (name, values) in enumerate(found.items()):
        cost = 1 if name in ONE_GRADIENT else 2
        marks = [(h, abs(b), e) for h, (b, e) in zip(STEPS, values, strict=True) if abs(b) > 2 * e]
        marks = [(h / cost, b, e) for h, b, e in marks]
        left.errorbar(*zip(*marks, strict=True), fmt="o-", ms=4, lw=1.2, color=f"C{i}", label=name)
        if name in errors:
            spent = [cost * n for n in counts]
            right.loglog(spent, errors[name], "o-", ms=4, lw=1.2, color=f"C{i}", label=name)
    left.set(xscale="log", yscale="log", xlabel="time per gradient", ylabel="|bias of E[U]|")
    left.set_xticks(STEPS, [f"{h:g}" for h in STEPS])
    right.set(xlabel="gradients over t = 2", ylabel="strong error")
    ticks = (*counts, 2 * counts[-1])
    right.set_xticks(ticks, [str(n) for n in ticks])
    for axes in (left, right):
        axes.minorticks_off()
        axes.grid(color="0.9")
        axes.legend(fontsize=9)
    save_figure(figure, plot)


if __name__ == "__main__":
    main()
