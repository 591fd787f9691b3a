"""Strong errors of kinetic Langevin dynamics at equal numbers of gradients: solvers of this package
and ALIGN, ShOULD and QUICSORT of diffrax (pip install diffrax), if it is installed.

A quartic double well and the posterior of a logistic regression with 64 weights, over t = 2. Errors
are root mean squares over paths (64 for the regression) of position and velocity, each against a
fine solution on the same path: of QUICSORT for diffrax, whose paths are its own, of nystrom-3 for
this package. All in float64.

    python benchmarks/kinetic_diffrax.py [--paths 1024] [--gamma 1] [--gamma 5]
"""

import importlib
import math
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import click
import torch
from torch import Tensor

from expint.dynamics import splitting_plan
from expint.execution import execute
from expint.noise.paths.composed import ComposedNoise
from expint.plans import compile_plan
from expint.results import table_text

TIME, FINE = 2.0, 512
RATES = (4, 8, 16, 32, 64)
"""Gradients per unit of time."""
OURS = {"ubu": 1, "seeds-sra": 2, "nystrom-3": 2, "quicsort": 2}
THEIRS = {"ALIGN": 1, "ShOULD": 2, "QUICSORT": 2}
"""Gradients a step; those of the step before count where they are used again."""


def problems(library: Any, array: Callable[[Tensor], Any]) -> dict[str, tuple[int, Any]]:
    """Dimension and ∇U of each, for torch or jax.numpy."""
    gen = torch.Generator().manual_seed(0)
    data = array(torch.randn(128, 64, generator=gen, dtype=torch.float64) / 8.0)
    labels = array((torch.rand(128, generator=gen) < 0.5).double())

    def logistic(w: Any) -> Any:
        return w + (1.0 / (1.0 + library.exp(-w @ data.T)) - labels) @ data

    return {"double well": (1, lambda x: x**3 - x), "logistic regression": (64, logistic)}


def our_errors(solver: str, dim: int, grad: Any, gamma: float, paths: int) -> list[float]:
    """For each rate."""
    fine = torch.linspace(0.0, TIME, 2 * FINE + 1, dtype=torch.float64)
    start = torch.zeros(paths, 2, dim, dtype=torch.float64)
    start[:, 0] = 0.5

    def end(name: str, n: int) -> Tensor:
        plan = splitting_plan("ubu" if name == "seeds-sra" else name, gamma, TIME / n, n)
        if name == "seeds-sra":
            plan = compile_plan(plan.sde, name, plan.grid)
        noise = ComposedNoise(plan.sde, range(paths), fine)
        return execute(plan, lambda u, t: -grad(u[:, :1]), start, noise)

    exact = end("nystrom-3", FINE)
    counts = (round(rate * TIME / OURS[solver]) for rate in RATES)
    return [float((end(solver, n) - exact).square().mean().sqrt()) for n in counts]


def their_errors(solver: str, dim: int, grad: Any, gamma: float, paths: int) -> list[float]:
    """The same by diffrax, whose tree has the areas H and K."""
    jax: Any = importlib.import_module("jax")
    dfx: Any = importlib.import_module("diffrax")
    np = jax.numpy
    start = (np.full(dim, 0.5), np.zeros(dim))
    drift = dfx.UnderdampedLangevinDriftTerm(gamma, 1.0, lambda x, args: grad(x))

    def one(method: Any, key: Any, step: Any) -> Any:
        tree = dfx.VirtualBrownianTree(
            0.0, TIME, TIME / FINE / 4.0, (dim,), key, dfx.SpaceTimeTimeLevyArea
        )
        terms = dfx.MultiTerm(drift, dfx.UnderdampedLangevinDiffusionTerm(gamma, 1.0, tree))
        found = dfx.diffeqsolve(
            terms, method, 0.0, TIME, step, start, max_steps=2 * FINE, adjoint=dfx.DirectAdjoint()
        )
        return np.stack([part[0] for part in found.ys])

    keys = jax.random.split(jax.random.key(0), paths)

    def end(name: str, n: int) -> Any:
        # 0.01 is what its documentation advises for float64.
        method = getattr(dfx, name)(0.01)
        return _compiled(jax, partial(one, method), name, dim, gamma)(keys, TIME / n)

    exact = end("QUICSORT", FINE)
    counts = (round(rate * TIME / THEIRS[solver]) for rate in RATES)
    return [math.sqrt(float(((end(solver, n) - exact) ** 2).mean())) for n in counts]


_CACHE: dict[Any, Any] = {}


def _compiled(jax: Any, one: Any, *key: Any) -> Any:
    """All paths at once; the step is an argument, so that one compilation does for all steps."""
    if key not in _CACHE:
        _CACHE[key] = jax.jit(jax.vmap(one, (0, None)))
    return _CACHE[key]


@click.command(help=__doc__)
@click.option("--paths", default=1024)
@click.option("--gamma", "gammas", multiple=True, type=float, default=(1.0, 5.0))
def main(paths: int, gammas: tuple[float, ...]) -> None:
    """Run it."""
    torch.set_num_threads(1)
    sets = [(OURS, our_errors, problems(torch, lambda x: x), "")]
    if find_spec("diffrax"):
        jax: Any = importlib.import_module("jax")
        jax.config.update("jax_enable_x64", True)
        theirs = problems(jax.numpy, lambda x: jax.numpy.asarray(x.numpy()))
        sets.append((THEIRS, their_errors, theirs, "diffrax "))
    else:
        print("diffrax is not installed: pip install diffrax. Without it:")
    for problem in sets[0][2]:
        for gamma in gammas:
            rows = [(f"{problem}, gamma = {gamma:g}", *(f"{r} a unit" for r in RATES))]
            for solvers, errors, known, prefix in sets:
                for solver in solvers:
                    count = paths if known[problem][0] == 1 else 64
                    found = errors(solver, *known[problem], gamma, count)
                    rows.append((prefix + solver, *(f"{v:.2e}" for v in found)))
            print(f"\n{table_text(rows)}", flush=True)


if __name__ == "__main__":
    main()
