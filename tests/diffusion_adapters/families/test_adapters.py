"""Adapters: a network that is really the exact denoiser, wrapped in each family's convention, must
come back as that denoiser.
"""

import numpy as np
import pytest
import torch

import expint
from diffusion_adapters import EDMAdapter, IDDPMAdapter, VEAdapter, VPAdapter, from_diffusers
from expint import schedules
from expint.equations.predictions import to_denoiser

MEANS = [[-1.0, 0.2], [0.8, 0.6], [0.3, -0.9]]


class Exact:
    """The exact denoiser of a mixture at (α, σ̄), with no schedule of its own, in the dtype of its
    input.
    """

    target = expint.targets.GaussianMixture(MEANS, 0.3, [0.5, 0.3, 0.2], schedules.EDM())

    def denoise(self, x, alpha, std):
        """D for one (α, σ̄) per sample: the mixture's denoiser at z = x/α and σ = σ̄/α."""
        rows = [
            self.target(x[i : i + 1].double() / a, s / a)
            for i, (a, s) in enumerate(zip(alpha, std, strict=True))
        ]
        return torch.cat(rows).to(x.dtype)


def vp(network_output):
    schedule = schedules.VP()

    def network(x, labels):
        t = labels.double() / 999.0
        alpha, std = schedule.alpha(t), schedule.std(t)
        denoised = Exact().denoise(x, alpha, std)
        noise = (x - alpha[:, None] * denoised) / std[:, None]
        return (noise if network_output == "noise" else -noise / std[:, None]).to(x.dtype)

    return VPAdapter(network, schedule, prediction=network_output)


def table_network(schedule, channels, scale=1.0):
    def network(x, ts, y=None):
        t = ts.double() / scale
        alpha, std = schedule.alpha(t), schedule.std(t)
        noise = (x - alpha[:, None] * Exact().denoise(x, alpha, std)) / std[:, None]
        noise = noise.to(x.dtype)
        return torch.cat([noise, torch.full_like(noise, 7.0)], 1) if channels == 2 else noise

    return network


def ve(conditioning):
    def network(x, labels):
        sigma = labels.double() if conditioning == "sigma" else labels.double().exp()
        denoised = Exact().denoise(x, torch.ones_like(sigma), sigma)
        return ((denoised - x) / sigma[:, None] ** 2).to(x.dtype)

    return VEAdapter(network, schedules.VE(), conditioning=conditioning)


class EDMNet:
    sigma_min, sigma_max, sigma_data, label_dim = 0.002, 80.0, 0.7, 3

    def __call__(self, x, sigma, class_labels=None):
        self.labels = class_labels
        return Exact().denoise(x, torch.ones_like(sigma), sigma)

    def round_sigma(self, sigma):
        return sigma


LINEAR = schedules.Discrete.from_betas(np.linspace(1e-4, 0.02, 1000))
COSINE = schedules.IDDPM(M=4000)
CASES = {
    "vp noise": vp("noise"),
    "vp score": vp("score"),
    "vp discrete": VPAdapter(table_network(LINEAR, 1), LINEAR),
    "vp in between": VPAdapter(table_network(LINEAR, 1), LINEAR, timesteps="interpolate"),
    "ve sigma": ve("sigma"),
    "ve log sigma": ve("log_sigma"),
    "iddpm": IDDPMAdapter(table_network(COSINE, 1), COSINE),
    "iddpm learned variance": IDDPMAdapter(table_network(COSINE, 2), COSINE, condition={"y": None}),
    "iddpm rescaled": IDDPMAdapter(
        table_network(COSINE, 1, scale=0.25), COSINE, rescale_timesteps=True
    ),
    "iddpm in between": IDDPMAdapter(table_network(COSINE, 1), COSINE, timesteps="interpolate"),
    "iddpm rescaled, in between": IDDPMAdapter(
        table_network(COSINE, 1, scale=0.25),
        COSINE,
        rescale_timesteps=True,
        timesteps="interpolate",
    ),
    "guided diffusion, linear": IDDPMAdapter(table_network(LINEAR, 2), LINEAR),
    "edm": EDMAdapter(EDMNet()),
}


