"""`expint.sample` of models in phase space: the law of the samples, what they are a function of,
the number of evaluations, and what is refused before the first of them."""

from typing import Any

import pytest
import torch
from torch import Tensor

import expint
from diffusion_adapters import CLDAdapter, cfg, inpaint, runs, threshold
from diffusion_adapters.k_diffusion import sample_expint
from diffusion_adapters.shipped.image_quality import EveryClass
from expint import Adaptive, likelihoods, noise, schedules, solvers, targets
from expint.phase_space import Mixture
from expint.phase_space_samples import GRIDS, plan_phase_space
from expint.schedules import CLD

PROCESS = CLD()
ANYTHING: Any = torch.sum  # what is not reached


def model(mean: float = 0.7, std: float = 0.5, calls: list[float] | None = None) -> CLDAdapter:
    """The denoiser of Gaussian data of two entries, which counts its calls."""
    target = Mixture([[mean, -mean]], std, PROCESS)

    def net(u: Tensor, t: Tensor) -> Tensor:
        if calls is not None:
            calls.append(float(t[0]))
        return target(u.unflatten(1, (2, 2)), t[0])[:, 0].to(u)

    return CLDAdapter(net, PROCESS, output="data")


def draw(*arguments: Any, calls: list[float] | None = None, **options: Any) -> Tensor:
    return expint.sample(model(calls=calls), *arguments, progress=False, **options)


@pytest.mark.parametrize(("form", "ell"), [("data", 1.0), ("noise", 0.0), ("score", 0.0)])
def test_the_law_of_the_samples(form: str, ell: float):
    """40 steps of seeds-2, 2,000 samples of two entries. The mean has a standard deviation of .008,
    their standard deviation one of .0056: 5 of them, and .01 for the steps."""
    x = draw((2000, 2), "seeds-2", steps=40, form=form, ell=ell, grid="root")
    x = x * torch.tensor([1.0, -1.0])
    assert abs(x.mean() - 0.7) < 5 * 0.008 + 0.01 and abs(x.std() - 0.5) < 5 * 0.0056 + 0.01


@pytest.mark.parametrize(
    ("solver", "grid"),
    [("seeds-2", "default"), ("seeds-3", "default"), *(("seeds-ab2", grid) for grid in GRIDS)],
)
@pytest.mark.parametrize("final", ["denoise", "none"])
def test_no_more_evaluations_than_asked_for(solver: str, final: str, grid: str):
    calls: list[float] = []
    stages = solvers.get(solver).tableau.evaluations
    x = draw((2, 2), solver, nfe=12, final=final, grid=grid, calls=calls)
    assert x.shape == (2, 2) and 12 - stages < len(calls) <= 12
    assert calls[0] == 1.0 and all(t > 0 for t in calls)


def test_steps_count_the_denoising_and_are_by_default_those_of_all_models():
    for options, count in (({}, expint.defaults.STEPS), ({"steps": 7}, 7)):
        calls: list[float] = []
        draw((2, 2), calls=calls, **options)
        assert len(calls) == count
    assert draw((2, 2), grid=[1.0, 0.4, 0.1]).shape == (2, 2)


def test_a_sample_is_a_function_of_the_run_and_its_place():
    whole = draw((5, 2), seed=3, steps=6)
    assert torch.equal(whole[2:], draw((3, 2), seed=3, start=2, steps=6))
    assert not torch.equal(whole, draw((5, 2), seed=4, steps=6))
    seeds = noise.per_sample(3, 5)
    assert torch.equal(whole, draw((5, 2), seeds=seeds, steps=6))
    state = noise.initial_state(seeds, (2, 2), torch.float32)
    state[:, 1] *= 0.5  # √M
    assert torch.equal(whole, draw(state, noise=noise.Gaussian(seeds), steps=6))
    assert draw((2, 2), dtype=torch.float64).dtype == torch.float64


def test_the_default_grid_leaves_the_last_angle_to_denoising():
    """Equal steps of arctan e^{−λ}, from stop on."""
    angles = torch.atan(torch.exp(-PROCESS.lam(plan_phase_space(PROCESS, steps=9).grid)))
    torch.testing.assert_close(angles.diff(), angles.diff()[:1].expand(8), rtol=1e-6, atol=0)
    torch.testing.assert_close(angles[-1], -angles.diff()[0], rtol=1e-6, atol=0)


def test_a_callback_sees_states_with_their_velocities():
    seen = []
    draw((3, 2), steps=4, callback=lambda step, nfe, t, u, denoised: seen.append((step, u.shape)))
    assert seen == [(i, (3, 2, 2)) for i in (1, 2, 3)]


@pytest.mark.parametrize(
    ("solver", "form", "ell"),
    [("ddim", "data", 0), ("sa-solver", "data", 1), ("deis-tab2", "noise", 0),
     ("euler-maruyama", "drift", 1)],
)  # fmt: skip
def test_a_solver_brings_its_form_and_its_noise(solver: str, form: str, ell: float):
    own = plan_phase_space(PROCESS, solver, steps=6)
    assert own.sde.name == f"reverse CLD, {form} form, ell={ell}"
    given = plan_phase_space(PROCESS, solver, steps=6, form="data", ell=0.5)
    assert given.sde.name == "reverse CLD, data form, ell=0.5"
    x = draw((2, 2), solver=solver, steps=6, dtype=torch.float64)
    same = draw((2, 2), solver=solver, steps=6, form=form, ell=ell, dtype=torch.float64)
    assert torch.equal(x, same)


