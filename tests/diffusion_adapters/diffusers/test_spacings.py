"""Grids of a scheduler that replaces another one: near its spacing."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from expint import defaults, grids

THEIRS = pytest.importorskip("diffusers")

from diffusion_adapters.diffusers import ExpIntScheduler  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

BETAS: dict[str, Any] = {"beta_schedule": "scaled_linear", "beta_start": 0.00085}
SD = {**BETAS, "beta_end": 0.012, "steps_offset": 1}


@pytest.mark.parametrize("betas", [{}, SD], ids=["linear", "scaled linear"])
@pytest.mark.parametrize("final", ["denoise", "none"])
@given(spacing=st.sampled_from(grids.SPACINGS), steps=st.integers(2, 40))
@settings(max_examples=5, deadline=None)
def test_the_levels_are_within_half_a_step(betas: Any, final: str, spacing: str, steps: int):
    """Whole entries of the table, each lower than the one before; nearer to the default grid than
    the spacing's are, and at it where that is within half a step."""
    count = steps + (final == "none")
    ours = ExpIntScheduler(grid=f"like_{spacing}", final=final, **betas)
    theirs = ExpIntScheduler(grid=spacing, final=final, **betas)
    default = ExpIntScheduler(final=final, **betas)
    for each in (ours, theirs, default):
        each.set_timesteps(steps)
    found, near, own = (each._plan.grid[:count] for each in (ours, theirs, default))
    assert torch.equal(found, found.round()) and bool((found.diff() < 0).all())
    assert found[0] == own[0]
    half = -near.diff(append=2 * near[-1:] - near[-2]) / 2
    assert bool(((found - near).abs() <= half)[1:].all())
    assert bool((((found - own).abs() <= (near - own).abs()) | (found == own))[1:].all())
    within = (own - near).abs() <= half - 1.0
    assert torch.equal(found[within], own[within])


@pytest.mark.parametrize("strength", [0.75, 0.5, 0.25])
@pytest.mark.parametrize("steps", [5, 8, 20])
@pytest.mark.parametrize("spacing", grids.SPACINGS)
def test_a_strength_begins_at_about_the_level_of_eulers(spacing: str, steps: int, strength: float):
    theirs = THEIRS.EulerDiscreteScheduler(timestep_spacing=spacing, **SD)
    ours = ExpIntScheduler.from_config(theirs.config)
    for each in (theirs, ours):
        each.set_timesteps(steps)
    first = steps - int(steps * strength)
    levels = theirs.timesteps.double()
    half = 0.5 * float(levels[0] - levels[1])
    assert abs(float(ours.timesteps[first * ours.order]) - float(levels[first])) <= half + 1e-6


def test_where_a_solver_is_named_the_levels_are_exactly_those():
    config = THEIRS.DDIMScheduler(timestep_spacing="leading").config
    assert ExpIntScheduler.from_config(config, solver="seeds-1").config["grid"] == "leading"
    swapped = ExpIntScheduler.from_config(config)
    assert swapped.config["grid"] == "like_leading"
    assert ExpIntScheduler.from_config(swapped.config).config["grid"] == "like_leading"
    assert ExpIntScheduler.from_config(config, grid=None).config["grid"] is None


def test_by_numbers():
    """8 steps on the linear table, UniPC's spacing 142.7 apart: to within 70 of it."""
    scheduler = ExpIntScheduler.from_config(THEIRS.UniPCMultistepScheduler().config)
    scheduler.set_timesteps(8)
    own = defaults.grid(scheduler._schedule, 8, table=True)[:-1].tolist()
    near = torch.linspace(999, 0, 8).round().tolist()
    pairs = zip(own[1:], near[1:], strict=True)
    expected = [own[0], *(min(max(mine, level - 70), level + 70) for mine, level in pairs)]
    assert scheduler.timesteps.tolist() == pytest.approx(expected, abs=1.0)
    assert scheduler.timesteps[-1] > 50  # where that spacing's last evaluation is at 0
