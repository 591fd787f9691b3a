"""Plans as files: what comes back, what is not saved, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from quadrature import ReverseSDE

import expint
from expint import schedules, solvers
from expint.convergence.stage_covariance import noise_covariance
from expint.equations.noise_scales import window
from expint.plans import Plan, extrapolated
from expint.plans.file_format import checksum_of, plan_text, read_content
from expint.plans.plan_files import coefficients, load_plan, plan_content
from expint.schedules import EDM, IDDPM, VP, Discrete, Flow, scaled_linear_betas

SD = Discrete.from_betas(scaled_linear_betas())
SCHEDULES = {
    str(each): each
    for each in (VP(beta_d=12.5), EDM(), Flow(shift=3.0), Discrete(), IDDPM(M=200), SD)
}
SOLVERS = [name for name in solvers.names() if not solvers.get(name).tableau.slopes]


def again(plan: Plan, folder: Path, schedule: Any = None, **about: Any) -> Plan:
    plan.save(folder / "plan.json", **about)
    return Plan.load(folder / "plan.json", schedule)


def assert_same(plan: Plan, other: Plan) -> None:
    """All numbers to 1e-14, and the same rows otherwise."""
    torch.testing.assert_close(coefficients(other), coefficients(plan), rtol=1e-14, atol=0.0)
    for row, same in zip(plan.rows, other.rows, strict=True):
        for name in ("step", "prediction", "substep", "evaluates"):
            assert getattr(row, name) == getattr(same, name)
        assert [j for j, _ in row.weights] == [j for j, _ in same.weights]
    own, theirs = ([(n.count, n.integral) for n in each.run] for each in (plan, other))
    assert own == theirs
    assert (plan.solver, plan.nfe, plan.factors) == (other.solver, other.nfe, other.factors)


def tuned(schedule: Any, solver: str, steps: int, seed: int, **options: Any) -> Plan:
    """A plan with a grid, an ℓ of each step and factors that no rule gives."""
    generator = torch.Generator().manual_seed(seed)
    usual = expint.plan_sampling(schedule, solver, steps=steps).grid
    lam = schedule.lam(usual)
    inner = torch.isfinite(lam)
    inner[0] = False
    moved = lam[inner] + 0.05 * torch.rand(int(inner.sum()), generator=generator)
    grid = usual.clone()
    grid[inner] = schedule.t_of_lam(moved)
    if solvers.get(solver).form == "data" and solvers.get(solver).noise_scale is None:
        count = int(torch.isfinite(lam).sum()) - 1
        options["ell"] = torch.rand(count, generator=generator, dtype=torch.float64)
    plan = expint.plan_sampling(schedule, solver, grid=grid, **options)
    return extrapolated(plan, torch.rand(steps, generator=generator, dtype=torch.float64) * 1.5)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    solver=st.sampled_from(SOLVERS),
    name=st.sampled_from([*SCHEDULES]),
    steps=st.integers(3, 8),
    seed=st.integers(0, 10**6),
)
def test_what_is_loaded_is_what_was_saved(
    solver: str, name: str, steps: int, seed: int, tmp_path_factory: pytest.TempPathFactory
):
    schedule = SCHEDULES[name]
    plan = tuned(schedule, solver, steps, seed)
    needed = schedule if schedule is SD else None
    assert_same(plan, again(plan, tmp_path_factory.getbasetemp(), needed))


@pytest.mark.parametrize("solver", solvers.names())
def test_every_solver_in_its_own_equation(solver: str, tmp_path: Path):
    plan = expint.plan_sampling(VP(), solver, nfe=14, sigma_data=0.5)
    assert_same(plan, again(plan, tmp_path))


@pytest.mark.parametrize(
    "options",
    [
        {"form": "noise", "ell": 0.3},
        {"form": "precond", "ell": 1.2, "sigma_data": 0.5},
        {"form": "time", "ell": 0.0},
        {"eta": 0.4},
        {"noise_scale": "exp-0.3"},
        {"noise_scale": window(0.8, 0.1, 5.0)},
        {"final": "none"},
        {"operations": [solvers.operation("churn(s_churn=4, s_max=50)")]},
    ],
    ids=lambda options: " ".join(options),
)
def test_every_equation(options: dict[str, Any], tmp_path: Path):
    plan = expint.plan_sampling(VP(), "seeds-1", steps=6, **options)
    assert_same(plan, again(plan, tmp_path))


@pytest.mark.parametrize("final", ["denoise", "none"])
def test_stages_that_were_rounded_to_a_table_come_back(final: str, tmp_path: Path):
    plan = expint.plan_sampling(SD, "seeds-3", steps=6, final=final, round_time=SD.round)
    exact = expint.plan_sampling(SD, "seeds-3", steps=6, final=final, grid=None)
    assert not torch.equal(plan.times, exact.times)
    loaded = again(plan, tmp_path, SD)
    assert_same(plan, loaded)
    assert torch.equal(loaded.times, loaded.times.round())


@pytest.mark.parametrize("solver", ["seeds-3", "seeds-ab3", "unipc-2"])
@pytest.mark.parametrize("schedule", [EDM(), SD], ids=["edm", "table"])
def test_a_file_is_small(solver: str, schedule: Any, tmp_path: Path):
    """At NFE 20, with an ℓ and a factor for each step; on a table also with times to round to."""
    steps = expint.plan_sampling(schedule, solver, nfe=20).steps
    rounded = getattr(schedule, "round", None)
    plan = tuned(schedule, solver, steps, 0, round_time=rounded)
    about = {"network": "mnist-edm " + 64 * "f", "energy_distance": 0.0123, "samples": 2000}
    again(plan, tmp_path, schedule, **about)
    assert plan.nfe in (19, 20)
    assert (tmp_path / "plan.json").stat().st_size <= 5000


def test_a_file_is_for_people(tmp_path: Path):
    plan = tuned(VP(), "seeds-ab2", 4, 1)
    again(plan, tmp_path, network="digits-vp", samples=2000, seed=3)
    lines = (tmp_path / "plan.json").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 17 and lines[3] == ' "solver": "seeds-ab2",'
    content = json.loads("\n".join(lines))
    assert content["grid"] == plan.grid.tolist() and content["nfe"] == 4
    assert content["schedule"] == {"name": "vp", "arguments": {}}
    assert content["about"] == {"network": "digits-vp", "samples": 2000, "seed": 3}
    assert len(content["ell"]) == 3 and len(content["factors"]) == 4


def test_gradients_are_left_out(tmp_path: Path):
    ell = torch.tensor([0.3, 0.7, 0.9], dtype=torch.float64, requires_grad=True)
    factors = torch.ones(4, dtype=torch.float64, requires_grad=True)
    grid = expint.plan_sampling(VP(), "seeds-ab2", steps=4).grid.requires_grad_(True)
    plan = extrapolated(expint.plan_sampling(VP(), "seeds-ab2", grid=grid, ell=ell), factors * 0.5)
    loaded = again(plan, tmp_path)
    assert_same(plan, loaded)
    assert all(isinstance(row.scale, float) for row in loaded.rows)


@settings(deadline=None, max_examples=20, derandomize=True)
@given(
    solver=st.sampled_from(["seeds-1", "seeds-2", "seeds-3", "seeds-ab3"]),
    ells=st.lists(st.floats(0.05, 2.0), min_size=4, max_size=4),
    gaps=st.lists(st.floats(0.05, 1.5), min_size=4, max_size=4),
    factor=st.floats(0.0, 1.5),
)
def test_the_noise_of_a_loaded_plan_is_that_of_the_sde(
    solver: str, ells: list[float], gaps: list[float], factor: float,
    tmp_path_factory: pytest.TempPathFactory,
):  # fmt: skip
    """Any grid, any ℓ in each step, any factor: the covariance of the noise of every step's states
    given its start, against quadrature over the equation with this step's ℓ."""
    schedule = EDM()
    lam = torch.tensor([-3.0, *gaps], dtype=torch.float64).cumsum(0)
    plan = expint.plan_sampling(schedule, solver, grid=schedule.t_of_lam(lam), ell=ells)
    plan = again(extrapolated(plan, [factor] * 4), tmp_path_factory.getbasetemp())
    for step, ell in enumerate(ells):
        reference = ReverseSDE(schedule, "data", ell, 1.0)
        targets = [row.target for row in plan.rows if row.step == step]
        s = plan.grid[step].item()
        exact = torch.stack(
            [torch.stack([reference.covariance(s, a, b) for b in targets]) for a in targets]
        )
        torch.testing.assert_close(plan.noise_covariance(step), exact, rtol=1e-9, atol=0.0)


