"""Guidance: against the formulas, against exact conditional denoisers, and on the shipped
class-conditional network.
"""

import math

import pytest
import torch
from toy_models import FunctionModel, forbidden, mixture

import expint
from diffusion_adapters import (
    EDMAdapter,
    IDDPMAdapter,
    VPAdapter,
    cfg,
    classifier_guidance,
    load,
    load_classifier,
    threshold,
)
from expint import schedules
from expint.equations.predictions import PREDICTIONS, to_denoiser
from expint.runs import Reparametrized

F64 = torch.float64
EDM, VP = schedules.EDM(), schedules.VP()
MEANS = torch.tensor([[-1.0, 0.2], [0.8, 0.6], [0.3, -0.9]], dtype=F64)


def states(n=6, seed=0, scale=1.5):
    return scale * torch.empty(n, 2, dtype=F64).normal_(
        generator=torch.Generator().manual_seed(seed)
    )


def component(schedule, k):
    """The exact denoiser of one component of `mixture`: the conditional model of its label."""
    return expint.targets.Gaussian(MEANS[k], 0.09, schedule)


def denoised(model, x, t):
    rule = to_denoiser(model.prediction, model.schedule, t, getattr(model, "sigma_data", None))
    return rule.on_x * x + rule.on_output * model(x, t)


def time_of(schedule, sigma):
    return torch.tensor(schedule.t_of_sigma(sigma), dtype=F64)


class LabelledNet:
    """An EDM network of three classes that notes its calls: class k is pulled to k − 1, no class to
    nothing.
    """

    sigma_min, sigma_max, sigma_data, label_dim = 0.002, 80.0, 0.5, 3

    def __init__(self):
        self.batches = []

    def __call__(self, x, sigma, class_labels=None):
        self.batches.append(len(x))
        labels = torch.zeros(len(x), 3) if class_labels is None else class_labels
        return (
            0.5 * x
            + (labels @ torch.tensor([-1.0, 0.0, 1.0])).to(x.dtype)[:, None]
            + 0.1 * x.roll(1, 1)
        )


# Classifier-free guidance


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("other_prediction", ["data", "noise"])
def test_cfg_is_linear_in_the_denoised_estimate(prediction, other_prediction):
    conditional = Reparametrized(component(VP, 1), prediction, 0.7)
    unconditional = Reparametrized(mixture(VP), other_prediction)
    guided = cfg(conditional, 2.5, unconditional=unconditional)
    assert guided.prediction == prediction
    x, t = states(), time_of(VP, 0.8)
    with_label, without = component(VP, 1)(x, t), mixture(VP)(x, t)
    torch.testing.assert_close(
        denoised(guided, x, t), without + 2.5 * (with_label - without), rtol=1e-10, atol=1e-10
    )


@pytest.mark.parametrize(("scale", "expected"), [(1.0, "conditional"), (0.0, "unconditional")])
def test_scales_one_and_zero_are_one_of_the_models_at_one_evaluation(scale, expected):
    models = {"conditional": component(EDM, 0), "unconditional": mixture(EDM)}
    other = {"conditional": "unconditional", "unconditional": "conditional"}[expected]
    called = {expected: models[expected], other: forbidden(EDM)}
    guided = cfg(called["conditional"], scale, unconditional=called["unconditional"])
    x, t = states(), time_of(EDM, 1.3)
    torch.testing.assert_close(guided(x, t), models[expected](x, t), rtol=0, atol=0)
    assert guided.network_evaluations == 1


def test_scale_one_on_the_digits_is_the_conditional_network():
    model = load("digits-edm", labels=[3, 7])
    guided = cfg(model, 1.0)
    options = {"solver": "seeds-2", "steps": 4, "progress": False}
    torch.testing.assert_close(
        expint.sample(guided, (2, *model.shape), **options),
        expint.sample(model, (2, *model.shape), **options),
        rtol=0,
        atol=1e-6,
    )
    assert guided.network_evaluations == 7  # 3 steps of 2 evaluations, and the last one


