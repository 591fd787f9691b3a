"""Comparisons of samplers: the distances are right, gaps are reported, and tables, pictures and
JSON hold them.
"""

import json
import math
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_models import FunctionModel, forbidden

import expint
from expint.metrics import energy_distance, sliced_wasserstein
from expint.noise import BrownianPath
from expint.quality import QualityCurve, QualityPoint, QualityStudy
from expint.quality.comparison import analytic_target, chosen_solvers, compare_quality, target_names
from expint.schedules import EDM, VP
from expint.targets import Empirical, Gaussian


def ddpm_moments(target: Gaussian, sigmas: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Moments of ancestral sampling with the posterior variance (α = 1), step by step: x ← q x + (1
    − q) D + σ_t √(1 − q) z.
    """
    mean, variance = (
        torch.zeros_like(target.mean),
        torch.full_like(target.mean, sigmas[0].item() ** 2),
    )
    for s, t in pairwise(sigmas):
        gain, q = target.variances / (target.variances + s**2), (t / s) ** 2
        slope = q + (1 - q) * gain
        mean = slope * mean + (1 - q) * (1 - gain) * target.mean
        variance = slope**2 * variance + t**2 * (1 - q)
    return mean, variance


@pytest.mark.parametrize("final", ["denoise", "none"])
def test_exact_distance_of_seeds_1_is_that_of_ancestral_sampling(final: str):
    target = Gaussian([0.7, -1.0, 0.0], [0.3, 2.0, 0.001], EDM())
    study = compare_quality(target, "seeds-1", [12], grid="karras", final=final)
    sigmas = expint.grids.karras(EDM(), 12, final=final)
    mean, variance = ddpm_moments(target, sigmas)
    squared = ((mean - target.mean) ** 2).sum() + (
        (variance.sqrt() - target.variances.sqrt()) ** 2
    ).sum()
    point = study.curve("seeds-1").at(12)
    assert (point.used, point.steps, study.floor) == (12, 12, 0.0)
    assert point.distance == pytest.approx(math.sqrt(squared / target.variances.sum()), rel=1e-10)


def test_exact_distance_is_that_of_samples():
    """With a known mean error a sampled distance must agree: the start, the noise and the end are
    those of `expint.sample`.
    """
    target = Gaussian([3.0], [0.25], EDM(sigma_max=2.0))
    exact = compare_quality(target, "seeds-3", [7]).curve("seeds-3").at(7).distance
    x = expint.sample(target, (20_000, 1), "seeds-3", nfe=7, progress=False)
    sampled = (
        expint.metrics.gaussian_wasserstein(x.mean(0), x.var(0), target.mean, target.variances)
        / 0.5
    )
    assert exact is not None and exact > 0.3
    assert float(sampled) == pytest.approx(exact, abs=0.03)


def test_more_evaluations_are_better_and_seeds_3_beats_seeds_1():
    study = compare_quality(
        analytic_target("gaussian-64"), ["seeds-1", "seeds-3"], (40, 10, 20, 10)
    )
    assert study.nfe == (10, 20, 40)
    for curve in study.curves:
        distances = [point.distance for point in curve.points]
        assert None not in distances and distances == sorted(distances, reverse=True), curve.name  # pyright: ignore
    assert all(study.best(nfe) is study.curve("seeds-3") for nfe in study.nfe)


def test_own_settings_of_a_solver_apply_unless_others_are_given(monkeypatch: pytest.MonkeyPatch):
    seen = []

    def recorded(*arguments, **settings):
        seen.append(
            {key: value for key, value in settings.items() if key in ("form", "ell", "final")}
        )
        return expint.plan_sampling(*arguments, **settings)

    monkeypatch.setattr("expint.quality.comparison.plan_sampling", recorded)
    target = analytic_target("gaussian-64")
    compare_quality(
        target,
        {"own": {"solver": "seeds-1"}, "ODE": {"solver": "seeds-1", "ell": 0.0, "final": "none"}},
        [5],
    )
    study = compare_quality(target, "seeds-1", [5], form="noise", ell=0.5)
    assert seen == [
        {"final": "denoise"},
        {"ell": 0.0, "final": "none"},
        {"final": "denoise", "form": "noise", "ell": 0.5},
    ]
    assert study.curves[0].setting == "noise form, ell=0.5"


def test_too_few_evaluations_are_a_gap_with_its_reason():
    study = compare_quality(
        analytic_target("gaussian-64"), ["seeds-1", "seeds-2", "seeds-3"], [3, 9]
    )
    point = study.curve("seeds-3").at(3)
    assert (point.used, point.distance) == (None, None)
    assert point.reason is not None and "nfe=3 is too small for 'seeds-3'" in point.reason
    assert study.curve("seeds-3").at(9).used == 7
    row = next(line for line in study.table().splitlines() if line.startswith("seeds-3 "))
    assert row.split()[4] == "-" and row.split()[6] == "@7"
    best = study.best(3)
    assert best is not None and best.at(3).distance == min(
        d for c in study.curves if (d := c.at(3).distance) is not None
    )
    with pytest.raises(KeyError):
        study.curve("seeds-1").at(4)
    with pytest.raises(KeyError):
        study.curve("seeds-4")


def test_a_run_that_does_not_stay_finite_is_a_gap():
    model = FunctionModel(EDM(), "data", lambda x, t: x * float("nan") if float(t) < 1 else x)
    model.shape = (1,)  # pyright: ignore[reportAttributeAccessIssue]
    study = compare_quality(
        model, "seeds-1", [4], n=4, reference=torch.zeros(4, 1), metric="energy"
    )
    reason = study.curves[0].points[0].reason
    assert reason is not None and "NaN" in reason
    assert study.floor is None and study.threshold is None and study.best(4) is None


def test_sampled_distances_on_the_mixture_reach_the_floor():
    target = analytic_target("grid-25", EDM(sigma_min=0.0105, sigma_max=152.0))
    metric = partial(sliced_wasserstein, directions=16)
    study = compare_quality(
        target,
        ["seeds-1", "seeds-3"],
        [10, 50],
        n=4000,
        metric=metric,
        batch=2000,
        grid="uniform_lambda",
    )
    assert study.measure == "sliced Wasserstein-2"
    first, second = target.sample(4000, seed=1), target.sample(4000, seed=2)
    assert study.floor is not None and study.floor == pytest.approx(
        float(metric(first, second)), rel=0.6
    )
    assert study.threshold == pytest.approx(1.2 * study.floor)
    assert study.curve("seeds-1").reached is None and study.curve("seeds-3").reached == 50
    coarse, fine = (study.curve("seeds-3").at(nfe).distance for nfe in (10, 50))
    assert coarse is not None and fine is not None and coarse > 2 * fine > 1.4 * study.floor


def test_runs_are_those_of_sample_and_start_from_the_same_states():
    target = Empirical(torch.tensor([[[-1.0, 0.0]], [[1.0, 0.5]]]), 0.1, VP())
    kept: list[torch.Tensor] = []

    def metric(x: torch.Tensor, y: torch.Tensor) -> float:
        kept.append(x)
        return float(energy_distance(x, y))

    study = compare_quality(
        target, ["seeds-1", "seeds-2"], [6], n=5, batch=2, metric=metric, seed=3, repeats=2
    )
    assert (study.measure, study.settings["references"]) == ("metric", 4)
    runs = {id(x): x for x in kept[6:]}  # after the pairs of references
    expected = [
        expint.sample(target, (5, 1, 2), solver, nfe=6, seed=3, start=first, progress=False)
        for solver in ("seeds-1", "seeds-2")
        for first in (0, 5)
    ]
    for run, wanted in zip(runs.values(), expected, strict=True):
        torch.testing.assert_close(run, wanted.flatten(1))


def test_one_path_for_all():
    """On one path two solvers come to the same samples in the limit, and with fresh normals they do
    not.
    """
    target = analytic_target("grid-25", EDM(sigma_min=0.1, sigma_max=2.0))
    ends: list[torch.Tensor] = []
    options = {
        "n": 50,
        "metric": lambda x, y: ends.append(x) or 0.0,
        "reference": torch.zeros(2, 2),
        "form": "noise",
    }
    compare_quality(
        target,
        ["seeds-1", "seeds-3"],
        [120],
        path=lambda seeds: BrownianPath(seeds, resolution=256),
        **options,
    )
    compare_quality(target, ["seeds-1", "seeds-3"], [120], **options)
    # Medians: root mean squares are those of the few samples that change mode.
    common, fresh = ((a - b).norm(dim=1).median() for a, b in (ends[:2], ends[2:]))
    assert common < 0.5 * fresh


def test_features_and_reference_of_another_model():
    data = torch.linspace(-1, 1, 64).reshape(64, 1, 1)
    model = FunctionModel(EDM(), "data", lambda x, t: torch.zeros_like(x))
    model.shape = (1, 1)  # pyright: ignore[reportAttributeAccessIssue]
    study = compare_quality(
        model,
        "seeds-1",
        [4],
        n=8,
        reference=data,
        independent=data + 2.0,
        features=lambda x: 3.0 * x.flatten(1),
        name="zeros",
    )
    # All samples are 0 in the end; those of the data have mean 0 and variance v, and tripled the
    # Fréchet distances are 9-fold.
    assert study.curves[0].points[0].distance == pytest.approx(9.0 * float(data.var()), rel=1e-4)
    assert study.floor == pytest.approx(36.0, rel=1e-4)
    assert study.target == "zeros" and study.curves[0].reached == 4


def test_tolerance_on_gaussian_data_gives_the_evaluations_to_reach_it():
    study = compare_quality(
        analytic_target("gaussian-64"), ["seeds-1", "seeds-3"], [10, 20, 50], tolerance=0.04
    )
    distances = {point.nfe: point.distance for point in study.curve("seeds-3").points}
    assert study.curve("seeds-3").reached == next(
        nfe for nfe, distance in distances.items() if distance and distance <= 0.04
    )
    assert study.curve("seeds-1").reached is None
    table = study.table()
    assert "not reached" in table and "reached at a distance of at most 0.04" in table


def test_json_holds_everything():
    target = analytic_target("gaussian-64")
    study = compare_quality(
        target, ["seeds-1", "seeds-3"], [3, 10], grid="karras", tolerance=0.5, name="gaussian-64"
    )
    stored = json.loads(study.to_json())
    assert (
        stored["target"] == "gaussian-64"
        and stored["nfe"] == [3, 10]
        and stored["threshold"] == 0.5
    )
    assert stored["settings"] == {
        "schedule": str(EDM()),
        "grid": "karras",
        "final": "denoise",
        "form": None,
        "ell": None,
    }
    one, three = stored["curves"]
    assert (
        one["solver"] == "seeds-1"
        and one["points"][1]["distance"] == study.curve("seeds-1").at(10).distance
    )
    assert "too small" in three["points"][0]["reason"] and three["points"][1]["used"] == 10


@pytest.mark.parametrize(
    ("floor", "threshold", "dashed"), [(0.01, 0.012, [0.01]), (0.0, 0.03, []), (None, None, [])]
)
def test_picture(tmp_path: Path, floor: float | None, threshold: float | None, dashed: list[float]):
    points = (
        QualityPoint(4, reason="too few"),
        QualityPoint(10, 9, 4, 0.1),
        QualityPoint(20, 19, 7, 0.0),
    )
    curves = (
        QualityCurve("a", "a", "data form", points),
        QualityCurve("none", "b", "", points[:1]),
    )
    study = QualityStudy("target", "distance", (4, 10, 20), curves, floor, threshold, {})
    study.plot(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    (axes,) = study.figure().axes
    drawn = np.asarray(axes.lines[0].get_xydata())
    assert drawn.tolist() == [[9.0, 0.1]]  # neither gaps nor zeros
    assert [
        np.asarray(line.get_ydata())[0] for line in axes.lines[2:] if line.get_linestyle() == "--"
    ] == dashed
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")


def test_a_solver_that_diverges_leaves_the_picture():
    last = QualityPoint(8, 8, 8, 0.1)
    curves = [
        QualityCurve("a", "a", "", (QualityPoint(4, 4, 4, first), last))
        for first in (1.0, 2.0, 1e6)
    ]
    study = QualityStudy("target", "distance", (4, 8), tuple(curves), None, None, {})
    (axes,) = study.figure().axes
    assert axes.get_ylim()[1] == pytest.approx(60.0) and axes.get_ylim()[0] < 0.1


def test_a_picture_of_many_solvers_names_those_that_lead():
    """Fifty lines under a legend of fifty say nothing: the rest is grey, and one line of it."""

    def curve(i: int) -> QualityCurve:
        # Solver 3 is the best at first and solver 7 in the end; the others follow by number.
        points = ((4, 0.01 if i == 3 else 1.0 + i), (8, 0.001 if i == 7 else 0.1 + i))
        return QualityCurve(f"s{i}", "a", "", tuple(QualityPoint(n, n, n, d) for n, d in points))

    study = QualityStudy("target", "distance", (4, 8), tuple(map(curve, range(50))), None, None, {})
    leading = [each.name for each in study.leading(5)]
    assert leading == ["s7", "s0", "s1", "s2", "s3"]
    (axes,) = study.figure().axes
    named = [text.get_text().split()[0] for text in axes.get_legend().get_texts()]
    assert len(named) == 10 and {"s3", "s7"} < set(named) and named[-2:] == ["42", "frontier"]
    band = axes.lines[-1]
    assert np.asarray(band.get_xydata()).tolist() == [[4, 0.01], [8, 0.001]]


@pytest.mark.parametrize(
    ("name", "shape", "total"),
    [
        ("gaussian-64", (64,), sum(10 ** (3 * (i / 63 - 1)) for i in range(64))),
        ("grid-25", (2,), None),
    ],
)
def test_targets_by_name(name: str, shape: tuple[int, ...], total: float | None):
    target = analytic_target(name, VP())
    assert target.shape == shape and target.schedule == VP() and name in target_names()
    if isinstance(target, Gaussian):
        assert float(target.variances.sum()) == pytest.approx(total)
    else:
        assert target.weights[:4].tolist() == pytest.approx([1 / 49, 2 / 49, 3 / 49, 1 / 49])
        assert sorted({float(x) for x in target.means.flatten()}) == [-1.0, -0.5, 0.0, 0.5, 1.0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"solvers": "seeds-33"}, "nearest: \\['seeds-3"),
        ({"solvers": ["seeds-1", "seeds-1"]}, "comes twice"),
        ({"solvers": []}, "no solver"),
        (
            {"solvers": {"a": {"solver": "seeds-1", "el": 0.0}}},
            "Unknown setting 'el'; nearest: \\['ell'",
        ),
        ({"metric": "frechett", "reference": torch.zeros(4, 2)}, "nearest: \\['frechet'"),
        ({"metric": "wasserstein"}, "Gaussian data only"),
        ({"grid": "karas", "reference": torch.zeros(4, 2)}, "nearest: \\['karras'"),
        ({"form": "dat", "reference": torch.zeros(4, 2)}, "nearest: \\['data'"),
        ({"nfe": [0]}, "positive integers"),
        ({"nfe": [2.5]}, "positive integers"),
        ({"n": 0}, "n must be a positive integer"),
        ({}, "no exact samples"),
        ({"reference": torch.zeros(4, 3)}, r"shape \(3,\), but those of the model are \(2,\)"),
        (
            {"reference": torch.zeros(4, 2), "independent": torch.zeros(4)},
            "independent has samples",
        ),
        ({"reference": torch.zeros(4, 2), "seed": 2**64}, "below|2\\*\\*64"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_first_run(arguments: dict, words: str):
    model = forbidden(EDM())
    model.shape = (2,)  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ValueError, match=words):
        compare_quality(model, **arguments)


def test_data_or_models_without_a_distance_are_refused():
    with pytest.raises(ValueError, match="total variance"):
        compare_quality(Gaussian([1.0], [0.0], EDM()), "seeds-1")
    with pytest.raises(ValueError, match="no attribute `shape`"):
        compare_quality(forbidden(EDM()), "seeds-1", reference=torch.zeros(4, 2))
    with pytest.raises(ValueError, match="nearest: \\['gaussian-64'"):
        analytic_target("gaussian")


def test_solvers_may_be_tableaus():
    tableau = expint.solvers.get("seeds-2", c=1)
    assert chosen_solvers(tableau) == {"seeds-2": {"solver": tableau}}
    assert chosen_solvers([tableau, "seeds-1"]) == {
        "seeds-2": {"solver": tableau},
        "seeds-1": {"solver": "seeds-1"},
    }
    assert list(chosen_solvers("all")) == expint.solvers.names()
