"""Constraints on the denoised estimate, and runs that begin at an image: against formulas, exact
laws and brute force.
"""

import math

import pytest
import torch
from toy_models import FunctionModel, mixture

import expint
from diffusion_adapters import (
    VPAdapter,
    cfg,
    classifier_guidance,
    inpaint,
    load,
    reconstruction_guidance,
    start,
    threshold,
)
from expint import grids, schedules
from expint.equations.predictions import PREDICTIONS, to_denoiser
from expint.noise import per_sample
from expint.runs import Reparametrized

F64 = torch.float64
EDM, VP, FLOW = schedules.EDM(), schedules.VP(), schedules.Flow()
# Two well separated components: the first coordinate tells the second.
PAIR = [[-2.0, -1.0], [2.0, 1.0]]


def normals(*shape, seed=0):
    return torch.empty(shape, dtype=F64).normal_(generator=torch.Generator().manual_seed(seed))


def pair(schedule):
    return expint.targets.GaussianMixture(PAIR, 0.1, None, schedule)


def denoised(model, x, t):
    t = torch.as_tensor(t, dtype=F64)
    rule = to_denoiser(model.prediction, model.schedule, t, getattr(model, "sigma_data", None))
    return rule.on_x * x + rule.on_output * model(x, t)


def identity(schedule):
    """A model whose denoised estimate is the state itself."""
    return FunctionModel(schedule, "data", lambda x, t: x)


# Thresholding


def test_static_threshold_clips():
    x = torch.tensor([[-3.0, 0.5, 1.5]])
    torch.testing.assert_close(
        threshold(identity(EDM), "static")(x, 1.0), torch.tensor([[-1.0, 0.5, 1.0]])
    )
    torch.testing.assert_close(
        threshold(identity(EDM), "static", limits=(0, 1.25))(x, 1.0),
        torch.tensor([[0.0, 0.5, 1.25]]),
    )