def test_batched_is_one_call_and_the_same_as_two():
    calls = {}
    results = {}
    for batched in (True, False):
        net = LabelledNet()
        guided = cfg(EDMAdapter(net, labels=[0, 2, 1]), 3.0, batched=batched)
        results[batched] = guided(states(3), 1.0)
        calls[batched] = net.batches
        assert guided.network_evaluations == 2
    assert calls == {True: [6], False: [3, 3]}
    torch.testing.assert_close(results[True], results[False], rtol=1e-14, atol=1e-14)
    # And the formula: the labels' pull of −1, 1 and 0 is three times as strong.
    x, pull = states(3), torch.tensor([-3.0, 3.0, 0.0], dtype=F64)[:, None]
    torch.testing.assert_close(results[True], 0.5 * x + 0.1 * x.roll(1, 1) + pull)


def test_batched_is_the_same_as_two_calls_on_the_digits():
    model = load("digits-edm", labels=[3, 7, 0])
    x = states(96, scale=3.0).float().reshape(3, 1, 8, 8)
    results = [cfg(model, 2.0, batched=batched)(x, 2.0) for batched in (True, False)]
    torch.testing.assert_close(*results, rtol=0, atol=1e-5)
    assert (results[0] - model(x, 2.0)).abs().max() > 0.01


def test_conditions_of_other_adapters_are_given():
    seen = []

    def network(x, ts, y, strength):
        seen.append(y.tolist())
        assert strength == 0.5
        return x * 0.1 + y[:, None]

    model = IDDPMAdapter(network, condition={"y": torch.tensor([1, 2]), "strength": 0.5})
    x = states(2)
    for batched, labels in ((True, [[1, 2, 9, 9]]), (False, [[1, 2], [9, 9]])):
        guided = cfg(model, 2.0, unconditional={"y": torch.tensor([9, 9])}, batched=batched)
        seen.clear()
        torch.testing.assert_close(
            guided(x, 30.0), 0.1 * x + torch.tensor([[-7.0], [-5.0]], dtype=F64)
        )
        assert seen == labels


def test_two_networks_take_two_calls_even_if_batched():
    first, second = LabelledNet(), LabelledNet()
    guided = cfg(EDMAdapter(first, labels=[0, 1]), 2.0, unconditional=EDMAdapter(second))
    guided(states(2), 1.0)
    assert first.batches == second.batches == [2]


def test_interval_is_where_guidance_acts():
    net = LabelledNet()
    model = EDMAdapter(net, labels=[0, 2])
    guided = cfg(model, 3.0, interval=(0.5, 2.0))
    always = cfg(model, 3.0)
    x = states(2)
    for sigma, inside in ((0.49, False), (0.51, True), (1.99, True), (2.01, False), (80.0, False)):
        expected = always if inside else model
        before = guided.network_evaluations
        torch.testing.assert_close(guided(x, sigma), expected(x, sigma), rtol=1e-14, atol=1e-14)
        assert guided.network_evaluations - before == 1 + inside


def test_interval_costs_what_the_plan_says():
    guided = cfg(load("digits-edm", labels=[1]), 2.0, interval=(0.1, 3.0))
    plan = expint.plan_sampling(guided.schedule, "seeds-2", steps=8)
    inside = sum(0.1 < guided.schedule.sigma(row.time) <= 3.0 for row in plan.rows)
    assert 0 < inside < plan.nfe
    expint.sample(guided, (1, 1, 8, 8), "seeds-2", steps=8, progress=False)
    assert guided.network_evaluations == plan.nfe + inside


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_rescale_sets_the_standard_deviation_of_each_sample(share):
    def output(factor):
        return FunctionModel(EDM, "data", lambda x, t: factor * torch.sin(2.0 * x) + 0.3)

    x = torch.linspace(-3.0, 4.0, 40, dtype=F64).reshape(2, 20)
    t = time_of(EDM, 1.0)
    positive, negative = output(1.0)(x, t), output(0.2)(x, t)
    plain = negative + 4.0 * (positive - negative)
    rescaled = plain * positive.std(1, keepdim=True) / plain.std(1, keepdim=True)
    guided = cfg(output(1.0), 4.0, unconditional=output(0.2), rescale=share)
    torch.testing.assert_close(
        guided(x, t), share * rescaled + (1.0 - share) * plain, rtol=1e-12, atol=1e-12
    )
    if share == 1.0:
        torch.testing.assert_close(guided(x, t).std(1), positive.std(1), rtol=1e-12, atol=0)


