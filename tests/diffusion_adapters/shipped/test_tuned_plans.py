"""The tuned plans of the shipped networks: which is taken, and that it is said."""

import importlib
import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import expint
from diffusion_adapters import cfg, load, names
from diffusion_adapters.cli import main
from diffusion_adapters.shipped import tuned_plans
from diffusion_adapters.shipped.tuned_plans import KINDS, tuned_plan, weights_hash
from expint import Plan
from expint.plans.file_format import read_content
from expint.runs import describe

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
NFES = (5, 8, 10, 15, 20, 30)


def write(folder: Path, name: str, kind: str, nfe: int, *tuned: float, **about: Any) -> None:
    """The file of a plan with the figures `tuned`, by default 1, where the default plan's are 2."""
    steps = [0.0 if kind == "deterministic" else 0.7] * (nfe - 1)
    plan = expint.plan_sampling(load(name).schedule, "seeds-ab2", steps=nfe, ell=steps)
    file = folder / f"{name}-{kind}-{nfe}.json"
    known = {"distance": 1.0, "weights": weights_hash(name)}
    replace(plan, about=known | about).save(file)
    figures = {"tuned": tuned or (1.0, 1.0), "default": (2.0,) * max(2, len(tuned))}
    record(file, plan=read_content(file)["checksum"][:12], **figures)


def record(file: Path, **figures: Any) -> None:
    known = file.with_name(tuned_plans.FIGURES)
    held = json.loads(known.read_text(encoding="utf-8"))
    held[file.stem] = held.get(file.stem, {}) | figures
    known.write_text(json.dumps(held), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tuned_plans, "PLANS", tmp_path)
    (tmp_path / tuned_plans.FIGURES).write_text("{}", encoding="utf-8")
    return tmp_path


def taken(name: str, nfe: int) -> tuple[int, bool] | None:
    """Evaluations of the plan, and whether it is stochastic."""
    content = tuned_plan(name, nfe)
    if content is None:
        return None
    plan = Plan.load(content)
    return plan.nfe, plan.sde.is_stochastic


def test_a_plan_serves_up_to_a_third_more_evaluations(folder: Path):
    assert taken("digits-vp", 10) is None  # no plans
    for nfe in NFES:
        write(folder, "digits-vp", "stochastic", nfe)
    write(folder, "digits-ve", "stochastic", 3)
    served = {5: (5, 6), 8: (8, 9), 10: (10, 13), 15: (15, 19), 20: (20, 26), 30: (30, 39)}
    for nfe in range(1, 100):
        (own,) = [own for own, (low, high) in served.items() if low <= nfe <= high] or [None]
        assert taken("digits-vp", nfe) == (own and (own, True)), nfe


def test_the_nearer_one_is_taken_if_it_was_nearer_than_the_default_in_every_run(folder: Path):
    write(folder, "digits-vp", "stochastic", 8, 1.1, 0.9, 1.9)
    write(folder, "digits-vp", "deterministic", 8, 1.2, 0.8, 1.2)
    assert taken("digits-vp", 8) == (8, True)  # by the samples of all runs together
    write(folder, "digits-vp", "stochastic", 8, 1.1, 0.9, 2.1)
    assert taken("digits-vp", 8) == (8, False)
    write(folder, "digits-vp", "deterministic", 8, 2.0, 1.9, 1.9)
    assert taken("digits-vp", 8) is None
    write(folder, "digits-vp", "stochastic", 8, 1.1, 0.9, 1.9)
    assert taken("digits-vp", 8) == (8, True)


def test_a_plan_that_was_not_measured_is_not_taken(folder: Path):
    """Nor one that was tuned again since, or for other weights."""
    write(folder, "digits-vp", "stochastic", 10)
    file = folder / "digits-vp-stochastic-10.json"
    assert taken("digits-vp", 10) == (10, True)
    record(file, plan="another plan")
    assert taken("digits-vp", 10) is None
    write(folder, "digits-vp", "stochastic", 10, weights="of another network")
    assert taken("digits-vp", 10) is None
    write(folder, "digits-vp", "stochastic", 10)
    (folder / tuned_plans.FIGURES).write_text("{}", encoding="utf-8")
    assert taken("digits-vp", 10) is None


