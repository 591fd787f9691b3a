"""The installed diffusers schedulers beside this library's solvers: the same network, the same
noise, the same result.

diffusers computes in single precision on purpose. Its runs are compared as they come, to 1e-4, and
once more with modules whose float32 means float64, to 1e-10. Conventions: a scheduler's integer
timesteps are times of `Discrete`, its table; an end at "zero" is time −1, at "sigma_min" time 0.
Schedulers in σ hold x/α. A step to σ = 0 is of first order here; the one scheduler that goes there
with its history (LMS) is compared before it.
"""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from torch import Tensor

from expint import sample, solvers
from expint.noise import Replay
from expint.schedules import EDM, Discrete, Schedule
from expint.solvers import (
    Method,
    Stage,
    Tableau,
    Term,
    deis,
    dpmpp_2m,
    dpmpp_3m_sde,
    ipndm,
    sa_solver,
    seeds2,
    seeds3b,
    seeds_ab,
    unipc,
)
from expint.targets import GaussianMixture

torch.set_num_threads(1)
# it loads its classes when they are asked for, so that nothing about them is declared
THEIRS: Any = diffusers
# The schedulers hand tensors to numpy, which finds that the methods of older torch lack arguments.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{start}:DeprecationWarning")
    for start in ("__array__ implementation", "__array_wrap__ must")
]

MEANS = [[1.0, -0.5, 0.3], [-0.8, 0.9, -1.1], [0.2, 0.1, 1.4]]
TOLERANCE = {"as shipped": 1e-4, "in double": 1e-10}
DTYPE = {"as shipped": torch.float32, "in double": torch.float64}
SCALED = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


class Widened:
    """A module in which float32 is float64."""

    def __init__(self, module: Any) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, "float64" if name == "float32" else name)


