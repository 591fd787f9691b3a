"""Grids from fine paths of the network itself: GITS and OSS.

Both take a path of the ODE on a fine grid, the teacher's, and choose from its noise levels, by
dynamic programming, those of few Euler steps that stay near it. In z = x/α such a step from σ_i to
σ_j is z_j = D_i + (σ_j/σ_i)(z_i − D_i), whatever the schedule.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Unpack

import torch
from torch import Tensor

from expint.grids import karras
from expint.grids.layout import SigmaEnds
from expint.grids.published import all_in_sigma
from expint.noise import initial_state, per_sample
from expint.numerics.float64 import are_numbers, as_float64, is_whole
from expint.runs import Reparametrized, describe
from expint.runs.start import checked_shape
from expint.sampling import sample
from expint.schedules import EDM, Schedule
from expint.tuning.cheapest import cheapest


class _Path(NamedTuple):
    """sigma: (P,); states z: (P, batch, d); denoised estimates at all but the last: (P − 1, batch,
    d). All float64."""

    sigma: Tensor
    z: Tensor
    denoised: Tensor


def gits_grid(
    schedule: Schedule,
    steps: int,
    model: Any,
    shape: Sequence[int],
    *,
    coefficient: float = 1.15,
    points: int = 61,
    seed: int = 0,
    **ends: Unpack[SigmaEnds],
) -> Tensor:
    """The grid of GITS: that of the least deviation of Euler steps from the straight line between
    the ends of a path, beyond the deviation of the path itself.

    Args:
        schedule: the model's noise schedule.
        steps: their number, all of them between the ends; with final="denoise" the last goes on to
            σ = 0 in place of the data end.
        model: model(x, t) with attributes `schedule` and `prediction`; points − 1 evaluations.
        shape: (batch, *event) of the paths, a few dozen of them.
        coefficient: on what all later steps cost.
        points: noise levels of the teacher's path, iPNDM on Karras' grid, more than `steps`.
        seed: of the paths.
        ends: start, stop, final and first_sigma as for every grid in σ (`expint.grids`).

    Returns:
        Times, float64, shape (steps + 1,).

    Raises:
        ValueError: for anything that does not fit.

    Source: Chen et al., "On the Trajectory Regularity of ODE-based Diffusion Sampling", arXiv
    2405.11326, section 5, and its reference implementation, with its teacher and its coefficient.

    Example:
        >>> from functools import partial
        >>> import expint
        >>> target = expint.targets.Gaussian([1.0, -1.0], [0.04, 1.0], expint.schedules.EDM())
        >>> grid = partial(gits_grid, model=target, shape=(16, 2))
        >>> x = expint.sample(target, (8, 2), "unipc-2", nfe=6, grid=grid, progress=False)
    """
    if not (are_numbers(coefficient) and 0 < coefficient < float("inf")):
        raise ValueError(f"The coefficient of GITS must be > 0 and finite, got {coefficient!r}.")

    def indices(path: _Path, count: int) -> list[int]:
        end = path.z[-1]
        line = end - path.z[0]
        line = line / line.norm(dim=-1, keepdim=True)

        def across(v: Tensor) -> Tensor:
            return v - (v * line).sum(-1, keepdim=True) * line

        noise = across((path.z[:-1] - path.denoised) / path.sigma[:-1, None, None])
        held = across(end - path.denoised)
        own = across(end - path.z).norm(dim=-1).mean(-1)
        # |held − σ_j noise|, for all i and j, without a state for each pair.
        squares = [(a * b).sum(-1)[:, None] for a, b in ((held, held), (held, noise), (noise,) * 2)]
        at = path.sigma[None, :, None]
        euler = (squares[0] - 2 * at * squares[1] + at.square() * squares[2]).clamp(min=0.0)
        cost = torch.zeros(2 * (len(at[0]),), dtype=torch.float64)
        cost[:-1] = euler.sqrt().mean(-1) - own
        return cheapest(cost, count, coefficient)

    return _chosen(schedule, steps, model, shape, "ipndm", points, seed, indices, ends)


def oss_grid(
    schedule: Schedule,
    steps: int,
    model: Any,
    shape: Sequence[int],
    *,
    points: int = 61,
    seed: int = 0,
    **ends: Unpack[SigmaEnds],
) -> Tensor:
    """The grid of optimal stepsize distillation: after each number of Euler steps, at each noise
    level, the state nearest to the teacher's there is kept, and the next steps start from these.

    Args:
        schedule, steps, shape, points, seed, ends: as for `gits_grid`. The teacher takes Euler
            steps. Distances are means over the batch, so that all samples have one grid.
        model: as there; steps · points evaluations or less.

    Returns:
        Times, float64, shape (steps + 1,).

    Raises:
        ValueError: for anything that does not fit.

    Source: Pei, Hu & Gu, "Optimal Stepsize for Diffusion Sampling", arXiv 2503.21774, algorithm 1.
    """
    denoiser = Reparametrized(model, "data")

    def indices(path: _Path, count: int) -> list[int]:
        last = len(path.sigma) - 1
        reached, origins = {0: path.z[0]}, []
        for k in range(count):
            least: dict[int, float] = {}
            origin: dict[int, int] = {}
            states: dict[int, Tensor] = {}
            for i, z in reached.items():
                t = schedule.t_of_sigma(path.sigma[i])
                x = (schedule.alpha(t) * z).reshape(shape).to(torch.float32)
                with torch.no_grad():
                    D = denoiser(x, t).flatten(1).to(torch.float64)
                # Enough levels are left for the other steps.
                for j in [last] if k == count - 1 else range(i + 1, last - count + k + 2):
                    state = D + path.sigma[j] / path.sigma[i] * (z - D)
                    error = float((state - path.z[j]).square().mean())
                    if error < least.get(j, float("inf")):
                        least[j], states[j], origin[j] = error, state, i
            reached = states
            origins.append(origin)
        found = [last]
        for origin in reversed(origins):
            found.append(origin[found[-1]])
        return found[::-1]

    return _chosen(schedule, steps, model, shape, "ddim", points, seed, indices, ends)


def _chosen(
    schedule: Schedule,
    steps: int,
    model: Any,
    shape: Sequence[int],
    solver: str,
    points: int,
    seed: int,
    indices: Callable[[_Path, int], list[int]],
    ends: SigmaEnds,
) -> Tensor:
    """The times of the teacher's noise levels that indices(path, steps) choose."""
    if not (is_whole(points) and points > steps):
        raise ValueError(
            f"A path for a grid of {steps} steps has an integer number of points > {steps}, got "
            f"{points!r}."
        )
    if describe(model).schedule != schedule:
        raise ValueError(
            f"The grid is for {schedule}, but the model's schedule is "
            f"{describe(model).schedule}: give the model's own."
        )

    def log_sigma(first: float, last: float, count: int) -> Tensor:
        if count == 1:
            return as_float64([last])
        levels = torch.log(_karras(first, last, points))
        path = _teacher(schedule, model, shape, solver, seed, schedule.t_of_lam(-levels))
        return levels[indices(path, count - 1)]

    return all_in_sigma(schedule, steps, log_sigma, **ends)


def _karras(first: float, last: float, points: int) -> Tensor:
    high, low = torch.exp(as_float64([first, last])).tolist()
    return karras(EDM(sigma_min=low, sigma_max=high), points - 1, final="none")


def _teacher(
    schedule: Schedule, model: Any, shape: Sequence[int], solver: str, seed: int, times: Tensor
) -> _Path:
    batch, *event = checked_shape(shape)
    device = describe(model).device or torch.device("cpu")
    noise = initial_state(per_sample(seed, batch), tuple(event), torch.float32, device)
    x = noise * float(schedule.std(times[0]))
    states, denoised = [x], []

    def keep(step: int, nfe: int, t: float, x: Tensor, d: Tensor) -> None:
        states.append(x)
        denoised.append(d)

    sample(model, x, solver, grid=times, callback=keep, progress=False)
    z, D = (torch.stack(parts).flatten(2).to(torch.float64) for parts in (states, denoised))
    alpha, sigma = (scale.to(z.device) for scale in (schedule.alpha(times), schedule.sigma(times)))
    return _Path(sigma, z / alpha[:, None, None], D)