REFUSED = [
    ({"eta": 0.5}, "eta does not go with CLD"),
    ({"noise_scale": "er-sde"}, "noise_scale does not go with CLD"),
    ({"operations": [solvers.operation("churn(s_churn=40)")]}, "operations does not go with CLD"),
    ({"steps": Adaptive()}, "steps is a whole number"),
    ({"frame": lambda step, x: x}, "frame does not go with CLD"),
    ({"plan": "a.json"}, "plan does not go with CLD"),
    ({"steps": 5, "nfe": 5}, "either steps or nfe"),
    ({"nfe": 1}, "nfe is a whole number >= 2"),
    ({"steps": 1}, "steps is a whole number >= 2"),
    ({"steps": 2.5}, "steps is a whole number"),
    ({"grid": "karras"}, "grid must be one of"),
    ({"grid": [1.0, 0.1], "steps": 2}, "leave out steps"),
    ({"grid": [1.0, 0.0]}, "end must lie between 0 and 1"),
    ({"grid": [0.1, 0.5]}, "outside the span from 0.5 to 1"),
    ({"form": "precond"}, "Unknown form"),
    ({"ell": -1.0}, "ell must be"),
    ({"ell": [1.0, 0.5]}, "ell must be"),
    ({"final": "later"}, "final must be one of"),
    ({"solver": "er-sde-1"}, "noise that 'er-sde-1' comes with"),
    ({"solver": "heun"}, "form 'sigma'.*give form, for example 'data'"),
    ({"solver": "seeds-9"}, "Unknown solver"),
    ({"noise": noise.BrownianPath(range(2))}, "no scalar noise time"),
    ({"shapes": (2, 2)}, "Unknown option 'shapes'"),
    ({"dtype": torch.int64}, "dtype"),
    ({"device": "nowhere"}, "nowhere"),
    ({"seeds": [1]}, "one seed per sample"),
]


@pytest.mark.parametrize(
    ("options", "message"), REFUSED, ids=[f"{i}-{'-'.join(o)}" for i, (o, _) in enumerate(REFUSED)]
)
def test_what_does_not_fit_is_refused_before_the_first_call(options: Any, message: str):
    calls: list[float] = []
    with pytest.raises((ValueError, TypeError), match=message):
        draw((2, 2), calls=calls, **options)
    assert not calls


def test_initial_states_have_a_velocity():
    with pytest.raises(ValueError, match=r"\(batch, 2, \*event\).*got \(4, 3, 2\)"):
        draw(torch.zeros(4, 3, 2))


@pytest.mark.parametrize(
    "use",
    [
        lambda own: likelihoods.log_likelihood(own, torch.zeros(2, 2)),
        lambda own: expint.tune(own, 5),
        lambda own: expint.second_moment(own, torch.zeros(2, 2), seed=0),
        lambda own: expint.begin_sampling(own, (2, 2), steps=3),
        lambda own: expint.rollout(own, (2, 2), steps=3),
        lambda own: expint.encode(own, torch.zeros(2, 2), steps=3),
        lambda own: expint.invert(own, torch.zeros(2, 2), steps=3),
        lambda own: expint.mmse_curve(own, torch.zeros(2, 2)),
        lambda own: expint.stiffness(own, torch.zeros(2, 2)),
        lambda own: expint.particles(own, (2, 2), ANYTHING, steps=3),
        lambda own: runs.draw(own, 2, out="never-made", shape=(2,)),
        lambda own: cfg(own, 2.0),
        lambda own: inpaint(own, torch.zeros(2), torch.zeros(2)),
        lambda own: threshold(own),
        lambda own: EveryClass("digits-cld"),
    ],
)
def test_elsewhere_models_in_phase_space_are_refused_with_the_way_out(use: Any):
    calls: list[float] = []
    with pytest.raises(TypeError, match=r"schedules\.CLD, whose state has a velocity"):
        use(model(calls=calls))
    assert not calls


def test_a_state_without_velocity_is_refused_where_nothing_asks_for_the_schedule():
    calls: list[float] = []
    with pytest.raises(ValueError, match=r"\(batch, 2, \*event\).*got \(4, 3, 2\)"):
        sample_expint(model(calls=calls), torch.zeros(4, 3, 2), torch.tensor([10.0, 5.0, 0.0]))
    process: Any = PROCESS
    for make in (lambda: expint.plan_sampling(process, nfe=5), lambda: expint.reverse_sde(process)):
        with pytest.raises(TypeError, match=r"schedule is an .*Schedule such as .* got CLD"):
            make()
    assert not calls


def test_models_of_scalar_schedules_go_their_own_way():
    target = targets.Gaussian([0.0, 0.0], [1.0, 1.0], schedules.VP())
    assert expint.sample(target, (2, 2), steps=4, progress=False).shape == (2, 2)