def widen(scheduler: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the scheduler, to be built afterwards, compute in double precision."""
    module = sys.modules[scheduler.__module__]
    for name, library in (("torch", torch), ("np", np)):
        monkeypatch.setattr(module, name, Widened(library), raising=False)


def feed(scheduler: Any, normals: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the scheduler draw `normals`, one after the other."""
    stream = iter(normals)

    def draw(shape: Any, dtype: Any = None, **_: Any) -> Tensor:
        return next(stream).to(dtype)

    monkeypatch.setattr(sys.modules[scheduler.__module__], "randn_tensor", draw, raising=False)


def random_numbers() -> tuple[Tensor, Tensor]:
    """The initial state and the noise of all steps."""
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randn(41, 4, 3, generator=generator, dtype=torch.float64)
    return numbers[0], numbers[1:]


Solver = str | Method | Callable[[Schedule, Sequence[float]], Method]


@dataclass(frozen=True)
class Case:
    """A scheduler with its settings, and what it is here; `other` is a near relative of the solver,
    which must differ.
    """

    scheduler: Any
    config: dict[str, Any]
    solver: Solver
    other: str | Method
    steps: int = 10
    end: float = -1.0
    options: dict[str, Any] = field(default_factory=dict)
    entries: Callable[[list[float]], list[float]] = lambda times: times
    to_the_end: bool = True


def run(
    case: Case, precision: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[Tensor, Callable[..., Tensor]]:
    """What the scheduler returns, and a function of a solver, and of a sign of the noise, that
    returns ours.
    """
    x, normals = random_numbers()
    if precision == "in double":
        widen(case.scheduler, monkeypatch)
    feed(case.scheduler, normals, monkeypatch)
    scheduler = case.scheduler(**case.config)
    scheduler.set_timesteps(case.steps)
    schedule = Discrete(scheduler.alphas_cumprod)
    target = GaussianMixture(MEANS, 0.3, [1.0, 2.0, 1.0], schedule)
    in_sigma = float(scheduler.init_noise_sigma) != 1.0

    def noise(state: Tensor, time: float) -> Tensor:
        exact = state.double()
        return ((exact - schedule.alpha(time) * target(exact, time)) / schedule.std(time)).to(
            state.dtype
        )

    times = scheduler.timesteps if case.to_the_end else scheduler.timesteps[:-1]
    state = (x / schedule.alpha(float(times[0])) if in_sigma else x).to(DTYPE[precision])
    eta = {"eta": case.options["eta"]} if "eta" in case.options else {}
    for t in times:
        output = noise(scheduler.scale_model_input(state, t), float(t))
        state = scheduler.step(output, t, state, **eta).prev_sample

    whole = sorted({float(t) for t in scheduler.timesteps if float(t).is_integer()}, reverse=True)
    grid = case.entries(whole) + ([case.end] if case.to_the_end else [])

    def ours(solver: Solver, sign: float = 1.0) -> Tensor:
        method = (
            solvers.get(solver) if isinstance(solver, str | Method) else solver(schedule, whole)
        )
        # As there: history also over the long last step of a table.
        method = replace(method, ratio_limit=math.inf)
        result = sample(
            target,
            x,
            method,
            grid=grid,
            noise=Replay(sign * normals),
            progress=False,
            **case.options,
        )
        return result / schedule.alpha(grid[-1]) if in_sigma else result

    return state.double(), ours


def in_groups(
    size: int, tableau: Callable[..., Tableau]
) -> Callable[[Schedule, Sequence[float]], Method]:
    """Of `size` steps on the table one step of ours: its inner nodes are where the table has
    them.
    """

    def build(schedule: Schedule, times: Sequence[float]) -> Method:
        lam = [schedule.lam(t) for t in times]
        steps = []
        for k in range(0, len(times) - size, size):
            inner = [
                Fraction((lam[k + i] - lam[k]) / (lam[k + size] - lam[k])) for i in range(1, size)
            ]
            steps.append(tableau(*inner))
        return Method(steps[0], ell=0.0, start_up=tuple(steps))

    return build


def third_order_step(c2: Fraction, c3: Fraction) -> Tableau:
    """c2 ← {0}; c3 with φ_1 alone, as in SEEDS-2; 1 ← {0, c3}."""
    share = c3**2 / (2 * c2)
    middle = Stage(c3, weights={0: (Term(c3 - share, 1, c3),), 1: (Term(share, 1, c3),)})
    return Tableau(
        "three stages", (Stage(c2, through=(0,)), middle, Stage(Fraction(1), through=(0, 2)))
    )


def half_each(c: Any, nodes: Sequence[Any]) -> list[list[Any]]:
    return [[Fraction(1, 2)], [Fraction(1, 2)]]


# PLMS: the first step is improved Euler, so that no pseudo Runge–Kutta steps are needed.
IMPROVED_EULER = Tableau(
    "improved Euler",
    (Stage(Fraction(1), through=(0,)), Stage(Fraction(1), through=(0, 1), basis=half_each)),
)
PLMS = replace(ipndm(), start_up=(IMPROVED_EULER,))
DPM_M, DPM_S = THEIRS.DPMSolverMultistepScheduler, THEIRS.DPMSolverSinglestepScheduler
TRAILING = {"timestep_spacing": "trailing"}


def _cases() -> dict[str, Case]:
    unclipped = {"clip_sample": False}
    large = {**unclipped, "variance_type": "fixed_large"}
    offset = {"steps_offset": 1, "set_alpha_to_one": False}
    cases = {
        "DDPM, small variance": Case(
            THEIRS.DDPMScheduler, unclipped, "ddpm", solvers.get("ddpm", variance="large")
        ),
        "DDPM, large variance": Case(
            THEIRS.DDPMScheduler, large, solvers.get("ddpm", variance="large"), "ddpm"
        ),
        "DDIM, scaled linear": Case(
            THEIRS.DDIMScheduler, {**unclipped, **offset, **SCALED}, "ddim", "dpmpp-2m", end=0.0
        ),
        "DPM++ 2M": Case(DPM_M, {}, "dpmpp-2m", "ddim"),
        "DPM++ 2M, scaled linear": Case(DPM_M, SCALED, "dpmpp-2m", seeds_ab(2, ell=0.0)),
        "DPM++ 2M heun": Case(DPM_M, {"solver_type": "heun"}, seeds_ab(2, ell=0.0), "dpmpp-2m"),
        "DPM++ 3M": Case(
            DPM_M,
            {"solver_order": 3, "solver_type": "heun"},
            replace(dpmpp_3m_sde(published=True), ell=0.0, lower_order_final=True),
            replace(dpmpp_3m_sde(), ell=0.0, lower_order_final=True),
        ),
        "DPM++ 2M to sigma_min, few steps": Case(
            DPM_M,
            {"final_sigmas_type": "sigma_min"},
            dpmpp_2m(lower_order_final=True),
            dpmpp_2m(),
            end=0.0,
            steps=5,
        ),
        "DPM++ 2M to sigma_min": Case(
            DPM_M, {"final_sigmas_type": "sigma_min"}, dpmpp_2m(), "ddim", end=0.0, steps=16
        ),
        "SDE-DPM++ 2M": Case(
            DPM_M, {"algorithm_type": "sde-dpmsolver++"}, "dpmpp-2m-sde", "seeds-1"
        ),
        "SDE-DPM++ 2M heun": Case(
            DPM_M,
            {"algorithm_type": "sde-dpmsolver++", "solver_type": "heun"},
            solvers.get("dpmpp-2m-sde", variant="heun"),
            "dpmpp-2m-sde",
        ),
        "singlestep 2": Case(
            DPM_S,
            {"lower_order_final": True},
            in_groups(2, seeds2),
            "dpmpp-2s",
            steps=11,
            entries=lambda t: t[::2],
        ),
        "singlestep 3": Case(
            DPM_S,
            {"lower_order_final": True, "solver_order": 3},
            in_groups(3, third_order_step),
            replace(solvers.get("seeds-3"), ell=0.0),
            entries=lambda t: t[::3],
        ),
        "singlestep 3 heun": Case(
            DPM_S,
            {"lower_order_final": True, "solver_order": 3, "solver_type": "heun"},
            in_groups(3, seeds3b),
            replace(solvers.get("seeds-3b"), ell=0.0),
            entries=lambda t: t[::3],
        ),
        "PNDM": Case(
            THEIRS.PNDMScheduler,
            {"steps_offset": 1},
            "pndm",
            ipndm(),
            end=0.0,
            entries=lambda times: [t for t in times if t % 100 == 1],
        ),
        "PLMS": Case(
            THEIRS.PNDMScheduler,
            {"steps_offset": 1, "skip_prk_steps": True},
            PLMS,
            ipndm(),
            end=0.0,
        ),
        "Euler": Case(
            THEIRS.EulerDiscreteScheduler, {"timestep_spacing": "leading"}, "ddim", "heun"
        ),
        "Euler to sigma_min": Case(
            THEIRS.EulerDiscreteScheduler,
            {**TRAILING, "final_sigmas_type": "sigma_min"},
            "ddim",
            "heun",
            end=0.0,
        ),
        "Euler ancestral": Case(
            THEIRS.EulerAncestralDiscreteScheduler, TRAILING, "euler-ancestral", "dpm2-ancestral"
        ),
        "Heun": Case(THEIRS.HeunDiscreteScheduler, TRAILING, "heun", "dpm-solver-2"),
        "DPM2": Case(THEIRS.KDPM2DiscreteScheduler, TRAILING, "dpm-solver-2", "heun"),
        "DPM2 ancestral": Case(
            THEIRS.KDPM2AncestralDiscreteScheduler, TRAILING, "dpm2-ancestral", "euler-ancestral"
        ),
        "LMS": Case(
            THEIRS.LMSDiscreteScheduler,
            TRAILING,
            "lms",
            seeds_ab(4, form="noise", ell=0.0),
            to_the_end=False,
        ),
    }
    for eta in (0.0, 0.5, 1.0):
        cases[f"DDIM, eta {eta:g}"] = Case(
            THEIRS.DDIMScheduler, unclipped, "ddim", "dpmpp-2m", options={"eta": eta}
        )
    for order in (1, 2, 3):
        scheduler, config = THEIRS.DEISMultistepScheduler, {"solver_order": order}
        clock = deis(order, variable="clock")
        other = deis(order, variable="time") if order > 1 else "dpmpp-2m"
        cases[f"DEIS {order}"] = Case(scheduler, config, clock, other, steps=16, end=0.0)
        cases[f"DEIS {order}, few steps"] = Case(
            scheduler,
            config,
            replace(clock, lower_order_final=True),
            clock if order > 1 else "dpmpp-2m",
            steps=5,
            end=0.0,
        )
        for variant, end in (("bh1", "sigma_min"), ("bh2", "sigma_min"), ("bh2", "zero")):
            cases[f"UniPC {order} {variant} to {end}"] = Case(
                THEIRS.UniPCMultistepScheduler,
                {"solver_order": order, "solver_type": variant, "final_sigmas_type": end},
                unipc(order, variant, lower_order_final=True),
                unipc(order, {"bh1": "bh2", "bh2": "bh1"}[variant], lower_order_final=True),
                end=-1.0 if end == "zero" else 0.0,
            )
    for predictor, corrector in ((1, 1), (1, 2), (2, 2), (3, 3), (3, 4)):
        cases[f"SA-Solver {predictor}, {corrector}"] = Case(
            THEIRS.SASolverScheduler,
            {"predictor_order": predictor, "corrector_order": corrector, "tau_func": lambda t: 0.6},
            sa_solver(predictor, corrector, 0.6, lower_order_final=True, few_steps=True),
            sa_solver(predictor, 0, 0.6, lower_order_final=True, few_steps=True),
            end=0.0,
        )
    noise_prediction = {"final_sigmas_type": "sigma_min", "predict_x0": False}
    cases["UniPC 2 of the noise"] = Case(
        THEIRS.UniPCMultistepScheduler,
        noise_prediction,
        unipc(2, lower_order_final=True),
        unipc(3, lower_order_final=True),
        end=0.0,
        options={"form": "noise"},
    )
    cases["SA-Solver 2, 2 of the noise"] = Case(
        THEIRS.SASolverScheduler,
        {"algorithm_type": "noise_prediction", "tau_func": lambda t: 0.3},
        sa_solver(2, 2, 0.3, lower_order_final=True),
        sa_solver(2, 3, 0.3, lower_order_final=True),
        end=0.0,
        steps=20,
        options={"form": "noise"},
    )
    return cases


CASES = _cases()


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("name", CASES)
def test_the_same_samples(name: str, precision: str, monkeypatch: pytest.MonkeyPatch):
    """Those of the solver, and not those of a near relative."""
    theirs, ours = run(CASES[name], precision, monkeypatch)
    tolerance = TOLERANCE[precision]
    torch.testing.assert_close(ours(CASES[name].solver), theirs, rtol=tolerance, atol=tolerance)
    if precision == "in double":
        assert (ours(CASES[name].other) - theirs).abs().max() > 1e-3


@pytest.mark.parametrize(
    "name",
    ["DDPM, small variance", "DDIM, eta 0", "DDIM, eta 0.5", "SDE-DPM++ 2M", "SA-Solver 3, 4"],
)
def test_the_noise_takes_part(name: str, monkeypatch: pytest.MonkeyPatch):
    """With the signs of the noise turned the samples are others, unless η = 0."""
    case = CASES[name]
    theirs, ours = run(case, "in double", monkeypatch)
    difference = (ours(case.solver, -1.0) - theirs).abs().max()
    assert difference < 1e-10 if case.options.get("eta") == 0.0 else difference > 1e-1


EDM_RUNS: dict[str, tuple[Any, dict[str, Any], str | Method, str]] = {
    "Euler": (THEIRS.EDMEulerScheduler, {}, "ddim", "heun"),
    "DPM++ 2M": (THEIRS.EDMDPMSolverMultistepScheduler, {}, "dpmpp-2m", "ddim"),
    "SDE-DPM++ 2M": (
        THEIRS.EDMDPMSolverMultistepScheduler,
        {"algorithm_type": "sde-dpmsolver++"},
        "dpmpp-2m-sde",
        "seeds-1",
    ),
    "DPM++ 3M": (
        THEIRS.EDMDPMSolverMultistepScheduler,
        {"solver_order": 3, "solver_type": "heun"},
        replace(dpmpp_3m_sde(published=True), ell=0.0, lower_order_final=True),
        "dpmpp-2m",
    ),
}


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("name", EDM_RUNS)
def test_edm_schedulers(name: str, precision: str, monkeypatch: pytest.MonkeyPatch):
    """Their grid of σ with EDM's preconditioning: the network's output is F, for which the
    scheduler forms c_skip x + c_out F.
    """
    kind, config, solver, other = EDM_RUNS[name]
    x, normals = random_numbers()
    if precision == "in double":
        widen(kind, monkeypatch)
    feed(kind, normals, monkeypatch)
    scheduler = kind(**config)
    scheduler.set_timesteps(10)
    schedule, sigma_data = EDM(), scheduler.config.sigma_data
    target = GaussianMixture(MEANS, 0.3, [1.0, 2.0, 1.0], schedule)
    x = x * float(scheduler.sigmas[0])
    state = x.to(DTYPE[precision])
    for t, sigma in zip(scheduler.timesteps, scheduler.sigmas[:-1].tolist(), strict=True):
        size = (sigma**2 + sigma_data**2) ** 0.5
        torch.testing.assert_close(scheduler.scale_model_input(state, t), state / size)
        exact = state.double()
        output = (
            (target(exact, sigma) - sigma_data**2 / size**2 * exact) * size / (sigma * sigma_data)
        )
        state = scheduler.step(output.to(state.dtype), t, state).prev_sample
    ours, another = (
        sample(
            target, x, each, grid=scheduler.sigmas.double(), noise=Replay(normals), progress=False
        )
        for each in (solver, other)
    )
    tolerance = TOLERANCE[precision]
    torch.testing.assert_close(ours, state.double(), rtol=tolerance, atol=tolerance)
    assert (another - state).abs().max() > 1e-3
