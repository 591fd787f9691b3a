"""The likelihood along the ODE, by the change of variables integrated with the rows of a plan.

Along dx/dt = A x + b F the logarithm of the Jacobian determinant q of the flow grows by

    dq/dt = d·A + b tr ∂F/∂x,

and u = a·(q − d log a) obeys du/dt = A u + b·(a tr ∂F/∂x): the equation of x, with another F. So
(x, u) is one state, to which the rows of any plan apply as they are, and the part of the linear
term is exact. From data to noise,

    log p(x_0) = log p_T(x_T) + d log(a_T/a_0) + u_T/a_T.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Unpack

import torch
from torch import Tensor
from tqdm.auto import tqdm

from expint.encoding import mirrored, ode_plan, rule_of_f
from expint.guards.finite import check_state
from expint.guards.training import warn_in_training
from expint.likelihoods.bound import Bound
from expint.likelihoods.results import Likelihood
from expint.noise import Gaussian, Rademacher, SubstepNoise, initial_state, per_sample
from expint.numerics.float64 import are_numbers, is_whole
from expint.plans import Plan
from expint.registry import unknown
from expint.runs import Description, describe, execute
from expint.sampling import SamplingOptions
from expint.solvers.registry import Solver

TRACES = ("rademacher", "gaussian", "exact")


def log_likelihood(
    model: Any,
    x0: Tensor,
    solver: Solver | None = None,
    *,
    trace: str = "rademacher",
    draws: int = 1,
    levels: float | None = None,
    prior: Callable[[Tensor], Tensor] | None = None,
    bound: bool = False,
    seed: int | None = None,
    seeds: Sequence[int] | None = None,
    start: int = 0,
    batch: int = 256,
    conditioned: Callable[[Sequence[int]], Any] | None = None,
    progress: bool = False,
    **options: Unpack[SamplingOptions],
) -> Likelihood:
    """Log-likelihoods of samples under a model, in nats and bits per dimension: exact along the
    ODE, or by the variational bound of the reverse SDE.

    The ODE's is log p of x0 as states at the plan's last time, at the schedule's smallest σ, from
    the density of the noise and the divergence along the way from data to noise, with the rows of
    the plan.

    Args:
        model: as for `expint.sample`; differentiable for the ODE.
        x0: the samples, shape (n, *event), float32 or float64, scaled as the network knows them.
        solver, options: as for `expint.encode`, but by default "etd-rk4" on the grid
            "uniform_lambda"; the bound takes steps, nfe or grid only. In the data form the
            divergence needs short steps at the data end.
        trace: of the Jacobian: "rademacher" or "gaussian" for Hutchinson's estimate vᵀJv, without
            bias, with signs or with normals scaled to |v|² = d; "exact" with d products, for small
            dimensions.
        draws: of these v, and of the noise of the dequantisation or the bound, for each sample,
            each with a run of its own: error bars for each sample from 2 on.
        levels: the distance of the levels that x0 takes, such as 2/255 for images of 256 levels in
            [-1, 1]: uniform noise of that width, with mean 0, is added, and log p is (a lower bound
            on) that of the levels. Default: x0 is taken as it is, and p is a density.
        prior: log p at the first time of states (n, *event), shape (n,); default: N(0, σ̄²), as
            sampling begins with.
        bound: the variational bound of the reverse SDE, ℓ = 1, by one evaluation a step and no
            derivative: −log p of x0 themselves is below it, but for the error of the midpoint rule.
        seed, seeds, start: as for `expint.sample`.
        batch: samples computed at a time.
        conditioned: conditioned(items) gives the model with the conditions of those samples, for a
            conditional network.
        progress: show a progress bar.

    Returns:
        The log-likelihoods with their errors.

    Raises:
        TypeError, ValueError: before the first evaluation, for anything that does not fit.
        FloatingPointError: if a state or divergence becomes NaN or infinite.

    Source: Song et al., arXiv 2011.13456, appendix D.2 (change of variables, Hutchinson); Kingma et
    al., arXiv 2107.00630, eq. (13) (the bound); Ho et al., arXiv 1902.00275 (dequantisation).

    Example:
        >>> import expint
        >>> target = expint.targets.Gaussian([1.0, -2.0], [0.25, 1.0], expint.schedules.EDM())
        >>> x0 = target.sample(3)
        >>> found = log_likelihood(target, x0, trace="exact", steps=50)
        >>> exact = target.log_density(x0, target.schedule.sampling_range[1])
        >>> max(abs(a - b) for a, b in zip(found.nats, exact.tolist())) < 0.05
        True
    """
    about = describe(model)
    warn_in_training(model)
    check_state(x0)
    if x0.dtype not in (torch.float32, torch.float64) or x0.ndim < 2:
        raise TypeError(
            "Samples are float32 or float64, of shape (n, *event), got "
            f"{x0.dtype} of shape {tuple(x0.shape)}."
        )
    if trace not in TRACES:
        raise unknown("trace", trace, TRACES)
    for name, value in (("draws", draws), ("batch", batch)):
        if not is_whole(value) or value < 1:
            raise ValueError(f"{name} must be a positive integer, got {value!r}.")
    if levels is not None and not (are_numbers(levels) and 0.0 < levels < math.inf):
        raise ValueError(f"levels is the distance of the levels, > 0, got {levels!r}.")
    own = per_sample(seed, len(x0), seeds=seeds, start=start)
    if bound:
        run: Any = Bound(about, solver, options)
    else:
        # Short steps in λ at both ends, where the divergence of F, or what it leaves, vanishes.
        usual = "etd-rk4" if about.round_time is None else "seeds-ab4", "uniform_lambda"
        run = _Flow(ode_plan(about, solver, options, usual), about, trace, prior)
    signs = trace == "rademacher" and not bound
    found = torch.empty(draws, len(x0), dtype=torch.float64)
    total = draws * -(-len(x0) // batch)
    with torch.no_grad(), tqdm(total=total, disable=not progress, unit="batch") as bar:
        for items in torch.arange(len(x0)).split(batch):
            part, places = x0[items], [own[i] for i in items]
            network = model if conditioned is None else conditioned(items.tolist())
            asked = SubstepNoise(draws * run.normals)
            stream = (Rademacher if signs else Gaussian)(places).stream(part, [asked])
            noise = iter(stream.normals(asked))
            shifts = torch.zeros(()).expand(draws)
            if levels is not None:  # uniform by the normal distribution function
                normals = initial_state(places, (draws, *part.shape[1:]), part.dtype, part.device)
                shifts = levels * (torch.special.ndtr(normals.transpose(0, 1)) - 0.5)
            for k in range(draws):
                found[k, items] = run(network, part + shifts[k], noise).cpu()
                bar.update(1)
    size = x0[0].numel()
    if not torch.isfinite(found).all():
        raise FloatingPointError("A likelihood became NaN or infinite.")
    nats = found.mean(0) + (size * math.log(levels) if levels else 0.0)
    errors = found.std(0) / math.sqrt(draws) if draws > 1 else torch.full_like(nats, math.nan)
    columns = (tuple(nats.tolist()), tuple(errors.tolist()))
    setting = f"{run.setting}, {run.plan.steps} steps, {draws} draws"
    return Likelihood(type(model).__name__, setting, *columns, size, levels, run.nfe)


class _Flow:
    """log p of states along the ODE."""

    normals = 1

    def __init__(
        self, plan: Plan, about: Description, trace: str, prior: Callable[[Tensor], Tensor] | None
    ) -> None:
        self.plan = mirrored(plan, about.round_time)
        self.nfe, self.setting = self.plan.nfe, f"{plan.solver}, {trace} trace"
        self._forward, self._about, self._trace, self._prior = plan, about, trace, prior

    def __call__(self, model: Any, x: Tensor, noise: Iterator[Tensor]) -> Tensor:
        """log p of states x, shape (batch,)."""
        shape, size, sde = x.shape, x[0].numel(), self.plan.sde
        rule = rule_of_f(self._forward, self._about)
        v = next(noise).flatten(1)
        probes = [v * (size**0.5 / v.norm(dim=1, keepdim=True))]
        if self._trace == "exact":
            probes = list(torch.eye(size).to(x)[:, None].expand(size, *v.shape))

        def augmented(state: Tensor, t: Tensor) -> Tensor:
            y, (on_x, on_output) = state[:, :-1], rule(state, t)
            call = lambda y: model(y.reshape(shape).clone(), t).flatten(1).to(y.dtype)  # noqa: E731
            value, pull, *_ = torch.func.vjp(call, y)
            trace = on_x * size + on_output * sum((pull(v)[0] * v).sum(1) for v in probes)
            return torch.cat(
                [on_x * y + on_output * value, (sde.propagator(t).to(x) * trace)[:, None]], 1
            )

        begin = torch.cat([x.flatten(1), torch.zeros_like(v[:, :1])], 1)
        end = execute(self.plan, augmented, begin)
        first, last = self.plan.grid[[0, -1]]
        a, log_a = sde.propagator(last), sde.log_propagator(last) - sde.log_propagator(first)
        volume = size * log_a.item() + end[:, -1].double() / a.item()
        return self._density(end[:, :-1].reshape(shape), last).to(volume) + volume

    def _density(self, x: Tensor, t: Tensor) -> Tensor:
        if self._prior is not None:
            found = self._prior(x)
            if not isinstance(found, Tensor) or found.shape != x.shape[:1]:
                got = tuple(found.shape) if isinstance(found, Tensor) else found
                raise ValueError(
                    f"prior gives log p of each state, of shape ({len(x)},), got {got!r}."
                )
            return found
        z = x.flatten(1).double() / self._about.schedule.std(t.item())
        each = math.log(2.0 * math.pi) + 2.0 * math.log(self._about.schedule.std(t.item()))
        return -0.5 * (z.square().sum(1) + z.shape[1] * each)