@pytest.mark.parametrize("name", CASES)
def test_network_in_its_convention_gives_the_exact_denoiser(name):
    model = CASES[name]
    schedule = model.schedule
    noise_end, data_end = schedule.sampling_range
    generator = torch.Generator().manual_seed(1)
    for share in (0.1, 0.3, 0.5, 0.7, 0.9):
        # where ε carries D to float32 accuracy: σ̄/α ε loses digits as σ grows, whatever the
        # adapter does
        sigma = 10 ** (2 * share - 1.3)
        t = float(np.clip(schedule.t_of_sigma(sigma), data_end, noise_end))
        t = model.round_time(torch.tensor(t)).item() if model.round_time else t
        alpha, std = schedule.alpha(t), schedule.std(t)
        clean = torch.tensor(MEANS, dtype=torch.float32).repeat(2, 1)
        x = alpha * clean + std * torch.empty_like(clean).normal_(generator=generator)
        rule = to_denoiser(model.prediction, schedule, t, model.sigma_data)
        denoised = rule.on_x.item() * x + rule.on_output.item() * model(
            x, torch.tensor(t, dtype=torch.float64)
        )
        ones = torch.ones(len(x), dtype=torch.float64)
        torch.testing.assert_close(
            denoised, Exact().denoise(x, alpha * ones, std * ones), rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("name", CASES)
def test_every_adapter_samples_the_mixture(name):
    solver = "seeds-2"
    samples = expint.sample(CASES[name], (64, 2), solver, steps=12, progress=False)
    nearest = torch.cdist(samples, torch.tensor(MEANS, dtype=torch.float32)).min(1).values
    assert nearest.max() < 5 * 0.3  # five standard deviations of a component


def test_integer_timesteps_reach_a_network_that_is_called_on_its_table():
    seen = []

    def network(x, ts):
        seen.append(ts)
        return torch.zeros_like(x)

    expint.sample(
        VPAdapter(network, LINEAR, timesteps="round"), (2, 3), "seeds-2", steps=5, progress=False
    )
    assert all(ts.dtype == torch.long and ts.shape == (2,) for ts in seen)
    assert len({int(ts[0]) for ts in seen}) == len(seen)


@pytest.mark.parametrize("adapter", [VPAdapter, IDDPMAdapter, from_diffusers])
def test_a_network_of_a_table_is_called_at_its_timesteps_by_default(adapter):
    scheduler = {} if adapter is from_diffusers else LINEAR
    seen = []

    def network(x, timesteps=None, timestep=None):
        seen.append(timesteps if timestep is None else timestep)
        return torch.zeros_like(x)

    for model in (
        adapter(network, scheduler),
        adapter(network, scheduler, timesteps="interpolate"),
    ):
        expint.sample(model, (2, 3), "seeds-2", steps=5, progress=False)
    assert [labels.dtype for labels in seen] == 9 * [torch.long] + 9 * [torch.float32]


def test_half_precision_does_not_round_timesteps():
    """In bfloat16 997 and 998 would be one."""
    seen = []
    model = IDDPMAdapter(
        lambda x, ts: seen.append(ts) or x, schedules.IDDPM(), timesteps="interpolate"
    )
    for t in (996.5, 997.5):
        model(torch.zeros(1, 2, dtype=torch.bfloat16), t)
    assert [float(ts) for ts in seen] == [996.5, 997.5]


def test_rounded_times_are_used_everywhere():
    model = VPAdapter(lambda x, ts: x, LINEAR, timesteps="round")
    plan = expint.plan_sampling(LINEAR, "seeds-3", steps=6, round_time=model.round_time)
    times = torch.tensor([row.time for row in plan.rows])
    torch.testing.assert_close(times, times.round(), rtol=0, atol=0)
    # a constant D is still reproduced exactly: the weights belong to the rounded nodes
    target = expint.targets.Gaussian([2.0], [0.0], LINEAR)
    x = torch.full((1, 1), 3.0, dtype=torch.float64)
    source = expint.noise.Replay(torch.zeros(plan.normals, 1, 1))
    torch.testing.assert_close(
        expint.execute(plan, target, x, source), torch.full_like(x, 2.0), rtol=1e-12, atol=0
    )


def test_a_grid_finer_than_the_table_is_refused():
    few = schedules.IDDPM(M=10)
    with pytest.raises(ValueError, match=r"too fine for the table|strictly decreasing noise"):
        expint.plan_sampling(few, "seeds-3", steps=9, round_time=few.round)


def test_edm_attributes_are_the_networks_own():
    net = EDMNet()
    model = EDMAdapter(net)
    assert (model.schedule, model.sigma_data, model.prediction, model.round_time) == (
        schedules.EDM(),
        0.7,
        "data",
        None,
    )
    net.sigma_min, net.sigma_max = 0.0, float("inf")
    assert EDMAdapter(net).schedule == schedules.EDM(0.002, 80.0)


def test_edm_round_sigma_is_used_where_it_moves_sigma():
    class Rounding(EDMNet):
        def round_sigma(self, sigma):
            return (torch.as_tensor(sigma) * 100).round().clamp(min=1) / 100

    model = EDMAdapter(Rounding())
    assert model.round_time is not None
    rounded = model.round_time(torch.tensor([0.1234, 3.0], dtype=torch.float64))
    torch.testing.assert_close(rounded, torch.tensor([0.12, 3.0], dtype=torch.float64))


def test_edm_labels():
    net = EDMNet()
    x = torch.zeros(2, 2)
    EDMAdapter(net, labels=[2, 0])(x, 1.0)
    assert net.labels.tolist() == [[0, 0, 1], [1, 0, 0]]
    EDMAdapter(net)(x, 1.0)
    assert net.labels is None
    with pytest.raises(ValueError, match=r"class indices 0 \.\.\. 2"):
        EDMAdapter(net, labels=[3, 0])
    with pytest.raises(ValueError, match="3 rows for a batch of 2"):
        EDMAdapter(net, labels=[0, 1, 2])(x, 1.0)


def test_double_precision_states_meet_single_precision_networks():
    net = torch.nn.Linear(2, 2)
    model = VPAdapter(lambda x, labels: net(x))
    assert model(torch.zeros(1, 2), 0.5).dtype == torch.float32
    wrapped = VPAdapter(_Labelled())
    result = expint.sample(wrapped, (2, 2), "seeds-1", steps=4, dtype=torch.float64, progress=False)
    assert result.dtype == torch.float64 and torch.isfinite(result).all()


class _Labelled(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, x, labels):
        assert x.dtype == torch.float32 and labels.dtype == torch.float32
        return x * self.scale


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VPAdapter(3), "must be callable"),
        (
            lambda: VPAdapter(lambda x, labels: x, schedules.IDDPM(), timesteps="floor"),
            "interpolate",
        ),
        (lambda: VPAdapter(lambda x, labels: x, prediction="epsilon"), "Unknown prediction"),
        (lambda: VEAdapter(lambda x, labels: x, conditioning="variance"), "log_sigma"),
        (lambda: IDDPMAdapter(lambda x, ts: x, schedules.VP()), "schedule must be a TabulatedVP"),
    ],
)
def test_wrong_arguments_are_told(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()