def test_a_sample_of_one_number_is_not_rescaled():
    models = [FunctionModel(EDM, "data", lambda x, t, f=factor: f * x) for factor in (1.0, 0.5)]
    for shape in ((3,), (3, 1)):
        x = torch.ones(shape, dtype=F64)
        torch.testing.assert_close(
            cfg(models[0], 2.0, unconditional=models[1], rescale=1.0)(x, 1.0), 1.5 * x
        )


@pytest.mark.parametrize("solver", ["seeds-1", "seeds-2"])
def test_guided_sampling_of_gaussians_follows_the_guided_denoiser(solver):
    # D_u + w (D_c − D_u) of two Gaussians with one variance is the denoiser of the Gaussian with
    # mean m_u + w (m_c − m_u).
    conditional, unconditional = (
        expint.targets.Gaussian([1.0], 0.25, EDM),
        expint.targets.Gaussian([0.0], 0.25, EDM),
    )
    options = {"solver": solver, "steps": 10, "dtype": F64, "progress": False}
    guided = expint.sample(cfg(conditional, 3.0, unconditional=unconditional), (20, 1), **options)
    exact = expint.sample(expint.targets.Gaussian([3.0], 0.25, EDM), (20, 1), **options)
    torch.testing.assert_close(guided, exact, rtol=1e-10, atol=1e-10)


def test_guidance_makes_the_digits_clearer():
    """Log-probability of the wanted class after unit noise on the samples (without it the
    classifier is sure of all), scale 2 against 1 from the same seeds: the mean of the paired
    differences was 10.3 of its standard errors, positive for 90 % of pairs.
    """
    labels = torch.arange(200) % 10
    model = load("digits-edm", labels=labels)
    classifier, _ = load_classifier("digits-classifier")
    noise = torch.empty(200, 1, 8, 8).normal_(generator=torch.Generator().manual_seed(1))
    scores = []
    for scale in (1.0, 2.0):
        guided = cfg(model, scale)
        samples = expint.sample(
            guided, (200, 1, 8, 8), "seeds-1", steps=8, ell=0.0, grid="karras", progress=False
        )
        scores.append(
            classifier(samples.clamp(-1, 1) + noise).log_softmax(1)[torch.arange(200), labels]
        )
        assert guided.network_evaluations == 8 * scale
    gain = scores[1] - scores[0]
    assert gain.mean() > 5 * gain.std() / math.sqrt(200)
    assert (gain > 0).float().mean() > 0.5 + 5 * 0.5 / math.sqrt(200)


# Guidance by a classifier


def posterior(schedule):
    """Exact logits of the components of `mixture` given the noisy state."""
    target = mixture(schedule)

    def logits(x, t):
        alpha, std = schedule.alpha(t), schedule.std(t)
        return target.logits(x, alpha, alpha**2 * target.std**2 + std**2)[0]

    return logits


@pytest.mark.parametrize("schedule", [EDM, VP, schedules.Flow()], ids=["EDM", "VP", "Flow"])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_an_exact_classifier_gives_the_exact_conditional_denoiser(schedule, prediction):
    labels = torch.tensor([0, 1, 2, 2, 1, 0])
    guided = classifier_guidance(
        Reparametrized(mixture(schedule), prediction, 0.7), posterior(schedule), labels
    )
    assert guided.prediction == prediction
    for sigma in (0.1, 0.8, 10.0):
        t = time_of(schedule, sigma)
        x = states(scale=float(schedule.std(t)) + 0.5)
        exact = torch.cat(
            [component(schedule, k)(x[i : i + 1], t) for i, k in enumerate(labels.tolist())]
        )
        torch.testing.assert_close(denoised(guided, x, t), exact, rtol=1e-8, atol=1e-8)
        assert (mixture(schedule)(x, t) - exact).abs().max() > 0.1  # else it says nothing