def test_the_certificate_of_stage_covariances_of_a_loaded_plan(tmp_path: Path):
    schedule = VP()
    lam = torch.tensor([-1.5, -1.1, 0.2, 0.4], dtype=torch.float64)
    plan = expint.plan_sampling(schedule, "seeds-3", grid=schedule.t_of_lam(lam), ell=0.7)
    loaded = again(extrapolated(plan, [0.2, 1.3, 0.8]), tmp_path)
    assert noise_covariance(loaded, ell=0.7).finding() is None
    assert noise_covariance(loaded, ell=0.8).finding() is not None


# What is not saved.


def test_what_could_not_be_known_again_is_not_saved(tmp_path: Path):
    plan = expint.plan_sampling(VP(), "seeds-2", steps=4)
    rows = list(plan.rows)
    rows[2] = rows[2]._replace(scale=float(rows[2].scale) * (1.0 + 1e-9))
    narrow = solvers.get("seeds-2", c=0.4)
    digits = solvers.churn(1.23456789, s_max=50.0)
    own = solvers.Operation("mine", raised=lambda sigma, steps: 1.1 * sigma)
    process = expint.SemiLinearSDE.from_coefficients(-1.0, span=(0.0, 2.0))
    for wrong, reason in (
        (replace(plan, rows=tuple(rows)), "its rows are not those"),
        (expint.plan_sampling(VP(), narrow, steps=4), "is not the registered one of this name"),
        (expint.plan_sampling(VP(), replace(narrow, name="x"), steps=4), "'x' cannot be saved"),
        (expint.plan_sampling(VP(), steps=4, noise_scale=lambda s: s**2), "is a function"),
        (expint.plan_sampling(VP(), "seeds-1", steps=4, operations=[digits]), "six digits"),
        (expint.plan_sampling(VP(), "seeds-1", steps=4, operations=[own]), "operation 'mine'"),
        (expint.compile_plan(process, "seeds-1", [0.0, 2.0]), "its coefficients are functions"),
    ):
        with pytest.raises(ValueError, match=reason):
            wrong.save(tmp_path / "plan.json")
    for value in (float("nan"), object(), {1, 2}):
        with pytest.raises(ValueError, match="finite JSON values"):
            plan.save(tmp_path / "plan.json", loss=value)
    assert not list(tmp_path.iterdir())
    with pytest.raises(OSError, match="Cannot write"):
        plan.save(tmp_path / "no" / "plan.json")
    with pytest.raises(OSError, match="it is a folder"):
        plan.save(tmp_path)


