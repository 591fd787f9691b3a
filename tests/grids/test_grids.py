"""Time grids: every builder on every schedule that permits it."""

import pytest
import torch

from expint import grids, schedules
from expint.schedules import EDM, VP, Cosine, Discrete, Flow, Schedule
from expint.schedules.discrete import TabulatedVP

INF = float("inf")
TABLES = ("discrete", *grids.SPACINGS)
# Where σ = 0 takes the place of the data end.
AYS = tuple(f"ays_{table}" for table in grids.AYS_TABLES)


def fits(name: str, schedule: Schedule) -> bool:
    try:
        grids.get(name)(schedule, 5)
    except ValueError:
        return False
    return True


PAIRS = [(g, s) for g in grids.names() for s in schedules.names() if fits(g, schedules.get(s))]


@pytest.mark.parametrize(("name", "schedule_name"), PAIRS)
@pytest.mark.parametrize(
    ("steps", "final"),
    [(n, f) for n in (1, 2, 7, 40) for f in grids.FINALS if (n, f) != (1, "denoise")],
)
def test_length_order_and_ends(name: str, schedule_name: str, steps: int, final: str):
    schedule = schedules.get(schedule_name)
    times = grids.get(name)(schedule, steps, final=final)
    assert times.dtype == torch.float64 and times.shape == (steps + 1,)
    lam = schedule.lam(times)
    assert (lam[1:] > lam[:-1]).all()
    noise, data = schedule.sampling_range
    assert name == "leading" or times[0] == noise
    last = times[-1 if final == "none" else -2]
    assert last == data or name == "trailing" or (name in AYS and final == "denoise")
    if final == "denoise":
        assert schedule.sigma(times[-1].item()) == 0.0 and schedule.alpha(
            times[-1].item()
        ) == pytest.approx(1.0, abs=1e-15)
    assert torch.equal(grids.check(schedule, times), times)


def test_which_grids_fit_which_schedules():
    """Only those of a table ask for something, a table."""
    refused = {(g, s) for g in grids.names() for s in schedules.names()} - set(PAIRS)
    assert refused == {
        (grid, s)
        for grid in TABLES
        for s in schedules.names()
        if not isinstance(schedules.get(s), TabulatedVP)
    }
    assert {s for _, s in PAIRS} == set(schedules.names()) and {g for g, _ in PAIRS} == set(
        grids.names()
    )


@pytest.mark.parametrize("final", grids.FINALS)
def test_spacing(final: str):
    schedule = VP()
    inner = slice(None, -1) if final == "denoise" else slice(None)
    t = grids.uniform_time(schedule, 9, final=final)[inner]
    torch.testing.assert_close(t.diff(), t.diff()[0].expand(len(t) - 1), rtol=1e-12, atol=0)
    lam = schedule.lam(grids.uniform_lambda(schedule, 9, final=final)[inner])
    torch.testing.assert_close(lam.diff(), lam.diff()[0].expand(len(lam) - 1), rtol=1e-9, atol=0)
    root = schedule.sigma(grids.karras(schedule, 9, rho=3.0, final=final)[inner]) ** (1 / 3)
    torch.testing.assert_close(root.diff(), root.diff()[0].expand(len(root) - 1), rtol=1e-9, atol=0)