def test_a_damaged_file_is_named(folder: Path):
    write(folder, "digits-vp", "stochastic", 10)
    file = folder / "digits-vp-stochastic-10.json"
    file.write_text(file.read_text(encoding="utf-8").replace("0.7", "0.8"), encoding="utf-8")
    with pytest.raises(ValueError, match=r"digits-vp-stochastic-10.json.* edited or is damaged"):
        expint.sample(load("digits-vp"), (1, 1, 8, 8), nfe=10, progress=False)
    (folder / tuned_plans.FIGURES).write_text("{cut", encoding="utf-8")
    with pytest.raises(ValueError, match=r"figures\.json"):
        expint.sample(load("digits-vp"), (1, 1, 8, 8), nfe=10, progress=False)


def test_sample_takes_it_and_guided_models_do_not(folder: Path):
    write(folder, "digits-edm", "stochastic", 5)
    plan = Plan.load(folder / "digits-edm-stochastic-5.json")
    for labels in (None, [1, 2]):
        model = load("digits-edm", labels=labels)
        given, chosen = ({"plan": plan}, {"nfe": 6})
        drawn, rule = (
            expint.sample(model, (2, 1, 8, 8), **how, progress=False)
            for how in (given, {"nfe": 6, "final": "denoise", "ell": 0.0})
        )
        assert torch.equal(expint.sample(model, (2, 1, 8, 8), **chosen, progress=False), drawn)
        assert not torch.equal(drawn, rule)
    conditional = load("digits-edm", labels=[1, 2])
    assert describe(conditional.with_labels([3, 4])).plan_for is not None
    assert describe(cfg(conditional, 2.0)).plan_for is None


def test_the_command_line_says_so_and_its_manifest_makes_the_run_again(
    folder: Path, tmp_path: Path
):
    write(folder, "digits-vp", "stochastic", 5)

    def drawn(*arguments: Any) -> str:
        given = ["sample", "--model", "digits-vp", "--num", 2, "--out", tmp_path / "out"]
        done = CliRunner().invoke(main, [str(a) for a in (*given, "--no-progress", *arguments)])
        assert done.exit_code == 0, done.output
        return done.stdout

    assert "tuned plan" not in drawn("--nfe", 5, "--ell", 1)
    printed = drawn("--nfe", 6)
    assert "\ntuned plan for 5 evaluations: seeds-ab2, extended form" in printed
    assert "\n5 network evaluations per sample (of at most 6) in 5 steps" in printed
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))
    with np.load(tmp_path / "out" / "samples.npz") as stored:
        samples = stored["samples"]
    settings = manifest["settings"]
    assert settings["plan"] == read_content(folder / "digits-vp-stochastic-5.json")
    (folder / "digits-vp-stochastic-5.json").unlink()
    options = {name: settings[name] for name in expint.sampling.SamplingOptions.__annotations__}
    again = expint.sample(
        load("digits-vp"), (2, 1, 8, 8), settings["solver"], **options, seed=0, progress=False
    )
    np.testing.assert_array_equal(again.numpy(), samples)