# What is refused.


def edited(**changes: Any) -> dict[str, Any]:
    """The content of a file with other entries and the right checksum."""
    content = plan_content(tuned(VP(), "seeds-ab2", 4, 1)) | changes
    del content["checksum"]
    return content | {"checksum": checksum_of(content)}


def test_a_file_that_is_cut_anywhere_is_refused(tmp_path: Path):
    path, plan = tmp_path / "plan.json", tuned(VP(), "seeds-ab2", 4, 1)
    plan.save(path)
    whole = path.read_text(encoding="utf-8")
    for end in range(0, len(whole) - 3, 7):
        path.write_text(whole[:end], encoding="utf-8")
        with pytest.raises(ValueError, match="is not a plan file, or is cut"):
            Plan.load(path)


def test_an_edited_digit_is_refused(tmp_path: Path):
    """Every digit of the file but those of the checksum and of the format, one after the other."""
    path, plan = tmp_path / "plan.json", tuned(VP(), "seeds-ab2", 4, 1)
    plan.save(path, samples=2000)
    whole = path.read_text(encoding="utf-8")
    begin, end = whole.index("solver"), whole.index('"checksum"')
    places = [i for i in range(begin, end) if whole[i].isdigit()]
    for i in places:
        other = str((int(whole[i]) + 5) % 10)
        changed = whole[:i] + other + whole[i + 1 :]
        try:  # a digit beyond the 17th, or a leading zero
            if json.loads(changed) == json.loads(whole):
                continue
        except ValueError:
            pass
        path.write_text(changed, encoding="utf-8")
        with pytest.raises(ValueError, match=r"was edited or is damaged|is not a plan file"):
            Plan.load(path)
    assert len(places) > 100


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format": "expint plan 2"}, "its format is 'expint plan 2', and this version"),
        ({"format": "expint run 3"}, "it is not a plan file"),
        ({"format": 1}, "it is not a plan file"),
        ({"more": 1}, r"unknown entries are \['more'\]"),
        ({"solver": "seeds-9"}, "Unknown solver 'seeds-9'; nearest"),
        ({"solver": ["seeds-1"]}, r"its 'solver' is \['seeds-1'\]"),
        ({"nfe": 5}, "takes 4 evaluations, but is said to take 5"),
        ({"nfe": "4"}, "its 'nfe' is '4'"),
        ({"form": "no form"}, "Unknown form"),
        ({"ell": -1.0}, "ell"),
        ({"ell": [1.0] * 2}, "one for each of the 3 steps"),
        ({"ell": [1.0, "x", 1.0]}, "its 'ell' holds 'x'"),
        ({"ell": [1.0, -1.0, 1.0]}, "finite and >= 0"),
        ({"ell": True}, "ell"),
        ({"ell": 10**400}, "cannot be loaded"),
        ({"noise_scale": "none such", "ell": None}, "Unknown noise scale"),
        ({"noise_scale": "log"}, "both an 'ell' and a 'noise_scale'"),
        ({"noise_scale": {"name": "x"}, "ell": None}, "pieces"),
        ({"noise_scale": {"name": "x", "pieces": [[1.0, 2.0]]}, "ell": None}, None),
        ({"noise_scale": {"name": "x", "pieces": [[-9.0, 9.0, -3.0]]}, "ell": None}, "admissible"),
        ({"sigma_data": -1.0, "form": "precond", "ell": 1.0}, "sigma_data"),
        ({"grid": [1.0, 2.0]}, None),
        ({"grid": []}, None),
        ({"grid": {"a": 1}}, "its 'grid' is"),
        ({"grid": [1.0, None, 0.0]}, "its 'grid' holds None"),
        ({"grid": [1.0, "nan", 0.0]}, "its 'grid' holds 'nan'"),
        ({"grid": [1.0, [0.5], 0.0]}, "its 'grid' holds"),
        ({"grid": [10**400, 0.5, 0.0]}, "cannot be loaded"),
        ({"factors": [1.0]}, "one finite factor for each"),
        ({"factors": ["inf"] * 4}, "one finite factor for each"),
        ({"operations": [3]}, "An operation is written as"),
        ({"operations": ["__import__('os')"]}, "Unknown operation"),
        ({"known_times": [0.5]}, None),
        ({"schedule": {"name": "vq", "arguments": {}}}, "Unknown schedule"),
        ({"schedule": {"name": ["vp"], "arguments": {}}}, "cannot be loaded"),
        ({"schedule": {"name": "vp", "arguments": {"beta": 1.0}}}, "beta"),
        ({"schedule": {"name": "vp", "arguments": {"beta_d": -1.0}}}, "beta_d"),
        ({"schedule": {"name": "iddpm", "arguments": {"M": 10**12}}}, "its 'schedule' is"),
        ({"schedule": {"name": "vp"}}, "its 'schedule' is"),
        ({"schedule": {"like": "VP()"}}, "its 'schedule' is"),
        ({"schedule": []}, "its 'schedule' is"),
        ({"about": "text"}, "its 'about' is"),
    ],
    ids=str,
)
def test_wrong_content_is_refused_with_a_reason(changes: dict[str, Any], reason: str | None):
    """Also where the checksum is right: whoever writes a file can compute it."""
    with pytest.raises(ValueError, match=reason or "cannot be loaded"):
        load_plan(edited(**changes))
    content = edited(**changes)
    with pytest.raises(ValueError, match=reason or "cannot be loaded"):
        load_plan(plan_text(content))