def test_classifier_guidance_samples_the_wanted_component_in_inference_mode():
    labels = torch.arange(60) % 3
    guided = classifier_guidance(mixture(VP), posterior(VP), labels)
    samples = expint.sample(guided, (60, 2), "seeds-2", steps=20, dtype=F64, progress=False)
    exact = torch.cat([(samples[i : i + 1] - MEANS[k]) for i, k in enumerate(labels)])
    assert (
        exact.norm(dim=1).max() < 5 * 0.3
    )  # five standard deviations of a component; the components are 1.6 apart or more
    assert not samples.requires_grad and guided.network_evaluations == 39


def test_scale_multiplies_the_gradient_and_zero_calls_no_classifier():
    x, t, labels = states(2), time_of(EDM, 1.0), [0, 2]
    plain = mixture(EDM)(x, t)
    once, thrice = (
        classifier_guidance(mixture(EDM), posterior(EDM), labels, scale)(x, t)
        for scale in (1.0, 3.0)
    )
    torch.testing.assert_close(thrice - plain, 3.0 * (once - plain), rtol=1e-10, atol=1e-12)

    def fail(x, t):
        raise AssertionError

    torch.testing.assert_close(
        classifier_guidance(mixture(EDM), fail, labels, 0.0)(x, t), plain, rtol=0, atol=0
    )


def test_classifier_of_the_denoised_estimate_agrees_with_differences():
    target = mixture(EDM)

    def classifier(clean):
        return -((clean[:, None, :] - MEANS) ** 2).sum(-1)

    x, sigma, labels = states(3), 0.7, torch.tensor([0, 1, 2])
    guided = classifier_guidance(target, classifier, labels, 0.5, on="denoised")

    def log_probability(state):
        return classifier(target(state, sigma)).log_softmax(1)[torch.arange(3), labels]

    slope = torch.empty_like(x)
    for j in range(2):
        step = torch.zeros_like(x)
        step[:, j] = 1e-5
        slope[:, j] = (log_probability(x + step) - log_probability(x - step)) / 2e-5
    torch.testing.assert_close(
        guided(x, sigma), target(x, sigma) + 0.5 * sigma**2 * slope, rtol=1e-7, atol=1e-8
    )
    assert slope.abs().max() > 0.1 and guided.network_evaluations == 1


def test_a_clean_classifier_steers_the_unconditional_digits():
    """Share of samples that the classifier gives to the wanted class: 0.11 without guidance, 0.39
    with; chance is 0.1, and five standard errors of 100 samples are 0.15 at most.
    """
    labels = torch.arange(100) % 10
    classifier, _ = load_classifier("digits-classifier")
    guided = classifier_guidance(load("digits-edm"), classifier, labels, on="denoised")
    samples = expint.sample(
        guided, (100, 1, 8, 8), "seeds-1", steps=12, ell=0.0, grid="karras", progress=False
    )
    assert (classifier(samples).argmax(1) == labels).float().mean() > 0.1 + 5 * math.sqrt(
        0.1 * 0.9 / 100
    )


@pytest.mark.parametrize("prediction", ["data", "v", "flow"])
def test_infinite_sigma_is_left_to_the_model(prediction):
    schedule = schedules.Flow()
    model = Reparametrized(component(schedule, 0), prediction)
    guided = classifier_guidance(model, posterior(schedule), [0, 1])
    x = states(2)
    torch.testing.assert_close(guided(x, 1.0), model(x, 1.0), rtol=0, atol=0)
    assert torch.isfinite(expint.sample(guided, (2, 2), "seeds-2", steps=5, progress=False)).all()


# All of them


