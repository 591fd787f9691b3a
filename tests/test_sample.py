"""`sample`: what it promises to a user who never sees a plan, and what it says before the first
network call.
"""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pairs import every_schedule_and_solver
from solver_kinds import KINDS
from toy_models import FunctionModel, Recorder, forbidden, mixture, wavy

from diffusion_adapters import VPAdapter
from expint import (
    Adaptive,
    compile_plan,
    execute,
    grids,
    plan_sampling,
    reverse_sde,
    sample,
    schedules,
    solvers,
)
from expint.defaults import grid as default_grid
from expint.equations.forms import EXPONENTIAL
from expint.noise import Gaussian, Rademacher, Replay, initial_state, per_sample
from expint.runs import Reparametrized
from expint.schedules import EDM, IDDPM, VP, Flow
from expint.targets import Gaussian as GaussianTarget

MODEL = mixture(VP())
every_solver = pytest.mark.parametrize("solver", KINDS)
QUIET = {"progress": False, "steps": 5}


@every_schedule_and_solver
def test_every_solver_on_every_schedule(name: str, solver: str):
    x = sample(mixture(schedules.get(name)), (4, 2), solver, progress=False)
    assert x.shape == (4, 2) and x.dtype == torch.float32 and (x.abs() < 2.5).all()


@every_solver
def test_is_the_plan_executed(solver: str):
    """Nothing happens in `sample` but compile, start and execute."""
    times = default_grid(VP(), 5, solvers.get(solver))
    plan = compile_plan(reverse_sde(VP(), "noise", 0.6), solver, times)
    seeds = per_sample(4, 3)
    start = initial_state(seeds, (2,), torch.float64) * VP().std(1.0)
    expected = execute(plan, MODEL, start, Gaussian(seeds))
    result = sample(
        MODEL, (3, 2), solver, form="noise", ell=0.6, seed=4, dtype=torch.float64, **QUIET
    )
    assert torch.equal(result, expected)
    assert torch.equal(
        sample(MODEL, start, solver, form="noise", ell=0.6, seeds=seeds, **QUIET), expected
    )
    assert torch.equal(
        sample(MODEL, start, solvers.get(solver), form="noise", ell=0.6, seed=4, **QUIET), expected
    )


@every_solver
@pytest.mark.parametrize("ell", [0.0, 1.0])
def test_deterministic_and_independent_of_the_batch(solver: str, ell: float):
    """Bitwise: sample i depends on seed i alone, or for one seed n on (n, i)."""
    model = wavy(VP())
    settings = {**QUIET, "ell": ell}
    whole, seeds = sample(model, (5, 3, 2), solver, seed=10, **settings), per_sample(10, 5)
    assert torch.equal(sample(model, (5, 3, 2), solver, seed=10, **settings), whole)
    assert torch.equal(sample(model, (2, 3, 2), solver, seed=10, **settings), whole[:2])
    assert torch.equal(sample(model, (2, 3, 2), solver, seeds=seeds[2:4], **settings), whole[2:4])
    later = sample(model, (2, 3, 2), solver, seed=10, start=3, **settings)
    assert torch.equal(later, whole[3:])
    part = sample(model, (2, 3, 2), solver, seeds=[seeds[4], seeds[1]], **settings)
    assert torch.equal(part, whole[[4, 1]])
    other = sample(model, (5, 3, 2), solver, seed=11, **settings)
    assert not any(torch.equal(a, b) for a in other for b in whole)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-5), (torch.float16, 0.01), (torch.bfloat16, 0.1)]
)
@pytest.mark.parametrize("solver", ["seeds-3", "seeds-sra", "unipc-3"])
def test_one_seed_has_one_sample_in_all_dtypes(solver: str, dtype: torch.dtype, tolerance: float):
    """To their precision, over 8 steps: draws of their own would differ by about 3."""
    model = GaussianTarget([0.5, -1.0], [0.25, 1.0], VP())
    settings = {"progress": False, "steps": 8, "seed": 3}
    x, y = (sample(model, (50, 2), solver, dtype=d, **settings) for d in (torch.float32, dtype))
    assert y.dtype == dtype and (x.double() - y.double()).abs().max() < tolerance


