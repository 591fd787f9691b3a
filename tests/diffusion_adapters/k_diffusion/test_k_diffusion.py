"""The contract of k-diffusion's samplers.

k-diffusion itself is not installed: its package needs torchvision, CLIP, wandb and others. Fakes of
a few lines stand for its contract: `Network` for a denoiser, `Recorder` for a noise sampler, and a
sampler that asks for overlapping noise.
"""

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import expint
from diffusion_adapters import k_diffusion
from diffusion_adapters.k_diffusion import (
    KDiffusionModel,
    brownian_noise_sampler,
    is_flow,
    sample_expint,
    uniform_lambda_sigmas,
)
from expint import solvers
from expint.noise import BrownianPath, Gaussian, Replay, SubstepNoise, per_sample
from expint.schedules import EDM, Flow
from expint.solvers import seeds1
from expint.targets import GaussianMixture

DATA = Path(__file__).resolve().parents[2] / "data"
DOUBLE = torch.float64
SIGMAS = torch.tensor([10.0, 4.0, 1.5, 0.6, 0.2, 0.0], dtype=DOUBLE)
TIMES = torch.tensor([1.0, 0.9, 0.7, 0.4, 0.1, 0.0], dtype=DOUBLE)


class Network:
    """A denoiser of k-diffusion's kind, known exactly: the posterior mean of a Gaussian mixture."""

    def __init__(
        self,
        schedule: Any = None,
        means: Any = ((1.0, -1.0), (-2.0, 0.5)),
        std: float = 0.3,
        weights: Any = (0.4, 0.6),
    ):
        self.target = GaussianMixture(means, std, weights, EDM() if schedule is None else schedule)
        self.calls: list[tuple[Tensor, Tensor, dict[str, Any]]] = []

    def __call__(self, x: Tensor, sigma: Tensor, **extra_args: Any) -> Tensor:
        assert sigma.shape == (len(x),) and sigma.dtype == x.dtype and sigma.device == x.device
        assert not torch.is_grad_enabled()
        self.calls.append((x, sigma, extra_args))
        return self.target(x.to(DOUBLE), sigma[0].to(DOUBLE)).to(x.dtype)


def start(batch: int = 3, scale: float = 10.0) -> Tensor:
    return scale * expint.noise.initial_state(range(batch), (2,), DOUBLE)


class Recorder:
    """A noise sampler that gives recorded draws, and notes what it is asked for."""

    def __init__(self, draws: Tensor) -> None:
        self.draws, self.asked = list(draws), []

    def __call__(self, sigma: Tensor, sigma_next: Tensor) -> Tensor:
        assert sigma.ndim == 0 and sigma_next.ndim == 0
        self.asked.append((float(sigma), float(sigma_next)))
        return self.draws[len(self.asked) - 1]


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("sign", [1, -1])
def test_published_run_is_reproduced(order: int, sign: int):
    run = json.loads((DATA / f"edm_seeds_{order}.json").read_text(encoding="utf-8"))
    model = Network(None, *(run["model"][name] for name in ("means", "std", "weights")))
    sampler = Recorder(sign * torch.tensor(run["noise"], dtype=DOUBLE))
    x, final = (torch.tensor(run[name], dtype=DOUBLE) for name in ("x_init", "x_final"))
    sigmas = torch.tensor(run["sigmas"], dtype=DOUBLE)
    named = getattr(k_diffusion, f"sample_seeds_{order}")
    error = (named(model, x, sigmas, noise_sampler=sampler) - final).abs().max()
    assert len(model.calls) == run["nfe"] and len(sampler.asked) == len(run["noise"])
    assert (error < 1e-8) if sign == 1 else (error > 1e-2)