def test_wrappers_say_what_the_model_says():
    net = LabelledNet()
    model = EDMAdapter(net, labels=[0, 1])
    table = VPAdapter(lambda x, ts: x, schedules.IDDPM(M=100), timesteps="round")
    for wrap in (
        lambda m: cfg(m, 2.0, unconditional=m),
        lambda m: classifier_guidance(m, lambda x, t: x, [0, 1]),
    ):
        wrapped = wrap(model)
        assert (wrapped.schedule, wrapped.prediction, wrapped.sigma_data) == (
            model.schedule,
            "data",
            0.5,
        )
        assert wrapped.device == torch.device("cpu") and wrapped.round_time is None
        wrapped = wrap(table)
        assert wrapped.prediction == "noise" and wrapped.schedule is table.schedule
        assert wrapped.round_time(torch.tensor(3.4, dtype=F64)) == 3.0


def test_cfg_finds_the_unconditional_case_inside_wrappers():
    model = EDMAdapter(LabelledNet(), labels=[0, 2])
    x = 3.0 * states(2)
    inner = cfg(threshold(model, "static", limits=(-0.5, 0.5)), 2.0)
    clipped, free = model(x, 1.0).clamp(-0.5, 0.5), model.with_labels(None)(x, 1.0).clamp(-0.5, 0.5)
    torch.testing.assert_close(inner(x, 1.0), 2.0 * clipped - free)
    outer = threshold(cfg(model, 2.0), "static", limits=(-0.5, 0.5))
    torch.testing.assert_close(
        outer(x, 1.0), (2.0 * model(x, 1.0) - model.with_labels(None)(x, 1.0)).clamp(-0.5, 0.5)
    )
    assert inner.network_evaluations == outer.network_evaluations == 2
    noise = cfg(Reparametrized(model, "noise"), 2.0)
    torch.testing.assert_close(
        denoised(noise, x, torch.tensor(1.0, dtype=F64)), cfg(model, 2.0)(x, 1.0)
    )


def test_both_guidances_together_add_up():
    labels = [0, 1, 2, 0, 1, 2]
    x, t = states(), time_of(EDM, 0.8)
    parts = cfg(component(EDM, 1), 2.0, unconditional=mixture(EDM))
    both = classifier_guidance(parts, posterior(EDM), labels, 0.5)
    shift = classifier_guidance(mixture(EDM), posterior(EDM), labels, 0.5)(x, t) - mixture(EDM)(
        x, t
    )
    torch.testing.assert_close(both(x, t), parts(x, t) + shift, rtol=1e-10, atol=1e-10)


def test_a_guided_model_can_be_compiled():
    guided = cfg(component(EDM, 0), 2.0, unconditional=mixture(EDM))
    options = {"solver": "seeds-1", "steps": 4, "dtype": F64, "progress": False}
    plain = expint.sample(guided, (4, 2), **options)
    torch.testing.assert_close(
        expint.sample(guided, (4, 2), compile="eager", **options), plain, rtol=1e-12, atol=1e-12
    )