@pytest.mark.parametrize(
    "settings",
    [
        {"steps": Adaptive(rtol=0.1, atol=0.1), "solver": "seeds-12"},
        {"steps": 5, "operations": [solvers.churn(5.0)], "solver": "seeds-2"},
        {"steps": 5, "noise": Rademacher(per_sample(4, 5)[3:4]), "solver": "seeds-2"},
    ],
)
def test_one_sample_of_a_run_is_that_of_its_own_seed(settings: dict[str, Any]):
    own = {"seeds": per_sample(4, 5)[3:4]}
    one, same = (
        sample(MODEL, (1, 2), progress=False, **settings, **seeds)
        for seeds in ({"seed": 4, "start": 3}, own)
    )
    assert torch.equal(one, same)


def test_global_random_state_is_left_alone():
    before = torch.random.get_rng_state()
    sample(MODEL, (2, 2), **QUIET)
    assert torch.equal(torch.random.get_rng_state(), before)
    first = sample(MODEL, (2, 2), **QUIET)
    torch.manual_seed(123)
    assert torch.equal(sample(MODEL, (2, 2), **QUIET), first)
    torch.random.set_rng_state(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_dtype(dtype: torch.dtype):
    x = sample(MODEL, (2, 2), dtype=dtype, **QUIET)
    assert x.dtype == dtype
    assert sample(MODEL, torch.ones(2, 2, dtype=dtype), **QUIET).dtype == dtype
    assert sample(MODEL, torch.ones(2, 2), dtype=torch.float64, **QUIET).dtype == torch.float64


def test_result_is_an_ordinary_tensor():
    weight = torch.ones(2, requires_grad=True)
    x = sample(FunctionModel(VP(), "data", lambda x, t: weight * torch.tanh(x)), (3, 2), **QUIET)
    assert not x.requires_grad and not x.is_inference() and weight.grad is None
    (x.requires_grad_(True) ** 2).sum().backward()  # may enter a later computation
    x.detach().add_(1.0)


def test_the_given_state_is_not_changed():
    x = torch.ones(2, 2)
    sample(MODEL, x, **QUIET)
    assert torch.equal(x, torch.ones(2, 2))


@every_solver
@pytest.mark.parametrize("final", grids.FINALS)
@pytest.mark.parametrize("schedule", [VP(), Flow()], ids=["vp", "flow"])
@pytest.mark.parametrize("nfe", [6, 9, 20, 31])
def test_nfe_is_a_budget_that_is_used_up(solver: str, final: str, schedule: VP, nfe: int):
    """The most steps within the budget: one step more would exceed it."""
    model = Recorder(wavy(schedule))
    sample(model, (1, 2), solver, nfe=nfe, final=final, progress=False)
    evaluations = solvers.get(solver).tableau.evaluations
    assert nfe - evaluations < len(model.times) <= nfe
    plan = plan_sampling(schedule, solver, nfe=nfe, final=final)
    assert plan.nfe == len(model.times)
    assert plan_sampling(schedule, solver, steps=plan.steps + 1, final=final).nfe > nfe


@every_solver
def test_callback_and_progress_bar(solver: str, capsys: pytest.CaptureFixture[str]):
    seen: list[tuple[int, int, float]] = []
    settings = {
        "steps": 4,
        "callback": lambda step, nfe, t, x, d: seen.append((step, nfe, t, x.shape, d.shape)),
    }
    with_bar = sample(MODEL, (2, 2), solver, progress=True, **settings)
    plan = plan_sampling(VP(), solver, steps=4)
    err = capsys.readouterr().err
    assert solver in err and f"{plan.nfe}/{plan.nfe}" in err
    calls = [sum(row.evaluates for row in plan.rows[: i + 1]) for i in range(len(plan.rows))]
    ends = [
        (row.step + 1, calls[i], row.target, (2, 2), (2, 2))
        for i, row in enumerate(plan.rows)
        if plan.ends_step[i]
    ]
    assert seen == ends
    seen.clear()
    without = sample(MODEL, (2, 2), solver, progress=False, **settings)
    assert seen == ends and capsys.readouterr().err == "" and torch.equal(with_bar, without)


@pytest.mark.parametrize("kind", [list, tuple, torch.tensor])
def test_grid_of_times(kind: Callable[[list[float]], Any]):
    model = Recorder(wavy(VP()))
    sample(model, (1, 2), "seeds-1", grid=kind([0.9, 0.5, 0.1]), progress=False)
    assert model.times == pytest.approx([0.9, 0.5], rel=1e-7)


@pytest.mark.parametrize("name", ["uniform_time", "uniform_lambda", "karras"])
def test_grid_by_name(name: str):
    model = Recorder(wavy(VP()))
    sample(model, (1, 2), "seeds-1", grid=name, steps=6, progress=False)
    assert model.times == grids.get(name)(VP(), 6)[:-1].tolist()


def test_other_noise_sources():
    for source in (Rademacher([1, 2]), Replay(torch.zeros(100, 2, 2)), Gaussian([1, 2])):
        assert torch.isfinite(sample(MODEL, (2, 2), noise=source, **QUIET)).all()
    noisy = {**QUIET, "seed": 1, "ell": 1.0}
    same = sample(MODEL, (2, 2), noise=Gaussian(per_sample(1, 2)), **noisy)
    assert torch.equal(same, sample(MODEL, (2, 2), **noisy))


def test_samples_have_the_law_of_the_data():
    """n = 4000, 5 sigma: mean and variance of Gaussian data in each coordinate."""
    n, target = 4000, GaussianTarget([1.0, -2.0], [0.25, 1.0], EDM())
    x = sample(target, (n, 2), "seeds-3", steps=40, progress=False, dtype=torch.float64)
    assert ((x.mean(0) - target.mean).abs() < 5 * torch.sqrt(target.variances / n)).all()
    assert ((x.var(0) / target.variances - 1).abs() < 5 * math.sqrt(2 / n)).all()


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
@pytest.mark.filterwarnings("ignore::FutureWarning:torch")
def test_compiled_model_gives_the_same_samples():
    model = FunctionModel(VP(), "data", lambda x, t: torch.tanh(x) * torch.exp(-t).to(x.dtype))
    plain = sample(model, (2, 2), **QUIET)
    assert torch.equal(sample(model, (2, 2), compile="eager", **QUIET), plain)
    torch.compiler.reset()


def test_rounding_model_is_called_at_entries_of_its_table():
    schedule = IDDPM(400)
    model = Recorder(wavy(schedule))
    model.round_time = schedule.round  # type: ignore[attr-defined]
    sample(model, (1, 2), "seeds-3", grid="discrete", steps=6, progress=False)
    assert len(model.times) == 16 and all(t == round(t) for t in model.times)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"solver": "seed3"}, ValueError, r"Unknown solver 'seed3'; nearest: \['seeds-3"),
        ({"solver": 3}, TypeError, "A solver is a name, a Method or a Tableau, got int"),
        ({"form": "dat"}, ValueError, r"Unknown form 'dat'; nearest: \['data'"),
        ({"form": "precond"}, ValueError, r"needs sigma_data > 0"),
        ({"grid": "karass"}, ValueError, r"Unknown grid 'karass'; nearest: \['karras'"),
        ({"grid": [0.5, 0.7, 0.1]}, ValueError, r"grid\[0\] = 0\.5 and grid\[1\] = 0\.7"),
        ({"grid": [1.5, 0.7, 0.1]}, ValueError, r"grid\[0\] = 1\.5 is outside the domain"),
        (
            {"grid": [0.7, 0.1], "steps": 4},
            ValueError,
            r"fixes the number of steps: leave out steps",
        ),
        ({"grid": [0.7, 0.1], "nfe": 4}, ValueError, r"leave out nfe"),
        ({"grid": "discrete"}, ValueError, r"needs a tabulated schedule"),
        ({"ell": -1.0}, ValueError, r"must be a finite number >= 0, got -1\.0"),
        ({"steps": 1}, ValueError, r"needs an integer steps >= 2, got 1"),
        ({"steps": 0, "final": "none"}, ValueError, r"steps >= 1, got 0"),
        (
            {"steps": 4, "nfe": 4},
            ValueError,
            r"either steps or nfe, not both: got steps=4 and nfe=4",
        ),
        (
            {"nfe": 3, "solver": "seeds-3"},
            ValueError,
            r"nfe=3 is too small for 'seeds-3': .* nfe must be at least 4.*'seeds-1'",
        ),
        ({"nfe": 2.5}, ValueError, r"nfe must be an integer, got 2\.5"),
        ({"final": "zero"}, ValueError, r"Unknown final='zero'"),
        ({"seeds": [1, 2]}, ValueError, r"2 seeds came for a batch of 3"),
        ({"seed": -1}, ValueError, r"0 <= seed < 2\*\*64, got -1"),
        ({"seed": True}, TypeError, r"got True"),
        ({"noise": Gaussian([1])}, ValueError, r"1 seeds came for a state of shape \(3, 2\)"),
        ({"noise": Replay(torch.zeros(2, 3, 2))}, ValueError, r"but Replay holds 2"),
        ({"shape": (0, 2)}, ValueError, r"positive integers, or an initial state; got \(0, 2\)"),
        ({"shape": ()}, ValueError, r"got \(\)"),
        ({"shape": (2**40, 2)}, ValueError, "draw the samples in batches"),
        ({"shape": torch.zeros(0, 2)}, ValueError, r"got shape \(0, 2\)"),
        ({"steps": 10**7}, ValueError, "at most 100000 steps"),
        ({"shape": (2.0, 2)}, ValueError, r"got \(2\.0, 2\)"),
        ({"shape": torch.tensor([[math.nan, 1.0]])}, ValueError, r"NaN or infinity in 1 of 2"),
        (
            {"shape": torch.ones(3, 2, dtype=torch.int32)},
            TypeError,
            r"floating-point tensor .* dtype torch\.int32",
        ),
        ({"dtype": torch.int64}, TypeError, r"floating-point type, got torch\.int64"),
        ({"dtype": torch.float8_e5m2}, TypeError, r"got torch\.float8_e5m2: of 16 bits"),
        ({"noise": Gaussian}, TypeError, "noise is a noise source"),
        ({"device": "meta"}, ValueError, "device='meta'"),
        ({"device": "nowhere"}, ValueError, "Cannot use device='nowhere'"),
    ],
)
def test_settings_that_are_refused_before_the_first_evaluation(
    settings: dict[str, object], error: type[Exception], message: str
):
    call = {"shape": (3, 2), "progress": False, **settings}
    with pytest.raises(error, match=message):
        sample(forbidden(VP()), **call)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (
            lambda x, t: x,
            TypeError,
            r"attributes `schedule` .* and `prediction`, got function with schedule None",
        ),
        (forbidden("vp"), TypeError, r"got FunctionModel with schedule 'vp'"),  # type: ignore[arg-type]
        (VP(), TypeError, r"got VP"),
        (forbidden(VP(), "eps"), ValueError, r"Unknown prediction 'eps'"),
        (forbidden(VP(), "precond"), ValueError, r"own sigma_data > 0, got None"),
    ],
)
def test_models_that_are_refused_before_the_first_evaluation(
    model: object, error: type[Exception], message: str
):
    with pytest.raises(error, match=message):
        sample(model, (3, 2), progress=False)