@pytest.mark.parametrize(
    "name",
    [
        "seeds-1",
        "seeds-2",
        "seeds-3",
        "seeds-sra",
        "seeds-ab2",
        "sa-solver",
        "er-sde-3",
        "unipc-2",
        "heun",
    ],
)
def test_equals_expint(name: str):
    x, model = start(), Network()
    ours = sample_expint(model, x, SIGMAS, solver=name, seeds=[7, 8, 9])
    theirs = expint.sample(
        model.target, x, name, grid=SIGMAS, noise=Gaussian([7, 8, 9]), progress=False
    )
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)
    assert len(model.calls) == expint.plan_sampling(EDM(), name, grid=SIGMAS).nfe


@pytest.mark.parametrize(("eta", "ell"), [(0.5, 0.5**0.5), (1.0, 1.0), (2.0, 2.0**0.5)])
def test_eta_is_ell_squared(eta: float, ell: float):
    x, model = start(), Network()
    theirs = expint.sample(
        model.target, x, "seeds-2", grid=SIGMAS, ell=ell, noise=Gaussian([7, 8, 9]), progress=False
    )
    torch.testing.assert_close(
        k_diffusion.sample_seeds_2(model, x, SIGMAS, eta=eta, seeds=[7, 8, 9]),
        theirs,
        rtol=0,
        atol=1e-10,
    )


@pytest.mark.parametrize("name", ["seeds-1", "seeds-2", "seeds-3", "unipc-2"])
@pytest.mark.parametrize("detected", [False, True])
def test_flow_equals_expint(name: str, detected: bool):
    class Sampling: ...

    CONST = type("CONST", (), {})  # what ComfyUI calls the kind of its flow models
    x, model = start(scale=1.0), Network(Flow())
    if detected:
        inner = type(
            "Model", (), {"model_sampling": type("ModelSampling", (Sampling, CONST), {})()}
        )()
        model.inner_model = type("Guider", (), {"inner_model": inner})()  # pyright: ignore[reportAttributeAccessIssue]
    ours = sample_expint(
        model, x, TIMES, solver=name, seeds=[7, 8, 9], flow=None if detected else True
    )
    theirs = expint.sample(
        model.target, x, name, grid=TIMES, noise=Gaussian([7, 8, 9]), progress=False
    )
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)
    assert model.calls[0][1].tolist() == [1.0] * 3


def test_is_flow():
    flow = type("ModelSampling", (type("Discrete", (), {}), type("CONST", (), {})), {})()
    other = type("ModelSampling", (type("EPS", (), {}),), {})()
    patched = type(
        "Patcher", (), {"get_model_object": lambda self, name: flow, "model_sampling": other}
    )()
    assert is_flow(type("Guider", (), {"model_patcher": patched})()) and is_flow(patched)
    assert is_flow(type("Base", (), {"model_sampling": flow})())
    assert not is_flow(type("Base", (), {"model_sampling": other})()) and not is_flow(
        lambda x, sigma: x
    )


def test_a_table_in_float32_may_miss_one():
    """A first time within rounding of 1 is pure noise; it is not a level σ = 1e7 with inner
    nodes.
    """
    x, model, near = start(scale=1.0), Network(Flow()), TIMES.clone()
    whole = sample_expint(model, x, TIMES, solver="seeds-2", flow=True, seed=0)
    for value in (1 - 6e-8, 1 + 1.2e-7):
        near[0] = value
        torch.testing.assert_close(
            sample_expint(model, x, near, solver="seeds-2", flow=True, seed=0),
            whole,
            rtol=0,
            atol=0,
        )