def test_the_script_makes_what_is_missing(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    asked: list[Any] = []

    def tune(model: Any, nfe: int, **how: Any) -> Plan:
        asked.append((model.schedule, nfe, how))
        plan = expint.plan_sampling(model.schedule, nfe=nfe, ell=0.0)
        return replace(plan, about={"distance": 1.0})

    monkeypatch.setattr(expint, "tune", tune)
    script = importlib.import_module("tune_shipped")
    given = ["digits-vp", "--nfe", "5", "--kind", "deterministic", "--budget", "9000"]
    for expected in (1, 0):
        done = CliRunner().invoke(script.main, [*given, "--out", str(folder)])
        assert done.exit_code == 0, done.output
        assert done.stdout.count("digits-vp-deterministic-5.json: ") == expected
    (file,) = folder.glob("digits-*")
    about = read_content(file)["about"]
    assert (about["network"], about["weights"]) == ("digits-vp", weights_hash("digits-vp"))
    how = {"ell": (0.0, 0.0), "budget": 9000, "seed": 0}
    assert asked == [(load("digits-vp").schedule, 5, how)]
    write(folder, "digits-vp", "deterministic", 5, weights="before another training")
    assert CliRunner().invoke(script.main, [*given, "--out", str(folder)]).exit_code == 0
    assert read_content(file)["about"] == about
    assert script.NFES == NFES


FILES = [file.stem for file in sorted(tuned_plans.PLANS.glob("*-*.json"))]


@pytest.mark.parametrize("stem", FILES)
def test_the_files_of_the_package(stem: str):
    """Each fits its network and its name, and is small."""
    file = tuned_plans.PLANS / f"{stem}.json"
    name, kind, nfe = stem.rsplit("-", 2)
    plan, content = Plan.load(file, load(name).schedule), read_content(file)
    assert name in names() and int(nfe) in NFES and plan.nfe <= int(nfe)
    assert plan.about["network"] == name and plan.about["weights"] == weights_hash(name)
    assert plan.about["objective"] == "Paths" and plan.about["distance"] >= 0.0  # in one unit
    assert file.stat().st_size < 8000
    ells = content["ell"] if isinstance(content["ell"], list) else [content["ell"]]
    low, high = KINDS[kind]
    assert all(low <= ell <= high for ell in ells)


def test_every_plan_of_the_package_was_measured(monkeypatch: pytest.MonkeyPatch):
    """Each as it is, by the figures of the benchmark."""
    monkeypatch.syspath_prepend(EXAMPLES.parent / "benchmarks")
    monkeypatch.syspath_prepend(EXAMPLES)
    study = importlib.import_module("tuned")
    text = (tuned_plans.PLANS / tuned_plans.FIGURES).read_text(encoding="utf-8")
    assert text == study.figures_text(study.FILE)
    plans = {
        stem: read_content(tuned_plans.PLANS / f"{stem}.json")["checksum"][:12] for stem in FILES
    }
    script = importlib.import_module("tune_shipped")
    every = product(script.NETWORKS, KINDS, script.NFES)
    assert {*plans} == {f"{name}-{kind}-{nfe}" for name, kind, nfe in every}
    assert {stem: figures["plan"] for stem, figures in json.loads(text).items()} == plans


@pytest.mark.parametrize("name", ["digits-iddpm", "digits-ve", "mnist-edm"])
def test_the_default_that_was_measured_is_the_plan_that_comes_without_choosing(
    name: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.syspath_prepend(EXAMPLES.parent / "benchmarks")
    study = importlib.import_module("tuned")
    problem = study.problem_of(name, 10, 10)
    model = problem.model
    known = {key: getattr(model, key, None) for key in ("sigma_data", "round_time")}
    for nfe in NFES:
        kind = "deterministic" if nfe <= 8 else "stochastic"
        how = study.fixed_plan(problem, study.tuned_pages.default_solver(kind, nfe), kind, nfe)
        given = expint.plan_sampling(model.schedule, **known, **how)
        rule = expint.plan_sampling(model.schedule, **known, nfe=nfe)
        assert (given.solver, given.nfe, str(given.sde)) == (rule.solver, rule.nfe, str(rule.sde))
        assert torch.equal(given.grid, rule.grid)


def test_the_page_shows_what_the_files_say(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    script = importlib.import_module("tune_shipped")
    page = (EXAMPLES.parent / "docs" / "choose-a-plan.md").read_text(encoding="utf-8")
    assert script.table() in page
