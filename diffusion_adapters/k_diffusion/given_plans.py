"""A plan in place of the solver and the noise levels of a sampler."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from expint.numerics.float64 import as_float64
from expint.plans import Plan
from expint.plans.plan_files import PlanLike, fitting_plan
from expint.schedules import Schedule

_SAME = 1e-4  # relative difference within which levels in float32 are the plan's


def given_plan(
    plan: PlanLike | None,
    schedule: Schedule,
    sigmas: Tensor | Sequence[float] | None,
    s_noise: float,
    others: Mapping[str, Any],
) -> tuple[Plan | None, Tensor]:
    """The plan for a model of k-diffusion, if there is one, and the levels of the run.

    Args:
        plan: a plan, or the path, the text or the content of its file.
        schedule: the model's.
        sigmas: None, or the plan's levels, as programs pass them.
        s_noise, others: arguments that the plan fixes; refused unless they are 1 and None.

    Raises:
        ValueError: for them, for other levels, and for what `expint.sample` refuses.
    """
    if plan is None:
        return None, sigmas if isinstance(sigmas, Tensor) else as_float64(sigmas)
    beside = {**others, "s_noise": None if s_noise == 1.0 else s_noise}
    made = fitting_plan(plan, schedule, beside=beside)
    if sigmas is not None:
        levels = as_float64(sigmas).detach().cpu()
        same = levels.shape == made.grid.shape
        if not same or not torch.allclose(levels, made.grid, _SAME, 1e-9):
            known = ", ".join(f"{level:.6g}" for level in made.grid.tolist())
            raise ValueError(
                f"The plan has the sigmas {known}, and others came: pass these (plan.grid; in "
                "ComfyUI the node Plan Sigmas), or None."
            )
    return made, made.grid
