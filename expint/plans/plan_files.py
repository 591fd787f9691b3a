"""Plans as files: JSON for people to read, from which the plan is compiled again."""

import math
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from expint import schedules
from expint.equations.given_ell import ell_per_step
from expint.equations.noise_scales import noise_scale, noise_scale_names, piecewise
from expint.files import replacing
from expint.grids.layout import MOST_STEPS
from expint.numerics.float64 import are_numbers, as_float64
from expint.plans.compilation import RoundTime, compile_plan
from expint.plans.extrapolation import extrapolated
from expint.plans.file_format import (
    FORMAT,
    checksum_of,
    json_values,
    naming,
    plan_text,
    read_content,
)
from expint.plans.plan import Plan
from expint.schedules import Schedule
from expint.schedules.base import check_schedule
from expint.schedules.registry import REGISTRY as SCHEDULES
from expint.solvers.operations import operation
from expint.solvers.registry import get, names

PlanLike = Plan | str | Path | Mapping[str, Any]
"""A plan, or the path, the text or the content of its file."""


def plan_content(plan: Plan, about: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What the file of a plan holds, as JSON-able values; see `Plan.save`."""
    diffusion = plan.sde.diffusion
    if not diffusion:
        raise ValueError(
            f"A plan on {plan.sde} cannot be saved: its coefficients are functions. Only plans for "
            "diffusion models can be."
        )
    if plan.solver not in names():
        raise ValueError(
            f"A plan of {plan.solver!r} cannot be saved, as no solver that needs no argument is "
            "registered under this name: use expint.solvers.register."
        )
    schedule, own = diffusion.schedule, get(plan.solver)
    ell, scale = _noise(plan)
    content = {
        "format": FORMAT,
        "expint": sys.modules["expint"].__version__,  # the floor above all
        "solver": plan.solver,
        "nfe": plan.nfe,
        "form": diffusion.form,
        "ell": json_values(ell),
        "noise_scale": json_values(scale),
        "sigma_data": diffusion.sigma_data,
        "operations": [str(each) for each in plan.method.operations[len(own.operations) :]],
        "schedule": _described(schedule, plan.grid),
        "grid": json_values(plan.grid),
        "factors": list(plan.factors),
        "known_times": [],
        "about": {**plan.about, **(about or {})},
    }
    if not _equal(plan, _compiled(content, schedule)):
        times = torch.cat([plan.times.detach(), plan.grid])
        content["known_times"] = json_values(torch.unique(times[times.isfinite()]))
        found = None
        with suppress(ValueError):  # what cannot be rounded
            found = _compiled(content, schedule)
        if found is None or not _equal(plan, found):
            raise ValueError(_why_not(plan))
    try:
        return content | {"checksum": checksum_of(content)}
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"What is said about a plan must be finite JSON values: {error}."
        ) from error


def save_plan(plan: Plan, path: str | Path, about: Mapping[str, Any]) -> None:
    """See `Plan.save`."""
    text = plan_text(plan_content(plan, about))
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def load_plan(given: str | Path | Mapping[str, Any], schedule: Schedule | None = None) -> Plan:
    """The plan of a file, of the text of one, or of its content; see `Plan.load`."""
    content = read_content(given)
    with naming(given):
        plan = _compiled(content, _schedule(content, schedule))
        if plan.nfe != content["nfe"]:
            raise ValueError(f"takes {plan.nfe} evaluations, but is said to take {content['nfe']}")
        return replace(plan, about=content["about"])


def fitting_plan(
    given: PlanLike,
    schedule: Schedule,
    round_time: RoundTime | None = None,
    beside: Mapping[str, Any] | None = None,
) -> Plan:
    """A plan, or that of a file, for a model.

    Args:
        given: the plan, or the path, the text or the content of its file.
        schedule: the model's.
        round_time: maps times to those that the model can be called at, if it is called at those
            only.
        beside: what came with the plan and is fixed by it: there may be nothing in it but None, and
            no operations.

    Raises:
        TypeError: for anything else.
        ValueError: for what `Plan.load` refuses, another schedule, evaluations at times at which
            the model cannot be called, or what came beside the plan, naming it.
    """
    came = {name: value for name, value in (beside or {}).items() if value is not None}
    named = [name for name, value in came.items() if name != "operations" or value]
    if named:
        both = f"plan= fixes the solver, its steps and noise: leave out {', '.join(named)}"
        raise ValueError(f"{both}, or the plan.")
    if not isinstance(given, (Plan, str, Path, Mapping)):
        raise TypeError(f"plan is a Plan or the path of its file, got {given!r}.")
    plan = given if isinstance(given, Plan) else load_plan(given, schedule)
    if not plan.sde.diffusion:
        raise ValueError(f"The plan is on {plan.sde}, which is not a diffusion model's equation.")
    times = plan.times.detach()[[row.evaluates for row in plan.rows]]
    plan.sde.diffusion.check_schedule(schedule, times)
    known = times if round_time is None else round_time(times)
    wrong = torch.nonzero((known - times).abs() > 1e-6 * (1.0 + times.abs()))
    if len(wrong):
        raise ValueError(
            f"The plan calls the network at t = {times[wrong[0]].item():.9g}, and this network is "
            "called on a table only, which does not have it: take a plan that was made for it, or "
            "the network with timesteps='interpolate'."
        )
    return plan


def _noise(plan: Plan) -> tuple[float | list[float] | None, str | dict[str, Any] | None]:
    """ℓ, one or one for each step, or in its place a noise scale."""
    diffusion = plan.sde.diffusion
    assert diffusion
    if (scale := diffusion.noise_scale) is None:
        return diffusion.ell, None
    if scale.name in noise_scale_names() and noise_scale(scale.name) is scale:
        return None, scale.name
    if not scale.pieces:
        raise ValueError(
            f"The noise scale {scale.name!r} is a function, which no file holds: give ell, one "
            "number or one for each step, a window, or the name of a noise scale."
        )
    pieces = [tuple(as_float64(v).item() for v in piece) for piece in scale.pieces]
    ells = [math.sqrt(square) for *_, square in pieces]
    with suppress(ValueError):  # another number of pieces than steps
        if list(ell_per_step(diffusion.schedule, plan.grid, ells).pieces) == pieces:
            return ells, None
    return None, {"name": scale.name, "pieces": [list(piece) for piece in pieces]}


def _described(schedule: Schedule, grid: Tensor) -> dict[str, Any]:
    """Name and arguments of a schedule, or what it looks like and its values at the grid."""
    name = next((name for name in SCHEDULES if SCHEDULES.get(name) is type(schedule)), None)
    if name is not None and is_dataclass(kind := type(schedule)):
        usual, arguments = kind(), [field.name for field in fields(kind) if field.init]
        given = {each: getattr(schedule, each) for each in arguments}
        given = {each: v for each, v in given.items() if v != getattr(usual, each)}
        if all(isinstance(value, str) or are_numbers(value) for value in given.values()):
            return {"name": name, "arguments": json_values(given)}
    # Nine digits are enough to know it by.
    values = {"lam": schedule.lam(grid), "log_alpha": schedule.log_alpha(grid)}
    short = {name: [float(f"{v:.9g}") for v in each.tolist()] for name, each in values.items()}
    return {"like": str(schedule)} | {name: json_values(each) for name, each in short.items()}


def _schedule(content: Mapping[str, Any], given: Schedule | None) -> Schedule:
    """The one given, after checking that it is that of the file, or that of the file."""
    said = dict(content["schedule"])
    grid = _numbers(content["grid"], "grid")
    if given is not None:
        check_schedule(given)
    if "name" in said:
        arguments: Any = said.get("arguments")
        fine = isinstance(arguments, dict) and {*said} == {"name", "arguments"}
        if not fine or any(isinstance(v, int) and v > MOST_STEPS for v in arguments.values()):
            raise ValueError(f"its 'schedule' is {said!r}")
        known = schedules.get(said["name"], **arguments)
        if given is None:
            return known
        lam, log_alpha, like = known.lam(grid), known.log_alpha(grid), str(known)
    else:
        if {*said} != {"like", "lam", "log_alpha"}:
            raise ValueError(f"its 'schedule' is {said!r}")
        lam, log_alpha = (_numbers(said[name], name) for name in ("lam", "log_alpha"))
        like = said["like"]
        if given is None:
            raise ValueError(
                f"its schedule is {like}, which a file does not hold: give schedule=, for a model "
                "model.schedule"
            )
    pairs = ((given.lam, lam), (given.log_alpha, log_alpha))
    with suppress(ValueError):  # outside the domain, or of another length
        if all(torch.allclose(f(grid), values, 1e-6, 1e-6) for f, values in pairs):
            return given
    raise ValueError(f"it is for the schedule {like}, and here the schedule is {given}")


def _compiled(content: Mapping[str, Any], schedule: Schedule) -> Plan:
    grid, ell, scale = _numbers(content["grid"], "grid"), content["ell"], content["noise_scale"]
    if ell is not None and scale is not None:
        raise ValueError("it has both an 'ell' and a 'noise_scale'")
    if isinstance(scale, dict):
        pieces = [_numbers(piece, "pieces").tolist() for piece in scale["pieces"]]
        scale = piecewise(str(scale["name"]), [(low, high, square) for low, high, square in pieces])
    elif isinstance(ell, list):
        ell, scale = None, ell_per_step(schedule, grid, _numbers(ell, "ell"))
    method, known = get(content["solver"]), _numbers(content["known_times"], "known_times")
    sde = method.equation(schedule, content["form"], ell, scale, content["sigma_data"])

    def nearest(t: Tensor) -> Tensor:
        return known[(t[..., None] - known).abs().argmin(-1)]

    plan = compile_plan(
        sde,
        method,
        grid,
        round_time=nearest if len(known) else None,
        operations=[operation(text) for text in content["operations"]],
    )
    factors = _numbers(content["factors"], "factors")
    return extrapolated(plan, factors) if len(factors) else plan


def _numbers(values: Sequence[Any], name: str) -> Tensor:
    """The entries of a list, of which infinite ones are text, float64."""
    wrong = [v for v in values if not are_numbers(v) and v not in ("inf", "-inf")]
    if wrong:
        raise ValueError(f"its {name!r} holds {wrong[0]!r}")
    return torch.tensor([float(v) for v in values], dtype=torch.float64)


def coefficients(plan: Plan) -> Tensor:
    """All numbers of a plan, float64, in one dimension; infinite times as the largest number."""
    values = [plan.grid]
    for row in plan.rows:
        weights = [value for pair in row.weights for value in pair]
        values += [row.time, row.target, row.scale, *weights, *row.noise]
    flat = [torch.as_tensor(value, dtype=torch.float64).detach().reshape(-1) for value in values]
    return torch.cat(flat).nan_to_num()


def _equal(plan: Plan, other: Plan) -> bool:
    """Whether two plans are one but for the last digits, which depend on the libraries."""
    own, theirs = coefficients(plan), coefficients(other)
    return own.shape == theirs.shape and torch.allclose(own, theirs, rtol=1e-12, atol=1e-15)


def _why_not(plan: Plan) -> str:
    own = get(plan.solver)
    added = plan.method.operations[len(own.operations) :]
    way_out = "its rows are not those that its solver, equation and grid give"
    if plan.method != replace(own, operations=(*own.operations, *added)):
        way_out = "its solver is not the registered one of this name: register it under its own"
    elif added:
        text = " and ".join(map(str, added))
        way_out = f"{text} is not all of its operations' numbers: give them at most six digits"
    return f"A plan of {plan.solver!r} that could not be known again is not saved: {way_out}."


def row_numbers(plan: Plan) -> dict[str, Any]:
    """See `Plan.to_dict`."""
    rows = [json_values(row._asdict()) for row in plan.rows]
    grid = json_values(plan.grid)
    return {"sde": plan.sde.name, "solver": plan.solver, "grid": grid, "rows": rows}