@pytest.mark.parametrize("form", EXPONENTIAL)
def test_form_takes_sigma_data_from_the_model(form: str):
    model = Reparametrized(MODEL, "precond", 0.4)
    expected = execute(
        compile_plan(
            reverse_sde(VP(), form, 1.0, sigma_data=0.4),
            "seeds-2",
            default_grid(VP(), 5, solvers.get("seeds-2")),
        ),
        model,
        initial_state(per_sample(0, 2), (2,), torch.float64) * VP().std(1.0),
        Gaussian(per_sample(0, 2)),
    )
    assert torch.equal(
        sample(model, (2, 2), "seeds-2", form=form, dtype=torch.float64, **QUIET), expected
    )


def test_a_reparametrized_table_is_still_called_at_its_entries():
    calls: list[list[float]] = [[], []]
    for seen, wrap in zip(calls, (lambda m: m, lambda m: Reparametrized(m, "data")), strict=True):

        def network(x: torch.Tensor, t: torch.Tensor, seen: list[float] = seen) -> torch.Tensor:
            seen.append(float(t[0]))
            return 0.1 * x

        adapter = VPAdapter(network, schedules.Discrete(), timesteps="round")
        sample(wrap(adapter), (3, 2), "seeds-1", steps=3, progress=False)
    assert calls[0] == calls[1] and len(calls[0]) == 3
