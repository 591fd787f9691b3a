"""Samples of a model in phase space: critically-damped Langevin diffusion, from noise to data."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from expint import defaults
from expint.guards.finite import check_result, check_state
from expint.guards.start import check_dtype, check_noise, checked_shape
from expint.noise import Gaussian, NoiseSource, initial_state
from expint.numerics.devices import usable_device
from expint.numerics.float64 import as_float64, is_whole
from expint.phase_space.reverse import Denoised, reverse_cld
from expint.plans import Plan, compile_plan
from expint.registry import check_choice
from expint.runs import Run, drive
from expint.runs.model import Counted, Description
from expint.sampling import check_options
from expint.schedules import CLD
from expint.solvers import Method, get
from expint.solvers.registry import Solver

GRIDS = ("default", "lambda", "root")
FORMS = {"data": "data", "noise": "noise", "time": "drift"}
"""Of CLD in the place of a solver's own form."""
_TAKEN = ("steps", "nfe", "grid", "form", "ell", "final")


def phase_space_samples(
    about: Description,
    call: Any,
    shape: Sequence[int] | Tensor,
    solver: Solver | None,
    options: Mapping[str, Any],
    *,
    seeding: Callable[[int], Sequence[int]],
    noise: NoiseSource | None,
    frame: Any,
    callback: Any,
    progress: bool,
    dtype: torch.dtype | None,
    device: torch.device | str | None,
) -> Tensor:
    """What `expint.sample` returns for a model whose schedule is a `CLD`: the images, shape (batch,
    *event), without their velocities.

    Args:
        about: the model, of which `schedule` is a `CLD`.
        call: the model, call(u, t) → E[x_0 | u_t], such as `diffusion_adapters.CLDAdapter`.
        shape: (batch, *event), or an initial state of shape (batch, 2, *event).
        solver, options: see `plan_phase_space`; the other options are refused.
        seeding: gives one seed for each of so many samples.
        noise, callback, progress, dtype, device: as in `expint.sample`. The callback sees states
            with their velocities, and F of the form in the place of the denoised estimate.
        frame: refused.

    Raises:
        ValueError, TypeError: before the first network evaluation, for anything that does not fit.
    """
    check_noise(noise)
    plan = plan_phase_space(about.schedule, solver, **options, frame=frame)
    if dtype is not None:
        check_dtype(dtype)
    if isinstance(shape, Tensor):
        check_state(shape)
        if shape.ndim < 2 or shape.shape[1] != 2:
            raise ValueError(
                "An initial state has the shape (batch, 2, *event), the images and their "
                f"velocities, got {tuple(shape.shape)}."
            )
        u = shape.detach().to(dtype=dtype, device=device and usable_device(device))
    else:
        sizes = checked_shape(shape)
        where = usable_device(device or about.device or "cpu")
        u = initial_state(seeding(sizes[0]), (2, *sizes[1:]), dtype or torch.float32, where)
        u[:, 1] *= math.sqrt(about.schedule.M)
    denoise = options.get("final", "denoise") == "denoise"
    form, ell = _form_and_ell(get(solver or defaults.SOLVER), options)
    with tqdm(total=plan.nfe + denoise, disable=not progress, unit="NFE", desc=plan.solver) as bar:
        counted = Counted(about, call, bar)
        F = Denoised(about.schedule, counted, form, ell)
        with torch.no_grad():
            run = Run(plan, F, u, noise or Gaussian(seeding(len(u))))
            drive(run, F, callback)
            u = run.result()
            x = counted(u, plan.grid[-1].to(u.device))[:, 0] if denoise else u[:, 0]
    return check_result(x.to(u.dtype))


def plan_phase_space(cld: CLD, solver: Solver | None = None, **options: Any) -> Plan:
    """The plan of these settings, without the evaluation with which `final="denoise"` ends.

    Args:
        cld: the forward process.
        solver: default "seeds-ab2".
        options: of `expint.sample`. steps, nfe: the denoising evaluation included. grid: "default"
            for equal steps of arctan e^{−λ}, of which denoising takes the last; "lambda" for equal
            steps in λ, "root" in √t, both to t = 0.001; or times that end above 0. form, ell: as
            for `expint.phase_space.reverse_cld`; default: those of the solver. final: "denoise"
            ends with an evaluation that gives the images, "none" with the state.

    Raises:
        ValueError, TypeError: for anything that does not fit.
    """
    given = {name: value for name, value in options.items() if value not in (None, ())}
    if strange := [name for name in given if name not in _TAKEN]:
        check_options({name: value for name, value in given.items() if name != "frame"})
        raise ValueError(
            f"{strange[0]} does not go with {cld}, whose state has a velocity: there are solver, "
            f"{', '.join(_TAKEN)}. For everything else integrate expint.phase_space.reverse_cld."
        )
    final, grid = given.get("final", "denoise"), given.get("grid", "default")
    check_choice("final", final, ("denoise", "none"))
    method, single = get(solver or defaults.SOLVER), int(final == "denoise")
    if isinstance(grid, str):
        times = _times(cld, grid, _steps(method.tableau.evaluations, single, given), single)
    elif "steps" in given or "nfe" in given:
        raise ValueError("A grid of times fixes the number of steps: leave out steps and nfe.")
    else:
        times = as_float64(grid)
    sde = reverse_cld(cld, *_form_and_ell(method, given), end=float(times[-1]))
    return compile_plan(sde, method, times)


def _form_and_ell(method: Method, given: Mapping[str, Any]) -> tuple[str, Any]:
    """As given, else the solver's own."""
    form, ell = given.get("form") or FORMS.get(method.form), given.get("ell")
    if form is None or (ell is None and not (method.noise_scale is None and method.ell < math.inf)):
        raise ValueError(
            f"The form {method.form!r} or the noise that {method.name!r} comes with has no like in "
            "phase space: give form, for example 'data', and ell, for example 1."
        )
    return form, method.ell if ell is None else ell


def _steps(evaluations: int, single: int, given: Mapping[str, Any]) -> int:
    """Steps before the denoising evaluation."""
    if "steps" in given and "nfe" in given:
        raise ValueError("Give either steps or nfe, not both.")
    name = "nfe" if "nfe" in given else "steps"
    count, least = given.get(name, defaults.STEPS), 1 + single
    if name == "nfe":
        least = evaluations + single
    if not is_whole(count) or count < least:
        raise ValueError(f"{name} is a whole number >= {least} here, got {count!r}.")
    return count - single if name == "steps" else (count - single) // evaluations


def _times(cld: CLD, grid: str, steps: int, single: int) -> Tensor:
    check_choice("grid", grid, GRIDS)
    if grid != "default":
        return cld.grid(steps, rho=2.0 if grid == "root" else None)
    first = math.atan(math.exp(-float(cld.lam(cld.stop))))
    angles = torch.linspace(first, 0.0, steps + 2, dtype=torch.float64)[:-1]
    times = cld.t_of_lam(-angles.tan().log())
    times[0] = cld.stop
    return times