@pytest.mark.parametrize(
    "name",
    [
        "seeds-1",
        "seeds-3",
        "seeds-ab2",
        "unipc-2",
        "pece-2",
        "sa-solver",
        "dpm2-ancestral",
        "edm-stochastic",
    ],
)
@pytest.mark.parametrize("last", [0.0, 0.1])
def test_callback_once_per_step(name: str, last: float):
    sigmas, x, model, told = SIGMAS.clone(), start(), Network(), []
    sigmas[-1] = last
    result = sample_expint(model, x, sigmas, {"label": 5}, told.append, solver=name, seed=0)
    assert [set(entry) for entry in told] == [{"x", "i", "sigma", "sigma_hat", "denoised"}] * 5
    assert [entry["i"] for entry in told] == [0, 1, 2, 3, 4]
    assert [entry["sigma"].item() for entry in told] == sigmas[:-1].tolist()
    raised = name == "edm-stochastic"
    for entry in told:
        assert entry["sigma"].ndim == entry["sigma_hat"].ndim == 0
        assert (
            (entry["sigma_hat"] > entry["sigma"])
            if raised
            else entry["sigma_hat"] == entry["sigma"]
        )
        expected = model.target(entry["x"], entry["sigma_hat"])
        corrected = (
            name in ("unipc-2", "sa-solver") and entry["i"] > 0
        )  # the evaluation was at the predicted state
        assert (
            ((entry["denoised"] - expected).abs().max() > 0)
            if corrected
            else torch.equal(entry["denoised"], expected)
        )
    assert raised or torch.equal(told[0]["x"], x)
    assert last or torch.equal(result, told[-1]["denoised"])
    assert all(call[2] == {"label": 5} for call in model.calls)


def test_callback_sees_the_states_of_the_run():
    """Those that shorter runs end with."""
    x, told = start(), []
    settings = {"solver": "seeds-3", "seed": 0, "noise": "path"}
    sample_expint(Network(), x, SIGMAS, callback=told.append, **settings)
    for k in range(1, 5):
        shorter = sample_expint(Network(), x, SIGMAS[: k + 1], **settings)
        torch.testing.assert_close(told[k]["x"], shorter, rtol=1e-12, atol=1e-12)


def test_noise_sampler_is_asked_for_the_intervals_between_nodes():
    x, draws = start(), torch.zeros(20, 3, 2, dtype=DOUBLE)
    for name, nodes in (("seeds_1", 1), ("seeds_2", 2), ("seeds_3", 3), ("seeds_ab2", 1)):
        sampler = Recorder(draws)
        k_diffusion.SAMPLERS[name](Network(), x, SIGMAS, noise_sampler=sampler)
        places = [SIGMAS[0].item()]
        for a, b in zip(SIGMAS[:-2].tolist(), SIGMAS[1:-1].tolist(), strict=True):
            places += [a * (b / a) ** (j / nodes) for j in range(1, nodes)] + [b]
        torch.testing.assert_close(sampler.asked, list(pairwise(places)), rtol=1e-12, atol=0)
        assert {value for pair in sampler.asked for value in pair} >= set(
            SIGMAS[:-1].tolist()
        )  # to the last digit


def test_noise_sampler_of_a_flow_is_asked_in_its_own_levels():
    sampler = Recorder(torch.zeros(20, 3, 2, dtype=DOUBLE))
    sample_expint(
        Network(Flow()), start(scale=1.0), TIMES, solver="seeds-2", flow=True, noise_sampler=sampler
    )
    assert sampler.asked[0] == (1.0, 0.9) and sampler.asked[-1][1] == 0.1
    middle = 1 / (1 + math.sqrt((0.1 / 0.9) * (0.3 / 0.7)))  # half-way in λ
    assert sampler.asked[1] == (0.9, pytest.approx(middle, rel=1e-12))


def test_replayed_draws_are_used_with_unit_variance():
    x, draws = start(), torch.arange(72, dtype=DOUBLE).reshape(12, 3, 2).sin()
    for name in ("seeds-1", "seeds-3"):
        theirs = expint.sample(
            Network().target, x, name, grid=SIGMAS, noise=Replay(draws), progress=False
        )
        ours = sample_expint(Network(), x, SIGMAS, solver=name, noise_sampler=Recorder(draws))
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_ancestral_sampler_has_its_own_eta_and_asks_for_steps():
    x, draws = start(), torch.arange(72, dtype=DOUBLE).reshape(12, 3, 2).sin()
    sampler = Recorder(draws)
    ours = sample_expint(
        Network(), x, SIGMAS, solver="euler-ancestral", eta=0.7, s_noise=1.1, noise_sampler=sampler
    )
    assert sampler.asked == list(zip(SIGMAS[:-2].tolist(), SIGMAS[1:-1].tolist(), strict=True))
    state = x
    for i, (s, t) in enumerate(zip(SIGMAS[:-1].tolist(), SIGMAS[1:].tolist(), strict=True)):
        up = min(t, 0.7 * math.sqrt(t**2 * (s**2 - t**2) / s**2))
        down = math.sqrt(t**2 - up**2)
        denoised = Network().target(state, torch.tensor(s, dtype=DOUBLE))
        state = denoised + down / s * (state - denoised)
        state = state + 1.1 * up * draws[i] if t > 0 else state
    torch.testing.assert_close(ours, state, rtol=0, atol=1e-10)


