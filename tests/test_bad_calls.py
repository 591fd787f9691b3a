"""A thousand generated bad calls: each argument of each entrance, one value at a time that it
cannot take. Each is refused by this package itself, before the first evaluation, in words."""

import math
import traceback
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import expint
from expint import SemiLinearSDE, grids, noise, schedules, solvers
from expint.equations import noise_scales
from expint.targets import Empirical, Gaussian, GaussianMixture

OURS = tuple(str(Path(__file__).parents[1] / name) for name in ("expint", "diffusion_adapters"))
EDM, VP = schedules.EDM(), schedules.VP()
TARGET = Gaussian([0.5], [0.25], EDM)


class Model:
    """Counts its evaluations."""

    schedule, prediction = EDM, "data"
    calls = 0

    def __call__(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        Model.calls += 1
        return 0.5 * x


class Odd:
    def __repr__(self) -> str:
        return "<something else>"


NAN, INF = math.nan, math.inf
ODD = [Odd(), object, {}, {"a": 1}, b"x", 1j, {1, 2}]
# Values that no argument of a kind can take.
NO_NUMBER = ["x", "", [1.0, 2.0], NAN, torch.ones(2), np.ones(3), *ODD]
POSITIVE = [*NO_NUMBER, -1.0, 0.0, INF, -INF]
NOT_NEGATIVE = [*NO_NUMBER, -1.0, -1e-9, INF, -INF, True, "1"]
COUNT = [*NO_NUMBER, -1, 0, 1.5, INF, True, 10**12, Fraction(1, 2)]
NAME = ["no such name", "", "seeds_3 ", 3, 1.5, NAN, [], ["seeds-3"], torch.ones(1), *ODD]
SEED = ["x", "", 1.5, -1, 2**64, NAN, [0, -1], [0.5, 1.5], [[1, 2]], ["a", "b"], True, *ODD]
SHAPE = [(), (0, 2), (-1, 2), (2.5, 2), ("a", 2), (4, NAN), 0, 1.5, "x", None, [True, 2], *ODD]
STATE = [
    torch.ones(()), torch.ones(4, 1).long(), torch.ones(4, 1) > 0, torch.full((4, 1), NAN),
    torch.full((4, 1), INF), torch.ones(4, 1, dtype=torch.uint8),
]  # fmt: skip
GRID = [
    [], [1.0], [1.0, 1.0], [0.1, 1.0], [1.0, NAN], [INF, 1.0], [[80.0, 1.0]], "no grid", 3, 1.5,
    [80.0, "x"], [80.0, -5.0], torch.ones(2, 2), torch.tensor([1.0, 80.0]), [80.0, 1.0, 1.0], *ODD,
]  # fmt: skip
DTYPE = ["float32", torch.int32, torch.bool, float, 32, torch.complex64, Odd()]
CALLABLE = [3, "x", [1.0], torch.ones(2)]
MODEL = [None, 3, "x", lambda x, t: x, torch.nn.Linear(1, 1), Odd(), [Model()]]
SOURCE = [3, "x", [1, 2], noise.Gaussian, torch.Generator(), Odd(), torch.ones(4, 1)]
POSITIVE_PAIR = [(1.0,), (1.0, 0.5), (NAN, 1.0), "ab", 3, None, (1.0, 2.0, 3.0), (0.0, 0.0)]


def without(values: list[Any], number: float) -> list[Any]:
    return [v for v in values if not (isinstance(v, (int, float)) and v == number)]


def good_sample(**changed: Any) -> Any:
    options: dict[str, Any] = {
        "model": Model(), "shape": (4, 1), "solver": "seeds-3", "steps": 5, "progress": False
    } | changed  # fmt: skip
    return expint.sample(**options)


Entrance = tuple[str, Callable[..., Any], dict[str, list[Any]]]
ENTRANCES: list[Entrance] = [
    (
        "sample",
        good_sample,
        {
            "model": MODEL,
            "shape": [*SHAPE, *STATE],
            "solver": NAME,
            "steps": COUNT,
            "form": NAME,
            "ell": [
                *without(NOT_NEGATIVE, INF),
                [1.0, -1.0, 1.0, 1.0],
                [1.0, NAN, 1.0, 1.0],
                torch.ones(3, 1, 2),
            ],
            "noise": SOURCE,
            "callback": CALLABLE,
            "frame": CALLABLE,
            "dtype": DTYPE,
            "noise_scale": ["x", 3, NAN, [1.0]],
            "final": NAME,
            "operations": [3, ["churn"], [Odd()], "churn"],
            "device": ["no device", "cuda:77", 3.5, Odd()],
        },
    ),
    ("sample nfe", lambda **k: good_sample(steps=None, **k), {"nfe": COUNT, "grid": GRID}),
    ("sample eta", lambda **k: good_sample(**k), {"eta": [-1.0, NAN, "x", 5.0, [0.1] * 5, Odd()]}),
    (
        "reverse_sde",
        lambda **k: expint.reverse_sde(**{"schedule": EDM} | k),
        {
            "form": NAME,
            "ell": without(NOT_NEGATIVE, INF),
            "schedule": [None, 3, "edm", EDM.sigma, Odd()],
            "noise_scale": ["x", 3, NAN, [1.0], lambda s: -s, lambda s: 0 * s],
        },
    ),
    ("precond", lambda **k: expint.reverse_sde(EDM, "precond", **k), {"sigma_data": POSITIVE}),
    (
        "compile_plan",
        lambda **k: expint.compile_plan(
            **{"sde": expint.reverse_sde(EDM), "solver": "seeds-3", "grid": [80.0, 1.0, 0.1]} | k
        ),
        {"sde": [None, 3, EDM, "data", Odd()], "solver": NAME, "grid": GRID},
    ),
    (
        "from_coefficients",
        lambda **k: SemiLinearSDE.from_coefficients(
            **{"A": -1.0, "b": 1.0, "g": 0.5, "span": (0.0, 1.0)} | k
        ),
        {
            "A": ["x", "1/0", "t+", NAN, INF, lambda t: "x", [[1.0], [2.0, 3.0]], {}, Odd(), 1j],
            "b": ["y*t", NAN, lambda t: t - 0.5, {}, Odd(), 1j],
            "g": ["q", NAN, INF, {}, Odd(), 1j],
            "span": [(0.0, 0.0), (0.0, NAN), (0.0, INF), 3, None, "ab", (0.0, 1.0, 2.0), (0.0,)],
            "clock": NAME,
            "clock_start": [-1.0, 0.0, NAN, "x"],
        },
    ),
    (
        "integrate",
        lambda **k: expint.integrate(
            **{
                "sde": SemiLinearSDE.from_coefficients(-1.0, span=(0.0, 1.0)),
                "F": lambda x, t: x,
                "x": torch.ones(2, 1),
                "grid": [0.0, 0.5, 1.0],
                "solver": "seeds-2",
            }
            | k
        ),
        {
            "sde": [None, 3, EDM, Odd()],
            "F": CALLABLE,
            "x": STATE,
            "solver": NAME,
            "grid": [[], [1.0], [1.0, 0.0], [0.0, NAN], [0.0, 5.0], 3, "x", [[0.0, 1.0]], Odd()],
        },
    ),
    (
        "phi",
        lambda **k: expint.phi(**{"k": 1, "z": 0.5} | k),
        {
            "k": [-1, 1.5, "x", True, None, 10**6, NAN, *ODD],
            "z": ["x", None, 1j, {}, Odd(), [[1], [1, 2]]],
        },
    ),
    *[
        (f"schedules.{name}", lambda name=name, **k: schedules.get(name, **k), arguments)
        for name, arguments in {
            "vp": {
                "beta_d": without(POSITIVE, 0.0),
                "beta_min": without(POSITIVE, 0.0),
                "t_min": POSITIVE,
            },
            "ve": {"sigma_min": POSITIVE, "sigma_max": POSITIVE},
            "edm": {"sigma_min": POSITIVE, "sigma_max": POSITIVE},
            "cosine": {"s": POSITIVE, "t_max": [*POSITIVE, 2.0], "t_min": POSITIVE},
            "flow": {"shift": POSITIVE, "t_min": POSITIVE, "t_max": [*POSITIVE, 1.5]},
            "iddpm": {"M": without(COUNT, 10**12), "C_1": POSITIVE, "C_2": POSITIVE},
            "discrete": {
                "alphas_cumprod": [
                    [],
                    [0.5],
                    [0.5, 0.6],
                    [0.5, NAN],
                    [2.0, 0.5],
                    "x",
                    3,
                    [[0.9, 0.5]],
                    Odd(),
                ],
                "interpolation": NAME,
            },
        }.items()
    ],
    ("schedules.get", lambda **k: schedules.get(**k), {"name": NAME}),
    (
        "from_betas",
        lambda **k: schedules.Discrete.from_betas(**k),
        {
            "betas": [
                [],
                [0.1],
                [0.1, 1.5],
                [0.1, NAN],
                [-0.1, 0.2],
                "x",
                None,
                3,
                [[0.1, 0.2]],
                Odd(),
            ]
        },
    ),
    (
        "t_of_sigma",
        lambda **k: VP.t_of_sigma(**k),
        {"sigma": ["x", None, -1.0, NAN, 1j, {}, Odd()]},
    ),
    (
        "sigma",
        lambda **k: VP.sigma(*k.values()),
        {"t": ["x", None, -1.0, 2.0, NAN, INF, 1j, {}, Odd()]},
    ),
    *[
        (
            f"grids.{name}",
            lambda name=name, **k: grids.get(name)(**{"schedule": EDM, "steps": 5} | k),
            {
                "steps": COUNT,
                "start": ["x", NAN, -1.0, 1e9, *ODD],
                "stop": ["x", NAN, -1.0, 1e9, *ODD],
                "final": NAME,
                "schedule": [None, 3, "edm", Odd()],
            },
        )
        for name in ("uniform_lambda", "uniform_time", "karras", "quadratic")
    ],
    ("karras", lambda **k: grids.karras(EDM, 5, **k), {"rho": POSITIVE}),
    *[
        (
            f"noise.{kind.__name__}",
            lambda kind=kind, **k: kind(**{"seeds": [1, 2]} | k),
            {"seeds": SEED},
        )
        for kind in (noise.Gaussian, noise.Rademacher, noise.BrownianPath)
    ],
    (
        "noise.Gaussian device",
        lambda **k: noise.Gaussian([1], **k),
        {"device": ["no device", 3.5, Odd()]},
    ),
    ("noise.Replay", lambda **k: noise.Replay(**k), {"normals": [3, "x", [3], [Odd()], Odd()]}),
    (
        "noise.UnionPath",
        lambda **k: noise.UnionPath(**{"seeds": [1], "taus": [0.0, 1.0]} | k),
        {"taus": [[], [1.0], [0.0, NAN], [0.0, INF], "x", None, [[0.0, 1.0]], Odd()]},
    ),
    (
        "noise.FromGenerators",
        lambda **k: noise.FromGenerators(**k),
        {"generators": [3, "x", [], [3], Odd()]},
    ),
    *[
        (f"solvers.{name}", lambda name=name, **k: solvers.get(name, **k), arguments)
        for name, arguments in {
            "seeds-2": {"c": POSITIVE},
            "seeds-3": {"r1": POSITIVE, "r2": [*POSITIVE, 0.1]},
            "seeds-ab3": {"start": NAME},
            "unipc-2": {"variant": NAME},
            "sa-solver": {
                "predictor": COUNT,
                "corrector": without(COUNT, 0),
                "tau": without(NOT_NEGATIVE, INF),
            },
            "dpmpp-2m-sde": {"variant": NAME},
            "ddpm": {"variance": NAME},
            "deis-tab3": {"variable": NAME},
            "edm-stochastic": {
                "s_churn": NOT_NEGATIVE,
                "s_noise": NOT_NEGATIVE,
                "s_min": NOT_NEGATIVE,
            },
            "euler-ancestral": {"eta": NOT_NEGATIVE},
            "pc-sampler": {"snr": POSITIVE, "count": COUNT},
        }.items()
    ],
    (
        "solvers.operation",
        lambda **k: solvers.operation(**k),
        {
            "text": [
                *NAME,
                "churn",
                "churn(x=1)",
                "churn(s_churn=a)",
                "ancestral(eta=-1)",
                "langevin(snr=9)",
            ]
        },
    ),
    (
        "window",
        lambda **k: noise_scales.window(**{"value": 1.0, "sigma_low": 0.1, "sigma_high": 1.0} | k),
        {"value": NOT_NEGATIVE, "sigma_low": [*POSITIVE, 2.0], "sigma_high": POSITIVE},
    ),
    (
        "ell_from_eta",
        lambda **k: noise_scales.ell_from_eta(**{"eta": 0.5, "sigma_s": 2.0, "sigma_t": 1.0} | k),
        {"eta": ["x", None, -1.0, NAN, 1j, {}, Odd()]},
    ),
    (
        "targets.Gaussian",
        lambda **k: Gaussian(**{"mean": [0.5], "variances": [0.25], "schedule": EDM} | k),
        {
            "mean": ["x", None, [NAN], [INF], {}, Odd()],
            "variances": ["x", [-1.0], [NAN], [INF], {}, Odd()],
            "schedule": [None, 3, "edm", Odd()],
        },
    ),
    (
        "targets.GaussianMixture",
        lambda **k: GaussianMixture(
            **{"means": [[0.5], [1.0]], "std": 0.5, "weights": None, "schedule": EDM} | k
        ),
        {
            "means": ["x", None, [[NAN]], [[1.0], [1.0, 2.0]], Odd()],
            "std": POSITIVE,
            "weights": [[1.0], [-1.0, 2.0], [NAN, 1.0], "x", Odd()],
            "schedule": [None, 3, "edm", Odd()],
        },
    ),
    (
        "targets.Empirical",
        lambda **k: Empirical(**{"data": [[0.5], [1.0]], "std": 0.5, "schedule": EDM} | k),
        {"data": ["x", None, [[NAN]], [[1.0], [1.0, 2.0]], Odd()], "std": without(POSITIVE, 0.0)},
    ),
    (
        "Adaptive",
        lambda **k: good_sample(steps=expint.Adaptive(**k), solver="dpm-solver-12"),
        {"rtol": NOT_NEGATIVE, "atol": NOT_NEGATIVE, "max_nfe": without(COUNT, 10**12)},
    ),
]


def bad_calls() -> Iterator[tuple[str, Callable[..., Any], str, Any]]:
    for name, call, arguments in ENTRANCES:
        for argument, values in arguments.items():
            for value in values:
                yield name, call, argument, value


def fault(call: Callable[..., Any], argument: str, value: Any) -> str | None:
    """What is wrong with the answer to a bad call, or None."""
    Model.calls = 0
    try:
        call(**{argument: value})
    except (ValueError, TypeError) as error:
        last = traceback.extract_tb(error.__traceback__)[-1].filename
        if not last.startswith(OURS):
            return f"raw {type(error).__name__} from {Path(last).name}: {error}"
        if len(str(error)) < 20:
            return f"says too little: {error}"
        return f"after {Model.calls} evaluations" if Model.calls else None
    except Exception as error:
        return f"raw {type(error).__name__}: {error}"
    return "accepted"


@pytest.mark.filterwarnings("ignore")  # of values on their way to a refusal
@pytest.mark.parametrize("name", dict.fromkeys(name for name, *_ in ENTRANCES))
def test_bad_calls_are_refused(name: str):
    found = [
        f"{name}({argument}={value!r}): {what}"
        for own, call, argument, value in bad_calls()
        if own == name and (what := fault(call, argument, value))
    ]
    assert not found, "\n".join(found)


def test_there_are_a_thousand():
    assert len(list(bad_calls())) >= 1000