def test_an_entry_that_is_missing_is_refused():
    for name in read_content(edited()):
        content = edited()
        del content[name]
        with pytest.raises(ValueError, match=f"missing ones \\['{name}'\\]|not a plan file"):
            load_plan(content)


def test_what_is_no_plan_file_is_refused(tmp_path: Path):
    path = tmp_path / "plan.json"
    for text in ("", "x", "[]", "3", "null", '{"a": 1}', "[" * 10**5, '{"a":' * 10**5, "\0"):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match="is not a plan file"):
            Plan.load(path)
    for raw in (b"\x80\x04K\x01.", b"\xff\xfe\x00", bytes(range(256))):  # a pickle among them
        path.write_bytes(raw)
        with pytest.raises(ValueError, match="is not a plan file"):
            Plan.load(path)
    with pytest.raises(ValueError, match="there is no such file"):
        Plan.load(tmp_path)
    with pytest.raises(ValueError, match="there is no such file"):
        Plan.load(tmp_path / "none.json")


def test_a_huge_file_is_not_read(tmp_path: Path):
    path = tmp_path / "plan.json"
    with path.open("wb") as file:
        file.truncate(2 * 2**30)  # a hole: it takes no disk
    with pytest.raises(ValueError, match="it has more than 8388608 bytes"):
        Plan.load(path)