def test_eta_zero_draws_nothing():
    def never(*_: Any) -> Tensor:
        raise AssertionError("asked for noise")

    before = torch.get_rng_state()
    for name in ("seeds-1", "seeds-3", "seeds-sra"):
        sample_expint(Network(), start(), SIGMAS, solver=name, eta=0.0, noise_sampler=never)
    ours = k_diffusion.sample_seeds_3(Network(), start(), SIGMAS, eta=0.0)
    k_diffusion.sample_unipc(Network(), start(), SIGMAS)
    assert torch.equal(torch.get_rng_state(), before)
    theirs = expint.sample(
        Network().target, start(), "seeds-3", grid=SIGMAS, ell=0.0, progress=False
    )
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


def test_s_noise_scales_the_noise():
    x, draws = start(), torch.arange(72, dtype=DOUBLE).reshape(12, 3, 2).sin()
    scaled = k_diffusion.sample_seeds_2(
        Network(), x, SIGMAS, s_noise=1.2, noise_sampler=Recorder(draws)
    )
    drawn = k_diffusion.sample_seeds_2(Network(), x, SIGMAS, noise_sampler=Recorder(1.2 * draws))
    torch.testing.assert_close(scaled, drawn, rtol=0, atol=1e-12)
    assert (
        scaled - k_diffusion.sample_seeds_2(Network(), x, SIGMAS, noise_sampler=Recorder(draws))
    ).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["seeds-1", "seeds-2", "seeds-3", "seeds-sra"])
@pytest.mark.parametrize("flow", [False, True])
def test_split_run_on_a_path_equals_the_whole(name: str, flow: bool):
    sigmas, x = (TIMES, start(scale=1.0)) if flow else (SIGMAS, start())
    path = BrownianPath([1, 2, 3], resolution=64)

    def run(state: Tensor, levels: Tensor, **noise: Any) -> Tensor:
        return sample_expint(
            Network(Flow() if flow else None), state, levels, solver=name, flow=flow, **noise
        )

    whole = run(x, sigmas, noise_sampler=path)
    for noise in ({"noise_sampler": path}, {"noise": "path", "seeds": [1, 2, 3]}):
        for k in (1, 3, 5):
            half = run(x, sigmas[: k + 1], **noise)
            torch.testing.assert_close(
                run(half, sigmas[k:], **noise), whole, rtol=1e-12, atol=1e-12
            )
    fresh = run(run(x, sigmas[:4], seed=0), sigmas[3:], seed=0)
    assert (fresh - run(x, sigmas, seed=0)).abs().max() > 1e-3  # which fresh noise does not


def test_last_level_may_be_positive():
    x, sigmas = start(), SIGMAS[:-1]
    theirs = expint.sample(
        Network().target, x, "seeds-2", grid=sigmas, noise=Gaussian([7, 8, 9]), progress=False
    )
    torch.testing.assert_close(
        k_diffusion.sample_seeds_2(Network(), x, sigmas, seeds=[7, 8, 9]),
        theirs,
        rtol=0,
        atol=1e-10,
    )


def test_fewer_than_two_levels_are_nothing_to_do():
    for sigmas in (SIGMAS[:0], SIGMAS[:1]):
        assert torch.equal(sample_expint(Network(), start(), sigmas), start())


