"""The pieces of benchmarks/tuned.py, on laws that are known and with few samples."""

import importlib
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from expint import plan_sampling
from expint.convergence import gaussian_moments
from expint.metrics import gaussian_wasserstein

torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The script, with plans in a folder of the test."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    module = importlib.import_module("tuned")
    for name in ("PLANS", "SHIPPED"):
        monkeypatch.setattr(module, name, tmp_path / name.lower())
    return module


def saved(study: Any, problem: Any, kind: str, nfe: int, solver: str, folder: Path) -> None:
    """A plan file in the place of a tuned one."""
    folder.mkdir(exist_ok=True)
    ell = study.ELL[kind]
    plan = plan_sampling(problem.model.schedule, solver, nfe=nfe, ell=ell)
    plan.save(folder / f"{problem.name}-{kind}-{nfe}.json", distance=1.0)


def test_gaussian_figures_are_exact(study: Any):
    problem = study.problem_of("gaussian")
    plan = plan_sampling(problem.model.schedule, "unipc-2", nfe=10, ell=0.0)
    moments, own = gaussian_moments(plan, problem.model), problem.model.moments()
    distance = gaussian_wasserstein(*moments, *own) / own[1].sum().sqrt()
    assert problem.figures(plan=plan)["figures"] == [pytest.approx(float(distance), rel=1e-3)]
    assert problem.figures(solver="unipc-2", nfe=10, ell=0.0) == problem.figures(plan=plan)


def test_modes_are_judged_by_three_numbers(study: Any):
    """Of three times 4000 exact samples the total variation of 25 weights is 0.031 ± 0.003 and the
    width 1 ± 0.007; a plan of five evaluations is ten times that away in the width."""
    problem = study.problem_of("modes", 4000, 4000)
    exact = problem.floor()
    assert len(exact["figures"]) == 4
    assert 0.015 < exact["weights"] < 0.047 and abs(exact["width"] - 1.0) < 0.035
    rough = problem.figures(solver="seeds-ab2", nfe=5)
    assert rough["figures"][0] > 2 * exact["figures"][0] and abs(rough["width"] - 1.0) > 0.07


@pytest.mark.parametrize("kind", ["stochastic", "deterministic"])
def test_every_solver_of_the_kind_stands_beside(study: Any, kind: str):
    problem = study.problem_of("gaussian")
    plans, without = {}, []
    for label, how in study.fixed(problem, kind, 10):
        if not label.endswith("default grid"):
            continue
        try:
            plans[label.split(",")[0]] = how()
        except ValueError:
            without.append(label.split(",")[0])
    for how in plans.values():
        plan = plan_sampling(problem.model.schedule, **how)
        assert plan.nfe <= 10 and (plan.normals > 0) == (kind == "stochastic")
    always = {"seeds-1", "seeds-2", "seeds-3", "seeds-ab3", "sa-solver"}
    own = {"ddpm", "euler-ancestral"} if kind == "stochastic" else {"ddim", "unipc-3", "taylor-2"}
    assert always | own <= {*plans}
    assert ("taylor-2" in without) == (kind == "stochastic")  # no derivatives along an SDE
    quick = [label for label, _ in study.fixed(problem, kind, 10, "some")]
    assert len(quick) == 6 and sum("DMN" in label for label in quick) == 2
    default = plan_sampling(problem.model.schedule, nfe=6 if kind == "deterministic" else 10)
    (usual,) = [label for label, _ in study.fixed(problem, kind, 10, "default")]
    assert usual == f"{default.solver}, default grid"


