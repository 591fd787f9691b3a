"""Plans of a scheduler, and those that begin at one of the evaluations of another plan: image to
image.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from diffusion_adapters.diffusers.configs import step_times
from diffusion_adapters.diffusers.given_plans import given_plan
from diffusion_adapters.diffusers.idle_evaluations import with_idle
from expint import Plan, compile_plan, plan_sampling
from expint.schedules import Schedule
from expint.schedules.discrete import TabulatedVP
from expint.solvers import Method, seeds1

Rounding = Callable[[Tensor], Tensor] | None
_SAME = 1e-9  # relative difference within which two times are one
_SHOWN = 64  # places that a message looks for


def evaluation_times(plan: Plan) -> Tensor:
    """Times of the network evaluations in order, float64, shape (nfe,)."""
    return torch.tensor([row.time for row in plan.rows if row.evaluates], dtype=torch.float64)


def plan_of(config: Any, schedule: Schedule, method: Method, given: Any) -> tuple[Plan, Rounding]:
    """The plan of a scheduler's configuration, and how its times were rounded: if that is left
    open, to the table unless the solver or the grid forbids.

    Args:
        config, schedule, method: of the scheduler.
        given: the arguments of `set_timesteps`.
    """
    if config["plan"] is not None:
        return given_plan(config, schedule, given)
    own = {name: config[name] for name in ("form", "ell", "eta", "noise_scale")}

    def plan(rounding: Rounding) -> Plan:
        times = step_times(config, schedule, method=method, table=rounding is not None, **given)
        return plan_sampling(schedule, method, grid=times, round_time=rounding, **own)

    wanted = config["round_timesteps"]
    if isinstance(schedule, TabulatedVP) and wanted is not False:
        with suppress(*([] if wanted else [ValueError])):
            return plan(schedule.round), schedule.round
    return plan(None), None


def begin_at(plan: Plan, index: int, round_time: Rounding = None) -> Plan:
    """The plan of the evaluations `index`, `index` + 1, … of `plan`, at the same times, from a
    state given at the first of them.

    A solver of one step goes on as if it came from before. One of several steps starts anew, with
    less history. Inside a step, the evaluations that are left of it become steps of first order;
    the first of two at one time is made and not used.

    Args:
        plan: the whole plan. At index 0, noise that it adds before the first evaluation is taken as
            part of the given state.
        index: of the first evaluation.
        round_time: with which `plan` was compiled.

    Raises:
        ValueError: if there is no such plan, with the indices from which there is one.
    """
    count = len(evaluation_times(plan))
    found = _rest(plan, index, round_time) if 0 <= index < count else None
    if found is None:
        known = [i for i in range(min(count, _SHOWN)) if _rest(plan, i, round_time) is not None]
        raise ValueError(
            f"{plan.solver!r} cannot begin at evaluation {index} of {count}, inside one of its "
            f"steps: it can begin at {known}{' ...' if count > _SHOWN else ''}."
        )
    return found


def _rest(plan: Plan, index: int, round_time: Rounding) -> Plan | None:
    """The rows of `plan` itself where they need nothing from before. Otherwise the method anew on
    the rest of the grid, with steps of first order to its next time, and in place of its start-up
    or with what is left of it, if its evaluations then lie at the same times."""
    rest = _cut(plan, index)
    if rest is not None:
        return rest
    method, wanted = plan.method, evaluation_times(plan)[index:]
    for extra in range(min(method.tableau.evaluations + 1, len(wanted))):
        (places,) = torch.nonzero(_near(plan.grid, wanted[extra]), as_tuple=True)
        if not len(places):
            continue
        idle = [i for i in range(extra) if _near(wanted[i], wanted[i + 1])]
        kept = [i for i in range(len(wanted)) if i not in idle]
        first = extra - len(idle)
        grid = torch.cat([wanted[kept[:first]], plan.grid[int(places[0]) :]])
        left = [method.start_up[i:] for i in range(len(method.start_up))]
        for start_up in ((seeds1(),) * len(left), *left):
            changed = replace(method, start_up=(seeds1(),) * first + start_up)
            with suppress(ValueError):  # two of the times are one, or nothing is left
                found = compile_plan(plan.sde, changed, grid, round_time=round_time)
                reached = evaluation_times(found)
                if len(reached) == len(kept) and bool(_near(reached, wanted[kept]).all()):
                    found = _cut(found, 0)
                    for i in idle:
                        found = found and with_idle(found, i)
                    return found
    return None


def _near(times: Tensor, other: Tensor) -> Tensor:
    return (times - other).abs() <= _SAME * (1e-3 + other.abs())


def _cut(plan: Plan, index: int) -> Plan | None:
    """The rows from an evaluation on, or None if they need what is before. Noise that is added
    before it is left out."""
    first = [i for i, row in enumerate(plan.rows) if row.evaluates][index]
    if first == 0:
        return plan
    rows = plan.rows[first:]
    step, substep = rows[0].step, rows[0].substep
    sources = [max(j, ~j) for row in rows for j, _ in row.weights]
    if not plan.ends_substep[first - 1] or min(sources) < first:
        return None
    moved = tuple(
        row._replace(
            step=row.step - step,
            substep=row.substep - substep,
            weights=tuple((j - first if j >= 0 else j + first, w) for j, w in row.weights),
        )
        for row in rows
    )
    return replace(plan, grid=plan.grid[step:], rows=moved, noises=plan.noises[substep:])