def test_karras_as_published():
    """EDM eq. (5): σ_i = (σ_max^{1/ρ} + i/(N−1) (σ_min^{1/ρ} − σ_max^{1/ρ}))^ρ, σ_N = 0, with N =
    8, ρ = 7.
    """
    i = torch.arange(8, dtype=torch.float64)
    sigma = (80 ** (1 / 7) + i / 7 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    torch.testing.assert_close(
        grids.karras(EDM(), 8), torch.cat([sigma, torch.zeros(1).double()]), rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("steps", [2, 3, 10, 49])
@pytest.mark.parametrize("final", grids.FINALS)
def test_discrete_takes_distinct_entries_of_the_table(steps: int, final: str):
    schedule = Discrete.from_betas([0.01 * (i + 1) for i in range(50)])
    times = grids.discrete(schedule, steps, final=final)
    entries = times if final == "none" else times[:-1]
    assert torch.equal(entries, entries.round()) and (entries.diff() < 0).all()
    assert entries[0] == 49 and entries[-1] == 0
    if steps == 49 and final == "none":
        assert torch.equal(entries, torch.arange(49, -1, -1, dtype=torch.float64))


@pytest.mark.parametrize("name", grids.names())
def test_too_few_steps(name: str):
    for steps, final, least in [
        (1, "denoise", 2),
        (0, "none", 1),
        (-3, "none", 1),
        (2.0, "none", 1),
        (True, "none", 1),
    ]:
        with pytest.raises(
            ValueError, match=rf"final='{final}' needs an integer steps >= {least}, got {steps!r}"
        ):
            grids.get(name)(Discrete(), steps, final=final)


@pytest.mark.parametrize("name", grids.names())
def test_unknown_final(name: str):
    with pytest.raises(
        ValueError, match=r"Unknown final='clean': choose one of \('denoise', 'none'\)"
    ):
        grids.get(name)(Discrete(), 5, final="clean")


def test_unknown_name_tells_the_nearest():
    with pytest.raises(ValueError, match=r"Unknown grid 'karas'; nearest: \['karras'"):
        grids.get("karas")


@pytest.mark.parametrize("rho", [0.0, -1.0, float("nan")])
def test_karras_needs_a_positive_rho(rho: float):
    with pytest.raises(ValueError, match=f"rho > 0, got {rho}"):
        grids.karras(EDM(), 5, rho=rho)


def test_discrete_needs_a_table_that_is_long_enough():
    with pytest.raises(ValueError, match=r"needs a tabulated schedule .*got EDM"):
        grids.discrete(EDM(), 5)
    with pytest.raises(ValueError, match=r"needs 4 entries, but Discrete\(3 entries.* has 3"):
        grids.discrete(Discrete([0.9, 0.5, 0.1]), 3, final="none")


@pytest.mark.parametrize("schedule", [Flow(), Cosine(t_max=1.0)], ids=["flow", "cosine"])
@pytest.mark.parametrize("name", [name for name in grids.names() if name not in TABLES])
@pytest.mark.parametrize("steps", [3, 8])
def test_start_at_infinite_sigma(name: str, schedule: Schedule, steps: int):
    """The first time is the infinite end itself; all others have finite σ that falls."""
    times = grids.get(name)(schedule, steps)
    assert times[0] == 1.0 and schedule.sigma(times[0].item()) == INF and len(times) == steps + 1
    sigma = schedule.sigma(times[1:])
    assert (
        torch.isfinite(sigma).all()
        and (sigma.diff() < 0).all()
        and (name in AYS or times[-2] == schedule.sampling_range[1])
    )


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (
            [0.5, 0.7, 0.1],
            (
                r"grid\[0\] = 0\.5 and grid\[1\] = 0\.7 have lambda .* Sort the times so that "
                r"sigma falls"
            ),
        ),
        ([0.9, 0.5, 0.5], r"grid\[1\] = 0\.5 and grid\[2\] = 0\.5"),
        ([0.1, 0.5, 0.9], r"grid\[0\] = 0\.1 and grid\[1\] = 0\.5"),
        ([1.2, 0.5], r"grid\[0\] = 1\.2 is outside the domain \[0\.0, 1\.0\] of VP"),
        ([0.5, -0.1], r"grid\[1\] = -0\.1 is outside"),
        ([0.9, float("nan"), 0.1], r"grid\[1\] = nan is outside"),
        ([-INF, 0.5], r"grid\[0\] = -inf is outside"),
        ([0.5], r"at least 2 times, got shape \(1,\)"),
        ([[0.9, 0.5]], r"got shape \(1, 2\)"),
        (0.5, r"got shape \(\)"),
    ],
)
def test_grids_that_are_refused(grid: object, message: str):
    with pytest.raises(ValueError, match=message):
        grids.check(VP(), grid)


def test_a_grid_that_is_not_numbers():
    with pytest.raises(TypeError, match="expected a float, an array or a tensor of reals"):
        grids.check(VP(), ["early", "late"])


def test_minus_infinity_is_a_clean_end_of_every_schedule():
    for name in schedules.names():
        schedule = schedules.get(name)
        noise, data = schedule.sampling_range
        assert grids.check(schedule, [noise, data, -INF])[-1] == -INF


# The ends


WHOLE, PART = EDM(), EDM(sigma_min=0.02, sigma_max=5.0)
ENDS = {"start": PART.sampling_range[0], "stop": PART.sampling_range[1]}


@pytest.mark.parametrize("name", [name for name in grids.names() if name not in TABLES])
@pytest.mark.parametrize("final", grids.FINALS)
def test_a_grid_between_start_and_stop_is_that_of_a_shorter_sampling_range(name: str, final: str):
    times = grids.get(name)(WHOLE, 7, **ENDS, final=final)
    assert torch.equal(times, grids.get(name)(PART, 7, final=final))
    inside = times if final == "none" else times[:-1]
    assert inside[0] == ENDS["start"]
    assert inside[-1] == ENDS["stop"] or (name in AYS and final == "denoise")
    assert not torch.equal(times, grids.get(name)(WHOLE, 7, final=final))


@pytest.mark.parametrize("name", [name for name in grids.names() if name not in TABLES])
def test_a_finite_start_after_infinite_noise_needs_no_first_sigma(name: str):
    times = grids.get(name)(Flow(), 6, start=0.9)
    sigma = Flow().sigma(times)
    assert times[0] == 0.9 and torch.isfinite(sigma).all() and (sigma.diff() < 0).all()


@pytest.mark.parametrize("spacing", grids.SPACINGS)
def test_entries_of_the_rest_of_the_table(spacing: str):
    """They are those of a table that has no others."""
    table = Discrete()
    rest = Discrete(table.alphas_cumprod[100:601])
    times = grids.discrete(table, 7, spacing, start=600.2, stop=99.7, final="none")
    assert torch.equal(times, grids.discrete(rest, 7, spacing, final="none") + 100.0)
    with pytest.raises(ValueError, match=r"needs 6 entries, but .* has 4 from 9 to 6"):
        grids.discrete(table, 6, spacing, start=9.0, stop=6.0)


@pytest.mark.parametrize("name", grids.names())
@pytest.mark.parametrize(
    "ends",
    [
        {"start": 1000.0},
        {"stop": -0.5},
        {"start": 10.0, "stop": 10.0},
        {"start": 10.0, "stop": 20.0},
        {"start": float("nan")},
    ],
)
def test_ends_outside_the_sampling_range_are_refused(name: str, ends: dict[str, float]):
    with pytest.raises(ValueError, match=r"inside the sampling range .* from t = 999 down to 0"):
        grids.get(name)(Discrete(), 5, **ends)