def test_plans_are_measured_beside_that_which_comes_without_choosing(study: Any, tmp_path: Path):
    problem, file = study.problem_of("gaussian"), tmp_path / "figures.json"
    for nfe in (5, 8, 10, 30):
        for kind in study.KINDS:
            saved(study, problem, kind, nfe, "seeds-ab2", study.SHIPPED)
            usual = study.tuned_pages.default_label(kind, nfe)
            place, offset = ["gaussian", "plans", f"{kind} {nfe}"], 0.5 * (kind == "deterministic")
            study.put(file, [*place, "another, default grid"], {"figures": [0.0]})
            study.put(file, [*place, usual], {"figures": [nfe + offset]})
            if nfe != 8 or kind == "stochastic":  # else it was not measured
                study.put(file, [*place, "tuned"], {"figures": [nfe - offset], "file": f"{nfe}"})
    recorded = json.loads(study.figures_text(file))
    assert {stem: entry["default"][0] for stem, entry in recorded.items()} == {
        "gaussian-deterministic-10": 10.0,
        "gaussian-deterministic-30": 30.0,
        "gaussian-deterministic-5": 5.5,
        "gaussian-stochastic-10": 10.0,
        "gaussian-stochastic-30": 30.0,
        "gaussian-stochastic-5": 5.5,
        "gaussian-stochastic-8": 8.5,
    }
    assert recorded["gaussian-deterministic-10"]["tuned"] == [9.5]
    assert recorded["gaussian-stochastic-8"]["plan"] == "8"
    for nfe, kind in (
        (5, "deterministic"),
        (8, "deterministic"),
        (9, "stochastic"),
        (30, "stochastic"),
    ):
        chosen = plan_sampling(problem.model.schedule, nfe=nfe).solver
        assert study.tuned_pages.default_label(kind, nfe) == f"{chosen}, default grid"