@pytest.mark.parametrize(
    ("sigmas", "reason"),
    [
        ([1.0, 3.0, 0.0], r"sigmas\[0\] = 1 is followed by 3, noise would have to be added"),
        ([3.0, 1.0, -1.0], r"sigmas\[2\] = -1"),
        ([3.0, math.nan, 0.0], r"sigmas\[1\] = nan"),
        ([math.inf, 1.0, 0.0], r"sigmas\[0\] = inf"),
        ([[3.0, 1.0]], r"got shape \(1, 2\)"),
    ],
)
def test_levels_that_do_not_fall_are_refused(sigmas: Any, reason: str):
    model = Network()
    with pytest.raises(ValueError, match=reason):
        sample_expint(model, start(), sigmas)
    assert not model.calls


@pytest.mark.parametrize(
    ("settings", "error", "reason"),
    [
        ({"eta": -1.0}, ValueError, "eta"),
        ({"eta": math.nan}, ValueError, "eta"),
        ({"s_noise": -1.0}, ValueError, "s_noise"),
        ({"solver": "seeds-9"}, ValueError, "seeds-3"),
        ({"solver": "seeds-2", "r": 0.3}, TypeError, r"no option 'r': it has \['c'\]"),
        ({"solver": seeds1(), "c": 0.3}, TypeError, "no option 'c'"),
        ({"noise": "loud"}, ValueError, "fresh"),
        ({"noise_sampler": 3}, TypeError, "noise_sampler"),
        ({"noise_sampler": lambda a, b: torch.zeros(1)}, ValueError, r"shape \(1,\)"),
        ({"noise_sampler": lambda a, b: None}, ValueError, "NoneType"),
        ({"noise_sampler": lambda a, b: None, "solver": "seeds-sra"}, ValueError, "integral"),
        (
            {"noise_sampler": lambda a, b: None, "solver": "pc-sampler"},
            ValueError,
            "more than once",
        ),
        ({"noise": "path", "solver": "euler-ancestral"}, ValueError, "not part of the path"),
        ({"callback": 3}, TypeError, "callback"),
        ({"seeds": [1, 2], "eta": 1.0}, ValueError, "2 seeds came for a batch of 3"),
        ({"seed": -1, "eta": 1.0}, ValueError, "seed"),
        ({"flow": True}, ValueError, r"time in \[0, 1\]"),
        ({"solver": "taylor-2"}, ValueError, "without derivatives"),
    ],
)
def test_refusals(settings: dict[str, Any], error: type[Exception], reason: str):
    with pytest.raises(error, match=reason):
        sample_expint(Network(), start(), SIGMAS, **settings)


def test_model_must_be_callable():
    with pytest.raises(TypeError, match="model must be callable"):
        sample_expint(3, start(), SIGMAS)  # pyright: ignore[reportArgumentType]


def test_solver_options_and_tableaus():
    x = start()
    by_name = k_diffusion.sample_seeds_2(Network(), x, SIGMAS, c=0.3, seed=0)
    assert torch.equal(
        by_name, sample_expint(Network(), x, SIGMAS, solver=solvers.get("seeds-2", c=0.3), seed=0)
    )
    assert not torch.equal(by_name, k_diffusion.sample_seeds_2(Network(), x, SIGMAS, seed=0))