LABELLED = EDMAdapter(LabelledNet(), labels=[0, 1])
TARGET = mixture(EDM)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cfg(lambda x, t: x, 2.0), "A model is a callable"),
        (lambda: cfg(LABELLED, float("nan")), "scale must be finite, got nan"),
        (lambda: cfg(LABELLED, "2"), "scale must be a real number, got str '2'"),
        (lambda: cfg(LABELLED, 2.0, rescale=1.5), r"rescale must be in \[0, 1\], got 1.5"),
        (lambda: cfg(LABELLED, 2.0, interval=(2.0, 1.0)), "sigma_lo < sigma_hi"),
        (lambda: cfg(LABELLED, 2.0, interval=3.0), "interval must be a pair"),
        (lambda: cfg(LABELLED.with_labels(None), 2.0), r"with_labels\("),
        (lambda: cfg(TARGET, 2.0), "give unconditional="),
        (lambda: cfg(TARGET, 2.0, unconditional={"y": 1}), "give unconditional="),
        (lambda: cfg(TARGET, 2.0, unconditional=3), "A model is a callable.*got int"),
        (lambda: cfg(TARGET, 2.0, unconditional=mixture(VP)), "must have one schedule"),
        (
            lambda: cfg(
                VPAdapter(lambda x, ts: x, schedules.IDDPM(), timesteps="interpolate"),
                2.0,
                unconditional=VPAdapter(lambda x, ts: x, schedules.IDDPM(), timesteps="round"),
            ),
            "same `timesteps`",
        ),
        (lambda: classifier_guidance(TARGET, 3, [0]), "must be callable"),
        (
            lambda: classifier_guidance(TARGET, posterior(EDM), [0.5]),
            "labels must be a sequence .each an integer.",
        ),
        (lambda: classifier_guidance(TARGET, posterior(EDM), [-1]), "class indices >= 0"),
        (lambda: classifier_guidance(TARGET, posterior(EDM), []), "class indices >= 0"),
        (lambda: classifier_guidance(TARGET, posterior(EDM), [0], on="clean"), "'denoised'"),
        (
            lambda: classifier_guidance(TARGET, posterior(EDM), [0], math.inf),
            "scale must be finite",
        ),
        (
            lambda: classifier_guidance(TARGET, posterior(EDM), [0])(states(2), 1.0),
            "1 labels for a batch of 2",
        ),
        (
            lambda: classifier_guidance(TARGET, posterior(EDM), [0, 3])(states(2), 1.0),
            r"class indices 0 \.\.\. 2, .*0, 3",
        ),
        (
            lambda: classifier_guidance(TARGET, lambda x, t: x.sum(1), [0, 1])(states(2), 1.0),
            r"logits of shape \(2, classes\)",
        ),
    ],
)
def test_wrong_arguments_are_told(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


class Scaling(torch.nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(scale))

    def forward(self, x, labels):
        return x * self.scale


@pytest.mark.parametrize("other", [{}, VPAdapter(Scaling(0.3))], ids=["condition", "model"])
def test_methods_of_the_networks_inside(other):
    """Of a wrapper, of a reparametrized model, and of both models of guidance."""
    network = Scaling(0.2)
    model = cfg(Reparametrized(VPAdapter(network), "data"), 2.0, unconditional=other)
    outer = threshold(model)
    networks = [network] if other == {} else [network, other.network]
    assert [*outer.parameters()] == [n.scale for n in networks]
    assert outer.eval() is outer and not any(n.training for n in networks)
    assert outer.train() is outer and all(n.training for n in networks)
    assert outer.half() is outer and all(n.scale.dtype == torch.float16 for n in networks)
    assert outer.to("cpu", torch.float64) is outer
    assert all(n.scale.dtype == torch.float64 for n in networks)
    exact = mixture(schedules.VP())
    for call in (lambda m: m.eval(), lambda m: m.half(), lambda m: m.to("cpu")):
        with pytest.raises(TypeError, match=r"needs a model with a network.*GaussianMixture"):
            call(threshold(exact))
    assert [*threshold(exact).parameters()] == []


def test_a_classifier_of_other_arguments_is_refused_at_once():
    model = mixture(schedules.VP())
    with pytest.raises(TypeError, match=r"classifier\(x, t\), but function takes \(x\).*denoised"):
        classifier_guidance(model, lambda x: x, [0])
    with pytest.raises(TypeError, match=r"on='denoised' the classifier is called as classifier\(D"):
        classifier_guidance(model, lambda x, t: x, [0], on="denoised")
    classifier_guidance(model, lambda x, t, temperature=1.0: x, [0])
    with pytest.raises(ValueError, match=r"logits of shape \(1, classes\), got ndarray \(1, 2\)"):
        classifier_guidance(model, lambda x, t: x.detach().numpy(), [0])(torch.zeros(1, 2), 0.5)
    classifier_guidance(model, torch.nn.Linear(2, 2), [0], on="denoised")


def test_an_unconditional_case_of_other_arguments_is_refused_at_once():
    model = IDDPMAdapter(lambda x, ts, y: x, condition={"y": torch.zeros(2)})
    with pytest.raises(TypeError, match=r"called as net\(x, labels, y=..., z=...\)"):
        cfg(model, 2.0, unconditional={"z": torch.zeros(2)})
