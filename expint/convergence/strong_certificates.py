"""The measurement of strong orders that certificates record: where schemes of order 1 show it."""

from collections.abc import Iterable, Sequence
from typing import Unpack

from expint.convergence.common_path import PathOptions
from expint.convergence.orders import strong_orders
from expint.convergence.problem import Problem
from expint.convergence.studies import OrderStudy
from expint.schedules import VP
from expint.solvers import Method, get
from expint.solvers.registry import Solver
from expint.targets import GaussianMixture


def strong_certificates(
    methods: Iterable[Method],
    *,
    steps: Sequence[int] = (32, 64, 128, 256),
    **options: Unpack[PathOptions],
) -> dict[str, OrderStudy]:
    """The strong orders of those solvers that have one, by name; all of one equation on the same
    paths.

    The data are a mixture of three Gaussians, between σ = 2 and 0.5 on VP: there the denoiser bends
    most, and schemes that miss one of the conditions of strong order 3/2 show order 1 at these
    steps already. At other noise levels F is nearly linear, and they show 4/3.

    Args:
        methods: solvers.
        steps: step counts, nested.
        options: see `PathOptions`; default 1024 paths, which take some seconds.
    """
    means = [[-1.0, 0.0], [1.0, 0.5], [0.3, -1.0]]
    target = GaussianMixture(means, 0.6, None, VP())
    groups: dict[tuple[str, float], list[Method]] = {}
    for method in methods:
        if has_path_noise(method) and method.strong_order > 0:
            groups.setdefault((method.form, method.ell), []).append(method)
    studies: dict[str, OrderStudy] = {}
    for (form, ell), group in groups.items():
        problem = Problem(target, form, ell, sigmas=(2.0, 0.5), sigma_data=0.5)
        finer = 8 if any(method.strong_order > 1 for method in group) else 4
        chosen: PathOptions = {"paths": 1024, "refine": finer, **options}
        found = strong_orders(group, problem, steps=steps, **chosen)
        studies |= {study.solver: study for study in found.studies}
    return studies


def has_path_noise(solver: Solver) -> bool:
    """Whether its noise is that of the reverse SDE at constant ℓ, and nothing else."""
    method = get(solver)
    return method.ell > 0 and not method.operations and method.noise_scale is None