@pytest.mark.parametrize("name", sorted(k_diffusion.SAMPLERS))
def test_named_samplers(name: str):
    sampler = getattr(k_diffusion, f"sample_{name}")
    assert (
        sampler is k_diffusion.SAMPLERS[name]
        and sampler.__name__ == f"sample_{name}"
        and sampler.__doc__
    )
    solver = {"unipc": "unipc-2"}.get(name, name.replace("_", "-"))
    ours = sampler(Network(), start(), SIGMAS, {"seed": [7, 8, 9]})
    theirs = expint.sample(
        Network().target, start(), solver, grid=SIGMAS, noise=Gaussian([7, 8, 9]), progress=False
    )
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("noise", ["fresh", "path", "sampler"])
def test_low_precision(dtype: torch.dtype, noise: str):
    """The state keeps its dtype, and comes near the run in double precision with the same noise."""
    x = start().to(dtype)
    draws = torch.arange(72, dtype=DOUBLE).reshape(12, 3, 2).sin()
    settings: dict[str, Any] = (
        {"noise_sampler": Recorder(draws)} if noise == "sampler" else {"noise": noise, "seed": 0}
    )
    low = k_diffusion.sample_seeds_2(Network(), x, SIGMAS.to(dtype), **settings)
    assert low.dtype == dtype and torch.isfinite(low).all()
    if noise == "sampler":
        settings["noise_sampler"] = Recorder(draws)
        exact = k_diffusion.sample_seeds_2(Network(), x.to(DOUBLE), SIGMAS.to(dtype), **settings)
        rounding = {torch.float16: 0.02, torch.bfloat16: 0.15, torch.float32: 1e-5}[dtype]
        torch.testing.assert_close(low.to(DOUBLE), exact, rtol=0, atol=rounding)


@pytest.mark.parametrize("kind", [torch.float16, torch.float32, DOUBLE, "list"])
def test_sigmas_of_another_dtype(kind: Any):
    """Levels are taken as they are given, and the noise sampler gets the nodes at least in
    float32.
    """
    sigmas = torch.tensor([8.0, 2.0, 0.5, 0.0])
    given: Any = sigmas.tolist() if kind == "list" else sigmas.to(kind)
    seen: list[Tensor] = []

    def sampler(sigma: Tensor, sigma_next: Tensor) -> Tensor:
        seen.extend((sigma, sigma_next))
        return torch.ones(3, 2)

    result = k_diffusion.sample_seeds_2(Network(), start(), given, noise_sampler=sampler)
    exact = k_diffusion.sample_seeds_2(Network(), start(), sigmas.to(DOUBLE), noise_sampler=sampler)
    assert torch.equal(result, exact) and result.dtype == DOUBLE
    assert seen[0].dtype == {torch.float16: torch.float32, "list": DOUBLE}.get(kind, kind)


def test_seeds():
    """One integer never shares a sample's noise with its neighbours; without any, torch's global
    generator decides.
    """
    x = start(1).expand(4, 2)
    one, two = (
        sample_expint(Network(), x, SIGMAS, {"seed": seed}, solver="seeds-1") for seed in (5, 6)
    )
    rows = [tuple(row) for row in torch.cat([one, two]).tolist()]
    assert len(set(rows)) == 8
    assert torch.equal(
        sample_expint(Network(), x, SIGMAS, {"seed": 5}, seed=6, solver="seeds-1"), two
    )
    assert torch.equal(
        sample_expint(Network(), x[:2], SIGMAS, {"seed": 5}, solver="seeds-1"), one[:2]
    )
    torch.manual_seed(3)
    first, second = (sample_expint(Network(), x, SIGMAS, solver="seeds-1") for _ in range(2))
    torch.manual_seed(3)
    assert torch.equal(
        sample_expint(Network(), x, SIGMAS, solver="seeds-1"), first
    ) and not torch.equal(first, second)
    part = sample_expint(Network(), x[:2], SIGMAS, solver="seeds-1", seed=5, start=2)
    assert torch.equal(part, one[2:])
    listed = {"seeds": per_sample(5, 4)}
    assert torch.equal(sample_expint(Network(), x, SIGMAS, solver="seeds-1", **listed), one)


def test_noise_device():
    for noise in ("fresh", "path"):
        for solver in ("seeds-2", "seeds-sra"):
            runs = [
                sample_expint(
                    Network(), start(), SIGMAS, solver=solver, seed=0, noise=noise, noise_device=d
                )
                for d in (None, "cpu")
            ]
            assert torch.equal(*runs)