def test_nothing_is_measured_twice(study: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """But a plan of another file is; and figures of other numbers of samples go."""
    problem, file = study.problem_of("gaussian"), tmp_path / "figures.json"
    saved(study, problem, "deterministic", 6, "unipc-2", study.PLANS)
    study.measure(problem, 6, "deterministic", file=file, beside="some")
    first = file.read_text()
    own = json.loads(first)["gaussian"]["plans"]["deterministic 6"]
    assert own["tuned"]["figures"] == own["unipc-2, default grid"]["figures"]
    calls = []
    figures = type(problem).figures

    def counted(self: Any, **how: Any) -> Any:
        calls.append(how)
        return figures(self, **how)

    monkeypatch.setattr(type(problem), "figures", counted)
    study.measure(problem, 6, "deterministic", file=file, beside="some")
    assert not calls and file.read_text() == first
    # That of the package comes first.
    saved(study, problem, "deterministic", 6, "unipc-3", study.SHIPPED)
    study.measure(problem, 6, "deterministic", file=file, beside="some")
    assert len(calls) == 1 and [*calls[0]] == ["plan"]
    own = json.loads(file.read_text())["gaussian"]["plans"]["deterministic 6"]
    assert own["tuned"]["solver"] == "unipc-3"
    problem.count = 7
    study.begin(problem, file)
    assert "plans" not in json.loads(file.read_text())["gaussian"]
    assert not [*tmp_path.glob("figures.[0-9]*")]


def test_plans_that_do_not_exist_are_gaps(
    study: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    problem, file = study.problem_of("gaussian"), tmp_path / "figures.json"
    monkeypatch.setattr(study.expint.solvers, "names", lambda: ["seeds-3", "taylor-2"])
    saved(study, problem, "stochastic", 5, "seeds-ab2", study.PLANS)
    study.measure(problem, 5, "stochastic", file=file)
    plans = json.loads(file.read_text())["gaussian"]["plans"]["stochastic 5"]
    assert plans.pop("tuned")["figures"] and plans["taylor-2, karras"] == {}
    assert plans["taylor-2, default grid"] == {} and plans["seeds-3, default grid"]["figures"]
    grids = study.tuned_pages.GRIDS
    own = {f"{solver}, {grid}" for solver in study.CHIEF["stochastic"] for grid in grids}
    assert own <= {*plans} and len(plans) == len(own) + 6
    assert all(plans[label]["figures"][0] > 0 for label in own)


def test_a_network_trained_again_takes_the_plan_of_the_first(
    study: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    problem, file = study.problem_of("gaussian"), tmp_path / "figures.json"
    saved(study, problem, "deterministic", 6, "unipc-2", study.PLANS)
    measured = {
        "tuned": {"figures": [0.1]},
        "unipc-3, default grid": {"figures": [0.2]},
        "ddim, default grid": {"figures": [0.3]},
        "dpm-solver-1, default grid": {"figures": [0.3]},  # the same samples
        "deis-tab1, DMN": {"figures": [0.4]},
        "heun, default grid": {"figures": [0.5]},
        "unipc-2, default grid": {"figures": [0.6]},
    }
    content = {"gaussian": {"floor": {}, "plans": {"deterministic 6": measured}}}
    file.write_text(json.dumps(content))
    study.again("gaussian", problem, 6, "deterministic", file=file)
    found = json.loads(file.read_text())["gaussian"]["again"]
    own = found["deterministic 6"]
    fixed = {"unipc-2, default grid", "unipc-3, default grid", "ddim, default grid"}
    assert {*own} == {"tuned", "deis-tab1, DMN"} | fixed
    assert own["tuned"] == own["unipc-2, default grid"] and found["floor"] == {"figures": [0.0]}
    (name, path) = ("digits-edm", study.Path(study.defaults.__file__).parent.parent)
    other = study.trained_again(name, path / "diffusion_adapters" / "shipped" / "data")
    one, two = (study.defaults.PROBLEMS[key][1]() for key in (name, other))
    x, t = study.torch.ones(2, *one.shape), study.torch.tensor(1.0)
    assert other == "digits-edm-again" and bool((one(x, t) == two(x, t)).all())
    with pytest.raises(ValueError, match="Unknown shipped network"):
        study.defaults.PROBLEMS[study.trained_again(name, path / "nowhere")][1]()


FOUND = {
    "toy": {
        "sizes": {"count": 1000, "reference": 3000, "runs": 3},
        "floor": {"figures": [0.05, 0.09, 0.1, 0.11]},
        "plans": {
            "stochastic 10": {
                "tuned": {"figures": [0.06, 0.1, 0.12, 0.11], "solver": "seeds-ab2"},
                "seeds-ab2, default grid": {"figures": [0.11, 0.2, 0.2, 0.2]},
                "ddpm, default grid": {"figures": [0.08, 0.2, 0.2, 0.2]},
                "seeds-1, default grid": {},
                "seeds-ab2, DMN": {"figures": [0.09, 0.2, 0.2, 0.2]},
                "sa-solver, DMN": {"figures": [0.07, 0.2, 0.2, 0.2]},
            },
            "stochastic 5": {"tuned": {"figures": [0.2, 0.3, 0.3, 0.3], "solver": "seeds-3"}},
        },
        "again": {
            "floor": {"figures": [0.04]},
            "stochastic 10": {
                "tuned": {"figures": [0.07]},
                "seeds-ab2, default grid": {"figures": [0.13]},
                "sa-solver, DMN": {"figures": [0.08]},
            },
        },
        "transfer": {
            "stochastic 10": {
                "seed": {
                    "default": {"figures": [0.11]},
                    "tuned": {"figures": [0.06]},
                    "other": {"figures": [0.065]},
                },
                "classes": {
                    "default": {"figures": [0.06]},
                    "tuned": {"figures": [0.06]},
                    "other": {"figures": [0.05]},
                },
            }
        },
    }
}


def test_the_page_has_the_table_between_its_markers(
    study: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pages, file, page = study.tuned_pages, tmp_path / "figures.json", tmp_path / "page.md"
    monkeypatch.setattr(pages, "IMAGES", tmp_path / "none")
    file.write_text(json.dumps(FOUND))
    text = pages.tables(file)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    five, ten = rows[4], rows[5]
    assert five[:3] == ["5", "stochastic", "0.2 (`seeds-3`)"] and five[3] == "–"
    assert ten[2] == "0.06 ± 0.006 (`seeds-ab2`)"
    assert ten[3] == "0.07 (`sa-solver`, DMN)" and ten[4] == "0.11"
    assert ten[5:] == ["–", "–", "–", "0.07 (`sa-solver`)", "–"]
    assert [row[-1] for row in rows if row[:1] == ["toy"]] == ["90 %", "no gain"]
    assert ["toy (floor 0.04)", "10", "stochastic", "0.07", "0.08 (`sa-solver`, DMN)", "0.13"] in [
        row if len(row) == 6 else [] for row in rows
    ]
    page.write_text("before\n" + pages.BEGIN + "old\n" + pages.END + "\nafter\n")
    for _ in range(2):
        pages.put_page(file, page)
        assert page.read_text() == f"before\n{pages.BEGIN}{text}{pages.END}\nafter\n"
    monkeypatch.setattr(pages, "IMAGES", tmp_path)
    (tmp_path / pages.SAMPLES).touch()
    pages.put_page(file, page)
    assert page.read_text().count("![") == page.read_text().count(f"](img/{pages.SAMPLES})") == 1
    page.write_text("nothing\n")
    with pytest.raises(ValueError, match="no place for the figures"):
        pages.put_page(file, page)
    assert pages.BEGIN in pages.PAGE.read_text(encoding="utf-8")
    assert math.isnan(pages.kept(FOUND["toy"]["transfer"]["stochastic 10"]["classes"]))


def test_only_the_other_classes_are_judged(study: Any):
    """Samples i mod 10 of some classes, of a reference that has them in the same order."""
    own = study.Network.__new__(study.Network)
    own.classes = 10
    features = torch.arange(40)[:, None].expand(40, 2)
    assert own._some(features, [7, 8])[:, 0].tolist() == [7, 8, 17, 18, 27, 28, 37, 38]
    assert study.halves(own) == ([0, 1, 2, 3, 4], [5, 6, 7, 8, 9])
    labels: list[int] = []

    class Conditional:
        schedule, prediction, shape = study.expint.schedules.EDM(), "data", (1,)
        label_dim = 10

        def with_labels(self, given: list[int]) -> Any:
            labels.extend(given)
            return self

        def __call__(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            return x

    model = study.OfClasses(Conditional(), [3, 4])
    model(torch.zeros(5, 1), torch.tensor(1.0))
    assert labels == [3, 4, 3, 4, 3] and study.classes_of(model) == 10


def test_hopeless_plans_are_only_glanced_at(
    study: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Samples of one solver are ten times too wide, of the other right; of n = 200 the Fréchet
    distances are 81 and below 0.1. The default is measured in full all the same."""
    base, file = study.problem_of("gaussian"), tmp_path / "figures.json"
    problem = study.Network.__new__(study.Network)
    study.Problem.__init__(problem, "toy", base.model, 200, 400)
    counts: list[int] = []

    def features(run: int, count: int = 0, **how: Any) -> torch.Tensor:
        counts.append(count or 200)
        width = 1.0 if "plan" in how or how.get("solver") == "sa-solver" or not how else 10.0
        noise = torch.Generator().manual_seed(run)
        return width * torch.randn(count or 200, 1, generator=noise)

    monkeypatch.setattr(problem, "_features", features)
    reference = torch.randn(400, 1, generator=torch.Generator().manual_seed(99))
    law = lambda run, count: features(run, count)  # noqa: E731
    problem.__dict__["study"] = SimpleNamespace(reference=reference, law=law)
    saved(study, problem, "stochastic", 5, "seeds-ab2", study.PLANS)
    study.measure(problem, 5, "stochastic", file=file, beside="some")
    plans = json.loads(file.read_text())["toy"]["plans"]["stochastic 5"]
    sizes = {label: len(found["figures"]) for label, found in plans.items()}
    full = {"tuned", "seeds-ab2, default grid", *(label for label in sizes if "sa-" in label)}
    assert sizes == {label: 4 if label in full else 1 for label in sizes} and len(sizes) == 7
    # Floor, ODE, tuned and the four others in full; a glance at it and at all but the default.
    assert counts.count(200) == 3 * 7 and counts.count(50) == 1 + 5
    assert study.tuned_pages.cell(plans["seeds-ab2, DMN"]).startswith("~")


def test_transfer_takes_another_search(study: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Figures of the default, of the plan, and of one from another seed, whose file is another."""
    problem, file = study.problem_of("modes", 300, 300), tmp_path / "figures.json"
    seeds: list[int] = []

    def tune(nfe: int, kind: str, seed: int, budget: int) -> Any:
        seeds.append(seed)
        solver = "unipc-2" if seed == study.SEED else "unipc-3"
        return plan_sampling(problem.model.schedule, solver, nfe=nfe, ell=study.ELL[kind])

    monkeypatch.setattr(problem, "tune", tune)
    for _ in range(2):
        study.transfer(problem, 4, "deterministic", file=file)
    assert seeds == [study.SEED, study.OTHER]
    found = json.loads(file.read_text())["modes"]["transfer"]["deterministic 4"]["seed"]
    figures = {name: part["figures"] for name, part in found.items()}
    assert figures["default"] == figures["tuned"] != figures["other"]
    names = [path.name for path in sorted(study.PLANS.iterdir())]
    assert names == ["modes-deterministic-4-seed.json", "modes-deterministic-4.json"]


def test_other_samples_with_another_seed(study: Any, monkeypatch: pytest.MonkeyPatch):
    problem, given = study.problem_of("modes", 10, 10), []
    monkeypatch.setattr(study.expint, "tune", lambda *_, **how: given.append(how))
    for seed in (1, 2):
        problem.tune(5, "stochastic", seed, 1000)
    assert [how["seed"] for how in given] == [1, 2] and given[0]["ell"] == (0.3, 2.0)
    assert "reference" not in given[0]  # the search draws its own, by its seed