def test_nan_in_the_grid_is_refused(tmp_path: Path):
    path = tmp_path / "plan.json"
    text = plan_text(edited())
    start = text.index('"grid": [') + len('"grid": [')
    for word in ("NaN", "Infinity", "-Infinity"):
        path.write_text(text[:start] + word + text[text.index(",", start) :], encoding="utf-8")
        with pytest.raises(ValueError, match="cannot be loaded"):
            Plan.load(path)


def test_the_schedule_must_be_that_of_the_file(tmp_path: Path):
    path = tmp_path / "plan.json"
    tuned(VP(), "seeds-ab2", 4, 1).save(path)
    close = schedules.FromCallables(VP().alpha, VP().std, VP().domain)
    assert Plan.load(path, close).sde.diffusion.schedule is close
    for other in (VP(beta_d=19.8), EDM(), Discrete()):
        with pytest.raises(
            ValueError, match=r"it is for the schedule VP.*and here the schedule is"
        ):
            Plan.load(path, other)
    with pytest.raises(ValueError, match=r"schedule is an expint.schedules.Schedule"):
        Plan.load(path, "vp")

    tuned(SD, "seeds-ab2", 4, 1).save(path)
    with pytest.raises(ValueError, match="which a file does not hold: give schedule="):
        Plan.load(path)
    assert_same(Plan.load(path, SD), tuned(SD, "seeds-ab2", 4, 1))
    bars = torch.tensor(SD.alphas_cumprod, dtype=torch.float64)
    assert Plan.load(path, Discrete(bars * (1.0 - 1e-9)))
    for other in (Discrete(), Discrete(bars * (1.0 - 1e-4)), Discrete(bars[:500])):
        with pytest.raises(ValueError, match=r"it is for the schedule Discrete.*and here"):
            Plan.load(path, other)