def test_noise_on_the_cpu_goes_to_the_device_of_the_state():
    """The meta device stands for a GPU: it has shapes and places, but no numbers."""
    like = torch.empty(2, 3, dtype=torch.float16, device="meta")
    for substep in (SubstepNoise(2), SubstepNoise(2, integral=True)):
        source = Gaussian([1, 2], device="cpu")
        normals = list(source.stream(like, [substep]).normals(substep))
        assert len(normals) == substep.normals
        for part in normals:
            assert part.device.type == "meta" and part.shape == (2, 3)
            assert part.dtype == torch.float16


class TestBrownianNoiseSampler:
    X = torch.zeros(2, 3, dtype=DOUBLE)

    @pytest.mark.parametrize("eta", [0.5, 1.0])
    @pytest.mark.parametrize("flow", [False, True])
    def test_increments_add_up_in_the_clock(self, eta: float, flow: bool):
        """In τ = σ^(−2η), and in no other clock."""
        sampler = brownian_noise_sampler(self.X, 0.01, 50.0, seeds=[1, 2], eta=eta, flow=flow)
        levels = (0.9, 0.7, 0.2) if flow else (9.0, 4.0, 0.5)

        def adds_up(power: float) -> bool:
            a, b, c = ((t / (1 - t) if flow else t) ** power for t in levels)
            first, second, whole = (
                sampler(levels[0], levels[1]),
                sampler(levels[1], levels[2]),
                sampler(levels[0], levels[2]),
            )
            return torch.allclose(
                first * abs(b - a) ** 0.5 + second * abs(c - b) ** 0.5,
                whole * abs(c - a) ** 0.5,
                rtol=1e-10,
            )

        assert adds_up(-2 * eta) and not adds_up(1.0) and not adds_up(-2.5 * eta)

    def test_correlation_of_half_a_step_with_the_whole(self):
        """0.52 at h = 1, where the clock σ has 0.79; 200 000 numbers, of which the error is
        0.002.
        """
        sampler = brownian_noise_sampler(torch.zeros(1, 200_000), 0.1, 10.0, 0)
        half, whole = sampler(1.0, math.exp(-0.5)), sampler(1.0, math.exp(-1.0))
        assert abs((half * whole).mean() - math.sqrt((math.e - 1) / (math.e**2 - 1))) < 0.01
        assert abs(math.sqrt((math.e - 1) / (math.e**2 - 1)) - 0.52) < 0.005
        assert abs(math.sqrt((1 - math.exp(-0.5)) / (1 - math.exp(-1))) - 0.79) < 0.005
        for normals in (half, whole):
            assert abs(normals.mean()) < 0.01 and abs(normals.var() - 1) < 0.015

    def test_serves_as_noise_sampler_here_as_the_path_itself(self):
        for flow, sigmas in ((False, SIGMAS), (True, TIMES)):
            x = start(scale=1.0 if flow else 10.0)
            sampler = brownian_noise_sampler(x, 0.1, 10.0, seeds=[1, 2, 3], flow=flow)
            model = Network(Flow() if flow else None)
            runs = [
                sample_expint(model, x, sigmas, flow=flow, noise_sampler=noise)
                for noise in (sampler, BrownianPath([1, 2, 3], resolution=64))
            ]
            torch.testing.assert_close(*runs, rtol=0, atol=1e-9)

    def test_sampler_that_asks_for_half_of_a_step_and_all_of_it(self):
        """Two-stage DPM-Solver++ as libraries write it, with both noises from the start of the
        step: here it is SEEDS-2.
        """
        x, model = start(), Network()
        sampler = brownian_noise_sampler(x, 0.1, 10.0, seeds=[1, 2, 3])
        state = x
        for s, t in zip(SIGMAS[:-2].tolist(), SIGMAS[1:-1].tolist(), strict=True):
            m, first = math.sqrt(s * t), model.target(state, torch.tensor(s, dtype=DOUBLE))

            def moved(to: float, denoised: Tensor, s: float = s, state: Tensor = state) -> Tensor:
                mean = (to / s) ** 2 * state + (1 - (to / s) ** 2) * denoised
                return mean + to * math.sqrt(1 - (to / s) ** 2) * sampler(s, to)

            state = moved(t, model.target(moved(m, first), torch.tensor(m, dtype=DOUBLE)))
        ours = sample_expint(model, x, SIGMAS[:-1], solver="seeds-2", noise_sampler=sampler)
        torch.testing.assert_close(ours, state, rtol=0, atol=1e-9)

    def test_order_repeats_batch_and_dtype(self):
        sampler = brownian_noise_sampler(self.X, 0.01, 50.0, seeds=[1, 2])
        first = sampler(torch.tensor(4.0), torch.tensor(0.5))
        sampler(30.0, 20.0)
        assert torch.equal(sampler(4.0, 0.5), first) and torch.equal(sampler(0.5, 4.0), -first)
        assert torch.equal(
            brownian_noise_sampler(self.X[:1], 0.01, 50.0, seeds=[2])(4.0, 0.5)[0], first[1]
        )
        half = brownian_noise_sampler(torch.zeros(2, 3, dtype=torch.float16), 1e-5, 50.0, 0)(
            2e-5, 1e-5
        )
        assert half.dtype == torch.float16 and half.abs().max() < 6

    def test_refusals(self):
        sampler = brownian_noise_sampler(self.X, 0.01, 50.0, 0)
        for pair, reason in (
            ((1.0, 0.0), "step to 0"),
            ((1.0, 1.0), "twice"),
            ((-1.0, 0.5), "positive"),
            ((math.inf, 1.0), "inf"),
        ):
            with pytest.raises(ValueError, match=reason):
                sampler(*pair)
        with pytest.raises(ValueError, match="times of a flow"):
            brownian_noise_sampler(self.X, 0.01, 1.0, 0, flow=True)(2.0, 0.5)
        for low, high in ((0.0, 1.0), (2.0, 1.0), (1.0, math.inf), (math.nan, 1.0)):
            with pytest.raises(ValueError, match="range of noise levels"):
                brownian_noise_sampler(self.X, low, high)
        with pytest.raises(ValueError, match="eta"):
            brownian_noise_sampler(self.X, 0.1, 1.0, eta=0.0)