@pytest.mark.parametrize("shape", [(3, 7), (2, 3, 10, 11), (4, 1)])
@pytest.mark.parametrize("percentile", [1.0, 0.995, 0.8, 0.01])
def test_dynamic_threshold_is_imagens_formula(shape, percentile):
    x = 2.0 * normals(*shape)
    x[0] *= 0.01  # in range: it must stay
    bound = (
        torch.quantile(x.abs().flatten(1), percentile, dim=1)
        .clamp(min=1.0)
        .reshape(-1, *[1] * (len(shape) - 1))
    )
    result = threshold(identity(EDM), "dynamic", percentile=percentile)(x, 1.0)
    torch.testing.assert_close(result, x.clamp(-bound, bound) / bound, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(result[0], x[0], rtol=1e-12, atol=0)
    # with other limits: the same about their middle
    shifted = threshold(identity(EDM), "dynamic", percentile=percentile, limits=(3.0, 7.0))(
        5.0 + 2.0 * x, 1.0
    )
    torch.testing.assert_close(shifted, 5.0 + 2.0 * result, rtol=1e-12, atol=1e-12)


def test_dynamic_threshold_takes_large_images():
    x = torch.linspace(-2.0, 2.0, 2**24 + 2).reshape(
        1, -1
    )  # more numbers than torch.quantile takes
    torch.testing.assert_close(threshold(identity(EDM), percentile=0.5)(x, 1.0), x.clamp(-1.0, 1.0))


@pytest.mark.parametrize("own", PREDICTIONS)
def test_threshold_acts_on_the_denoised_estimate_of_any_prediction(own):
    model = Reparametrized(mixture(VP), own, 0.7)
    x, t = 2.0 * normals(5, 2), torch.tensor(0.4, dtype=F64)
    expected = mixture(VP)(x, t).clamp(-0.3, 0.3)
    assert (expected.abs() == 0.3).any() and (expected.abs() < 0.3).any()
    as_data = threshold(model, "static", limits=(-0.3, 0.3))
    assert as_data.prediction == "data"
    torch.testing.assert_close(as_data(x, t), expected, rtol=1e-10, atol=1e-10)
    as_own = threshold(model, "static", limits=(-0.3, 0.3), prediction=None)
    assert as_own.prediction == own
    torch.testing.assert_close(denoised(as_own, x, t), expected, rtol=1e-10, atol=1e-10)


def test_samples_end_within_the_limits():
    model = load("digits-edm", labels=[3, 7])
    options = {"solver": "seeds-1", "steps": 5, "progress": False}
    free = expint.sample(cfg(model, 6.0), (2, 1, 8, 8), **options)
    for method in ("static", "dynamic"):
        kept = expint.sample(threshold(cfg(model, 6.0), method), (2, 1, 8, 8), **options)
        assert free.abs().max() > 1.05 and kept.abs().max() <= 1.0


# Inpainting


@pytest.mark.parametrize("form", ["data", "noise"])
@pytest.mark.parametrize("solver", ["seeds-1", "seeds-3", "seeds-sra"])
@pytest.mark.parametrize("ell", [0.0, 1.0])
@pytest.mark.parametrize("own", ["data", "noise"])
def test_known_pixels_are_kept_exactly(form, solver, ell, own):
    known = normals(4, 2, 3).float()
    mask = normals(4, 2, 3, seed=1) > 0
    model = Reparametrized(FunctionModel(VP, "data", lambda x, t: torch.sin(x)), own)
    result = expint.sample(
        inpaint(model, known, mask), (4, 2, 3), solver, steps=5, form=form, ell=ell, progress=False
    )
    assert torch.equal(result[mask], known[mask])
    assert ((result - known)[~mask].abs() > 1e-3).all()


def test_known_digits_are_kept_exactly():
    model = load("digits-edm", labels=[3] * 4)
    known = expint.sample(
        model.with_labels([3]), (1, 1, 8, 8), "seeds-2", steps=8, seed=100, progress=False
    )
    mask = torch.zeros(8, 8)
    mask[:4] = 1
    results = expint.sample(
        inpaint(model, known, mask), (4, 1, 8, 8), "seeds-2", steps=8, progress=False
    )
    assert torch.equal(results[:, :, :4], known[:, :, :4].expand(4, -1, -1, -1))
    assert (results[0, :, 4:] - results[1, :, 4:]).abs().max() > 0.1  # the rest is sampled


def test_known_pixels_tell_the_others():
    known = torch.tensor([2.0, math.nan])
    options = {"steps": 20, "progress": False}
    free = expint.sample(pair(EDM), (100, 2), "seeds-2", **options)
    assert 20 < (free[:, 1] > 0).sum() < 80
    result = expint.sample(
        inpaint(pair(EDM), known, torch.tensor([True, False])), (100, 2), "seeds-2", **options
    )
    assert (result[:, 0] == 2.0).all()
    assert (result[:, 1] - 1.0).abs().max() < 5 * 0.1


@pytest.mark.parametrize("ell", [0.0, 1.0])
def test_the_known_region_of_the_state_is_at_the_noise_level_of_the_rest(ell):
    known = torch.full((4000, 2), 0.7, dtype=F64)
    model = inpaint(pair(VP), known, torch.tensor([True, False]))
    seen = []
    x = VP.std(1.0) * normals(4000, 2) + VP.alpha(1.0) * known
    expint.sample(
        model,
        x,
        "seeds-2",
        steps=6,
        ell=ell,
        seed=5,
        progress=False,
        callback=lambda *a: seen.append((a[2], a[3].clone())),
    )
    for t, state in seen[:-1]:
        if ell == 0.0:  # the same normals all the way
            expected = VP.alpha(t) * 0.7 + VP.std(t) * normals(4000, 2)[:, 0]
            torch.testing.assert_close(state[:, 0], expected, rtol=1e-9, atol=1e-9)
        noise = (state[:, 0] - VP.alpha(t) * 0.7) / VP.std(t)
        assert abs(noise.mean()) < 5 / math.sqrt(4000) and abs(noise.var() - 1) < 5 * math.sqrt(
            2 / 4000
        )


def test_given_noise_is_what_the_network_sees():
    known, noise, x = normals(3, 2), normals(3, 2, seed=1), normals(3, 2, seed=2)
    seen = []
    model = FunctionModel(VP, "noise", lambda state, t: seen.append(state) or 0.5 * state)
    wrapped = inpaint(model, known, torch.tensor([[True, False]]), noise=noise)
    t = torch.tensor(0.3, dtype=F64)
    result = wrapped(x, t)
    torch.testing.assert_close(seen[0][:, 0], VP.alpha(t) * known[:, 0] + VP.std(t) * noise[:, 0])
    assert torch.equal(seen[0][:, 1], x[:, 1])
    assert torch.equal(result[:, 0], known[:, 0])
    torch.testing.assert_close(result[:, 1], x[:, 1] * (1 - 0.5 * VP.std(t)) / VP.alpha(t))
    as_noise = inpaint(model, known, torch.tensor([[True, False]]), noise=noise, prediction=None)
    torch.testing.assert_close(denoised(as_noise, x, t), result, rtol=1e-10, atol=1e-10)


def test_noise_of_the_initial_state_is_that_of_the_run_without_stochasticity():
    known, mask, seeds = normals(5, 2), torch.tensor([True, False]), range(3, 8)
    noise = expint.noise.initial_state(seeds, (2,), F64)
    x = VP.alpha(1.0) * torch.where(mask, known, 0.0) + VP.std(1.0) * noise
    options = {"solver": "seeds-2", "steps": 8, "ell": 0.0, "progress": False}
    frozen = expint.sample(inpaint(pair(VP), known, mask, noise=noise), x, **options)
    torch.testing.assert_close(
        frozen, expint.sample(inpaint(pair(VP), known, mask), x, **options), rtol=1e-8, atol=1e-8
    )


# Reconstruction guidance


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("schedule", [VP, EDM, FLOW], ids=["VP", "EDM", "Flow"])
def test_reconstruction_guidance_is_the_formula(schedule, prediction):
    # D is affine in x for a Gaussian, so its Jacobian is known: the gradient of |y − H D|² is −2
    # gain Hᵀ (y − H D).
    target = expint.targets.Gaussian([0.5, -1.0, 0.0], [0.3, 1.0, 2.0], schedule)
    H = normals(2, 3)
    y, x = normals(4, 2, seed=1), normals(4, 3, seed=2)
    t = torch.tensor(schedule.t_of_sigma(0.9), dtype=F64)
    D, alpha, std = target(x, t), schedule.alpha(t), schedule.std(t)
    model = Reparametrized(target, prediction, 0.7)
    for noise_std in (0.0, 0.4):
        guided = reconstruction_guidance(
            model, lambda image: image @ H.T, y, 1.5, noise_std=noise_std
        )
        sigma2 = (std / alpha) ** 2
        shift = (
            1.5 * alpha * sigma2 / (sigma2 + noise_std**2) * target.gain(t) * ((y - D @ H.T) @ H)
        )
        assert guided.prediction == prediction
        torch.testing.assert_close(denoised(guided, x, t), D + shift, rtol=1e-9, atol=1e-9)
        assert guided.network_evaluations == 1


@pytest.mark.parametrize("schedule", [VP, EDM], ids=["VP", "EDM"])
def test_a_flat_prior_gives_the_exact_posterior(schedule):
    # x_0 flat, x_t = α x_0 + σ̄ ε and y = x_0 + s η: E[x_0 | x_t, y] = (s² z + σ² y)/(s² + σ²), z =
    # x_t/α.
    target = expint.targets.Gaussian([0.0, 0.0], 1e12, schedule)
    x, y = normals(3, 2), normals(3, 2, seed=1)
    for sigma in (0.1, 1.0, 20.0):
        t = torch.tensor(schedule.t_of_sigma(sigma), dtype=F64)
        z = x / schedule.alpha(t)
        exact = (0.25 * z + sigma**2 * y) / (0.25 + sigma**2)
        guided = reconstruction_guidance(target, lambda image: image, y, noise_std=0.5)
        torch.testing.assert_close(
            guided(x, t), exact, rtol=1e-6, atol=1e-6
        )  # the variance of 1e12 costs digits


def test_a_mask_is_an_operator():
    x, y, mask = normals(4, 2), normals(4, 2, seed=1), torch.tensor([[1, 0]])
    y[:, 1] = math.nan  # not measured
    as_mask = reconstruction_guidance(mixture(EDM), mask, y)
    as_function = reconstruction_guidance(mixture(EDM), lambda image: image[:, :1], y[:, :1])
    torch.testing.assert_close(as_mask(x, 0.8), as_function(x, 0.8), rtol=1e-12, atol=1e-12)
    assert (as_mask(x, 0.8) - mixture(EDM)(x, 0.8)).abs().max() > 0.01


def test_measured_digits_are_approached_in_inference_mode():
    """Mean square of the blurred samples' distance from the blurred image, of 10 samples with and
    without guidance: 0.00005 and 0.09.
    """
    model = load("digits-edm", labels=[3] * 10)
    image = expint.sample(
        model.with_labels([3]), (1, 1, 8, 8), "seeds-2", steps=10, seed=100, progress=False
    )

    def blur(x):
        return torch.nn.functional.avg_pool2d(x, 2)

    guided = reconstruction_guidance(model, blur, blur(image), 2.0)
    distances = []
    for each in (guided, model):
        samples = expint.sample(
            each, (10, 1, 8, 8), "seeds-2", steps=20, grid="uniform_lambda", progress=False
        )
        distances.append((blur(samples) - blur(image)).square().mean().item())
    assert distances[0] < 0.02 * distances[1], distances


def test_reconstruction_at_infinite_sigma_is_left_to_the_model():
    target = pair(FLOW)
    guided = reconstruction_guidance(target, torch.tensor([True, False]), torch.tensor([2.0, 0.0]))
    x = normals(3, 2)
    torch.testing.assert_close(guided(x, 1.0), target(x, 1.0), rtol=0, atol=0)
    samples = expint.sample(guided, (200, 2), "seeds-2", steps=20, progress=False)
    assert (samples[:, 1] > 0).float().mean() > 0.5 + 5 * 0.5 / math.sqrt(200)


# Composition


def test_gradients_go_through_wrappers():
    # The outer gradient differentiates the inner one, too: compared with differences of the inner
    # model.
    inner = classifier_guidance(
        inpaint(mixture(EDM), torch.tensor([0.3, 0.0], dtype=F64), torch.tensor([False, True])),
        lambda x, t: torch.stack([x.sum(1), x.square().sum(1)], 1),
        [0, 1, 0],
        0.2,
    )
    y, x, sigma = normals(3, 2, seed=1), normals(3, 2), 0.6
    outer = reconstruction_guidance(inner, lambda image: image, y)
    slope = torch.empty_like(x)
    for j in range(2):
        step = torch.zeros_like(x)
        step[:, j] = 1e-5
        slope[:, j] = (
            (y - inner(x + step, sigma)).square().sum(1)
            - (y - inner(x - step, sigma)).square().sum(1)
        ) / 2e-5
    torch.testing.assert_close(outer(x, sigma), inner(x, sigma) - 0.5 * slope, rtol=1e-7, atol=1e-8)


def test_all_together_on_the_digits():
    labels = [3, 7]
    model = load("digits-edm", labels=labels)
    known = torch.full((1, 8, 8), -1.0)
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[:, :, :2] = True
    guided = cfg(model, 2.0, interval=(0.1, 10.0), rescale=0.5)
    measured = reconstruction_guidance(
        guided, lambda image: image.mean((1, 2, 3)), torch.tensor([-0.3, -0.3])
    )
    composed = inpaint(threshold(measured), known, mask)
    result = expint.sample(composed, (2, 1, 8, 8), "seeds-2", steps=8, progress=False)
    assert (
        torch.equal(result[..., :2], known[..., :2].expand(2, 1, 8, 2))
        and result.abs().max() <= 1.0
    )
    assert composed.network_evaluations == guided.network_evaluations > 15
    # guidance by two gradients, one inside the other, through the network's attention
    classified = classifier_guidance(measured, lambda x, t: x.mean((2, 3)).expand(-1, 10), labels)
    outer = reconstruction_guidance(classified, mask, known)
    assert torch.isfinite(
        expint.sample(outer, (2, 1, 8, 8), "seeds-1", steps=4, progress=False)
    ).all()


def test_constraints_say_what_the_model_says():
    table = VPAdapter(lambda x, ts: x, schedules.IDDPM(M=100), timesteps="round")
    mask, y = torch.tensor([True, False]), torch.zeros(2)
    for wrapped, prediction in (
        (threshold(table), "data"),
        (threshold(table, prediction=None), "noise"),
        (inpaint(table, y, mask), "data"),
        (inpaint(table, y, mask, prediction="v"), "v"),
        (reconstruction_guidance(table, mask, y), "noise"),
    ):
        assert (
            wrapped.prediction == prediction
            and wrapped.schedule is table.schedule
            and wrapped.sigma_data is None
        )
        assert (
            wrapped.device == torch.device("cpu")
            and wrapped.round_time(torch.tensor(3.4, dtype=F64)) == 3.0
        )
    assert threshold(load("digits-edm")).sigma_data == 0.752


# Image to image


@pytest.mark.parametrize("schedule", [EDM, VP, FLOW], ids=["EDM", "VP", "Flow"])
@pytest.mark.parametrize(
    "name", [n for n in grids.names() if n not in ("discrete", "edm_iddpm", *grids.SPACINGS)]
)
@pytest.mark.parametrize("final", ["denoise", "none"])
def test_start_lays_a_named_grid_from_the_level(schedule, name, final):
    times = start(schedule, torch.zeros(1, 2), sigma=2.0, steps=6, grid=name, final=final).grid
    sigmas = schedule.sigma(times)
    assert len(times) == 7 and times.dtype == F64
    assert sigmas[0].item() == pytest.approx(2.0, rel=1e-9)
    data_end = schedule.sigma(schedule.sampling_range[1])
    if final == "none" or not name.startswith("ays_"):  # whose last step takes the end's place
        assert sigmas[5 if final == "denoise" else 6].item() == pytest.approx(data_end, rel=1e-9)
    assert (sigmas[6] == 0) == (final == "denoise")


@pytest.mark.parametrize("schedule", [EDM, VP, FLOW], ids=["EDM", "VP", "Flow"])
def test_start_by_default_takes_equal_angles(schedule):
    times = start(schedule, torch.zeros(1, 2), sigma=2.0, steps=6).grid
    angles = torch.atan(schedule.sigma(times))
    expected = math.atan(2.0) * torch.arange(6, -1, -1, dtype=F64) / 6
    torch.testing.assert_close(angles, expected, rtol=1e-9, atol=1e-15)


def test_start_is_the_noised_image():
    image = normals(3, 2)
    x, times = start(VP, image, strength=0.6, seed=4)
    assert VP.sigma(times[0].item()) == pytest.approx(1.5)
    noise = expint.noise.initial_state(per_sample(4, 3), (2,), F64)
    torch.testing.assert_close(x, VP.alpha(times[0]) * image + VP.std(times[0]) * noise)
    assert torch.equal(start(VP, image[1:2], strength=0.6, seeds=per_sample(4, 3)[1:2]).x, x[1:2])
    assert start(VP, image.float(), strength=0.6).x.dtype == torch.float32


@pytest.mark.parametrize("schedule", [EDM, VP, FLOW], ids=["EDM", "VP", "Flow"])
def test_full_strength_is_an_ordinary_run(schedule):
    x, times = start(schedule, torch.zeros(4, 2), strength=1.0, steps=8)
    options = {"solver": "seeds-ab2", "progress": False}
    expected = expint.sample(mixture(schedule), (4, 2), steps=8, **options)
    torch.testing.assert_close(
        expint.sample(mixture(schedule), x, grid=times, **options), expected, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("timesteps", ["round", "interpolate"])
def test_a_table_is_started_at_an_entry(timesteps):
    model = VPAdapter(lambda x, ts: 0.1 * x, schedules.IDDPM(M=200), timesteps=timesteps)
    grid = None if timesteps == "round" else "discrete"
    x, times = start(model, torch.zeros(2, 3), strength=0.5, steps=7, grid=grid)
    assert torch.equal(times[1:-1], times[1:-1].round()) and (grid is None or times[-2] == 0.0)
    assert abs(math.log(model.schedule.sigma(times[0].item()))) < 0.05
    plan = expint.plan_sampling(model.schedule, "seeds-1", grid=times, round_time=model.round_time)
    torch.testing.assert_close(plan.grid, times, rtol=0, atol=0)
    expint.sample(model, x, "seeds-1", grid=times, progress=False)


def test_strength_is_how_much_of_the_image_is_lost():
    """Share of the samples that stay with the component of the image: all at low strength, half
    when the image is forgotten.
    """
    image = torch.tensor([[2.0, 1.0]]).expand(400, 2)
    stayed = []
    for strength in (0.3, 0.6, 0.75, 1.0):
        x, times = start(pair(EDM), image, strength=strength, steps=20)
        samples = expint.sample(pair(EDM), x, "seeds-2", grid=times, seed=1000, progress=False)
        stayed.append((samples[:, 0] > 0).float().mean().item())
    assert stayed[0] == 1.0 and stayed == sorted(stayed, reverse=True)
    assert abs(stayed[-1] - 0.5) < 5 * 0.5 / math.sqrt(400)


TARGET, MASK, Y = mixture(EDM), torch.tensor([True, False]), torch.tensor([1.0, 2.0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: threshold(lambda x, t: x), "A model is a callable"),
        (lambda: threshold(TARGET, "hard"), "method must be one of .*dynamic.*'hard'"),
        (lambda: threshold(TARGET, limits=(1.0, -1.0)), "low < high"),
        (lambda: threshold(TARGET, limits=3.0), "limits must be a pair"),
        (lambda: threshold(TARGET, limits=(0.0, math.inf)), "limits must be finite"),
        (lambda: threshold(TARGET, percentile=99.5), r"in \[0, 1\], got 99.5"),
        (lambda: threshold(TARGET, percentile=0.0), r"\(0, 1\]"),
        (lambda: threshold(TARGET, prediction="epsilon"), "Unknown prediction"),
        (lambda: threshold(TARGET, prediction="precond"), "sigma_data"),
        (lambda: inpaint(TARGET, [1.0, 2.0], MASK), "known must be a tensor"),
        (lambda: inpaint(TARGET, Y, [True, False]), "mask must be a tensor"),
        (lambda: inpaint(TARGET, Y, torch.tensor([0.5, 1.0])), "other values, such as 0.5"),
        (lambda: inpaint(TARGET, Y, torch.tensor([True] * 3)), "do not broadcast"),
        (lambda: inpaint(TARGET, torch.tensor([math.nan, 1.0]), MASK), "1 of its values"),
        (
            lambda: inpaint(TARGET, Y, MASK, noise=torch.tensor([math.inf, 0.0])),
            "noise must be finite",
        ),
        (
            lambda: inpaint(TARGET, torch.zeros(3, 2), MASK)(torch.zeros(4, 2), 1.0),
            r"\(3, 2\), which does not broadcast.*\(4, 2\)",
        ),
        (
            lambda: inpaint(TARGET, torch.zeros(5, 1, 2), MASK)(torch.zeros(4, 2), 1.0),
            "does not broadcast",
        ),
        (
            lambda: reconstruction_guidance(TARGET, "blur", Y),
            "operator must be callable or a tensor",
        ),
        (lambda: reconstruction_guidance(TARGET, MASK, [1.0, 2.0]), "measurement must be a tensor"),
        (
            lambda: reconstruction_guidance(TARGET, MASK, torch.tensor([math.nan, 1.0])),
            "measurement must be finite",
        ),
        (lambda: reconstruction_guidance(TARGET, MASK, Y, -1.0), "scale must be >= 0"),
        (
            lambda: reconstruction_guidance(TARGET, MASK, Y, noise_std=-1.0),
            "noise_std must be >= 0",
        ),
        (
            lambda: reconstruction_guidance(TARGET, lambda x: x.sum(), Y)(torch.zeros(3, 2), 1.0),
            "one measurement per sample",
        ),
        (
            lambda: reconstruction_guidance(TARGET, lambda x: x[:, :1], Y)(torch.zeros(3, 2), 1.0),
            r"operator returns \(3, 1\)",
        ),
        (lambda: start(EDM, torch.zeros(1, 2)), "either strength or sigma"),
        (
            lambda: start(EDM, torch.zeros(1, 2), strength=0.5, sigma=1.0),
            "either strength or sigma",
        ),
        (lambda: start(EDM, torch.zeros(1, 2), strength=0.0), "the image is the result"),
        (lambda: start(EDM, torch.zeros(1, 2), strength=1.5), r"strength must be in \[0, 1\]"),
        (lambda: start(EDM, torch.zeros(1, 2), sigma=81.0), "from 80 to 0.002, but sigma=81.0"),
        (lambda: start(EDM, torch.zeros(1, 2), sigma=0.001), "but sigma=0.001"),
        (lambda: start(EDM, torch.tensor([[math.nan]]), sigma=1.0), "contains NaN"),
        (lambda: start(EDM, [[1.0]], sigma=1.0), "image must be a tensor"),
        (lambda: start(EDM, torch.zeros(1, 2), sigma=1.0, grid="lambda"), "Unknown grid"),
        (
            lambda: start(EDM, torch.zeros(1, 2), sigma=1.0, grid="discrete"),
            "needs a tabulated schedule",
        ),
        (
            lambda: start(EDM, torch.zeros(1, 2), sigma=1.0, seeds=[1, 2]),
            "2 seeds came for a batch of 1",
        ),
        (lambda: start(lambda x, t: x, torch.zeros(1, 2), sigma=1.0), "A model is a callable"),
    ],
)
def test_wrong_arguments_are_told(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool, torch.complex64])
def test_pixels_in_bytes_are_refused(dtype):
    """0 ... 255 is not the range of any network."""
    pixels = torch.full((2,), 200).to(dtype)
    for make in (
        lambda: inpaint(TARGET, pixels, MASK),
        lambda: inpaint(TARGET, Y, MASK, noise=pixels),
        lambda: reconstruction_guidance(TARGET, MASK, pixels),
    ):
        with pytest.raises(TypeError, match=r"floating-point numbers in the range of the network"):
            make()