def test_uniform_lambda_sigmas():
    sigmas = uniform_lambda_sigmas(6, 0.02, 20.0)
    assert sigmas.shape == (7,) and sigmas.dtype == torch.float32 and sigmas[-1] == 0
    torch.testing.assert_close(
        sigmas[:-1].log().diff(), torch.full((5,), math.log(0.02 / 20.0) / 5)
    )
    times = uniform_lambda_sigmas(6, 0.02, 1.0, flow=True, dtype=DOUBLE)
    assert times[0] == 1 and times[-1] == 0 and times[-2] == pytest.approx(0.02)
    steps = torch.log((1 - times[1:-1]) / times[1:-1]).diff()
    torch.testing.assert_close(steps, steps[:1].expand(4), rtol=1e-9, atol=0)
    with pytest.raises(ValueError, match="sigma_min"):
        uniform_lambda_sigmas(6, 2.0, 1.0)


def test_as_a_model_of_expint():
    model = KDiffusionModel(Network(), {"label": 1})
    assert model.schedule == EDM() and KDiffusionModel(Network(), flow=True).schedule == Flow()
    with torch.no_grad():
        samples = expint.sample(model, (2, 2), "seeds-2", steps=4, progress=False)
    theirs = expint.sample(Network().target, (2, 2), "seeds-2", steps=4, progress=False)
    torch.testing.assert_close(samples, theirs, rtol=0, atol=1e-5)


def test_a_plan_that_cannot_be_good_is_told_where_the_sampler_was_called():
    sigmas = torch.tensor([80.0, 5.0, 0.3, 0.0])
    with pytest.warns(expint.PlanWarning, match="'etd-rk4' with 3 steps") as caught:
        sample_expint(Network(), torch.full((2, 2), 80.0), sigmas, solver="etd-rk4", disable=True)
    assert [warning.filename for warning in caught] == [__file__]
