"""A run that is left after any evaluation and continued gives the unsplit run, bit for bit."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from toy_models import FunctionModel, wavy

from expint import Plan, begin_sampling, continue_sampling, sample, saved_runs, solvers, targets
from expint.noise import BrownianPath, FromGenerators, Gaussian, Replay
from expint.plans import Row
from expint.runs import Reparametrized
from expint.schedules import VP, Flow
from expint.solvers import churn

MODEL = wavy(VP())
SOLVERS = [
    "seeds-1",
    "seeds-3",
    "seeds-sra",
    "seeds-ab3",
    "unipc-2",
    "pece-2",
    "dpm2-ancestral",
    "pc-sampler",
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("solver", SOLVERS)
def test_split_anywhere_is_unsplit(solver: str, dtype: torch.dtype, tmp_path: Path):
    options: dict[str, Any] = {"steps": 5, "seed": 3, "dtype": dtype}
    whole = sample(MODEL, (2, 2), solver, progress=False, **options)
    nfe = begin_sampling(MODEL, (2, 2), solver, **options).plan.nfe
    assert nfe >= 5
    for split in range(1, nfe + 1):
        run = begin_sampling(MODEL, (2, 2), solver, **options)
        run.advance(split)
        run.save(tmp_path / "run.safetensors")
        again = continue_sampling(tmp_path / "run.safetensors", MODEL, solver, **options)
        assert again.nfe == split and again.done == (split == nfe)
        assert torch.equal(again.advance(), whole), split
    assert [path.name for path in tmp_path.iterdir()] == ["run.safetensors"]


@pytest.mark.parametrize("solver", ["seeds-3", "seeds-sra", "sa-solver"])
def test_split_on_a_path(solver: str, tmp_path: Path):
    options: dict[str, Any] = {"steps": 5, "noise": BrownianPath([1, 2], resolution=8), "ell": 1.0}
    whole = sample(MODEL, (2, 2), solver, progress=False, **options)
    for split in (1, 4):
        run = begin_sampling(MODEL, (2, 2), solver, **options)
        run.advance(split)
        run.save(tmp_path / "run.safetensors")
        assert torch.equal(
            continue_sampling(tmp_path / "run.safetensors", MODEL, solver, **options).advance(),
            whole,
        )


def test_twice_and_from_infinite_noise(tmp_path: Path):
    """Split at every evaluation, each part continued from a file of its own; the start is at σ =
    ∞.
    """
    model = wavy(Flow())
    options: dict[str, Any] = {"steps": 4, "seeds": [5, 9]}
    whole = sample(model, (2, 2), "seeds-2", progress=False, **options)
    run = begin_sampling(model, (2, 2), "seeds-2", **options)
    while not run.done:
        run.advance(1)
        run.save(tmp_path / "run.safetensors")
        run = continue_sampling(tmp_path / "run.safetensors", model, "seeds-2", **options)
    assert torch.equal(run.advance(), whole)


def test_callback_goes_on_counting(tmp_path: Path):
    seen: list[tuple[int, int]] = []
    run = begin_sampling(MODEL, (1, 2), "seeds-2", steps=4)
    run.advance(3, lambda step, nfe, *_: seen.append((step, nfe)))
    run.save(tmp_path / "run")
    continue_sampling(tmp_path / "run", MODEL, "seeds-2", steps=4).advance(
        None, lambda step, nfe, *_: seen.append((step, nfe))
    )
    assert seen == [(1, 2), (2, 4), (3, 6), (4, 7)]


def saved(path: Path, **options: Any) -> Path:
    merged: dict[str, Any] = {"steps": 4, "seed": 3} | options
    run = begin_sampling(MODEL, (2, 2), "seeds-2", **merged)
    run.advance(3)
    run.save(path / "run.safetensors")
    return path / "run.safetensors"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 5, "seed": 3}, "another plan"),
        ({"steps": 4, "seed": 4}, "another noise"),
        ({"steps": 4, "seed": 3, "ell": 0.5}, r"another equation \(.*ell=1,.*here .*ell=0.5"),
        ({"steps": 4, "seed": 3, "dtype": torch.float64}, "holds a run in torch.float32"),
        ({"steps": 4, "seed": 3, "operations": [churn(5.0)]}, "another plan"),
        ({"steps": 4, "noise": Gaussian([3, 5])}, "another noise"),
        ({"steps": 4, "noise": Replay(torch.zeros(6, 2, 2))}, "another noise"),
        (
            {"steps": 4, "seed": 3, "solver": "etd-rk2a", "form": "data", "ell": 1.0},
            "another solver",
        ),
    ],
)
def test_another_run_is_refused(options: dict[str, Any], message: str, tmp_path: Path):
    path = saved(tmp_path)
    with pytest.raises(ValueError, match=message):
        continue_sampling(path, MODEL, **({"solver": "seeds-2"} | options))


def test_replayed_numbers_are_told_apart(tmp_path: Path):
    path = saved(tmp_path, noise=Replay(torch.zeros(6, 2, 2)), seed=0)
    with pytest.raises(ValueError, match="another noise"):
        continue_sampling(path, MODEL, "seeds-2", steps=4, noise=Replay(torch.ones(6, 2, 2)))
    continue_sampling(path, MODEL, "seeds-2", steps=4, noise=Replay(torch.zeros(6, 2, 2)))


def test_files_that_are_no_runs(tmp_path: Path):
    path = saved(tmp_path)
    content = path.read_bytes()
    (tmp_path / "cut").write_bytes(content[: len(content) // 2])
    (tmp_path / "other").write_bytes(b"PK")
    save_file({"weights": torch.zeros(2)}, tmp_path / "weights")
    save_file(load_file(path), tmp_path / "bare")
    for name, message in (
        ("absent", "no saved run"),
        ("cut", "damaged"),
        ("other", "damaged"),
        ("weights", "not a saved run"),
        ("bare", "not a saved run"),
    ):
        with pytest.raises(ValueError, match=message):
            continue_sampling(tmp_path / name, MODEL, "seeds-2", steps=4, seed=3)


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path):
    run = begin_sampling(MODEL, (2, 2), "seeds-2", steps=4)
    with pytest.raises(OSError, match="its folder does not exist"):
        run.save(tmp_path / "missing" / "run")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        run.save(tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_what_is_refused():
    for number in (0, 1.5):
        with pytest.raises(ValueError, match="evaluations must be a positive integer"):
            begin_sampling(MODEL, (2, 2), "seeds-2", steps=4).advance(number)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="takes derivatives"):
        begin_sampling(MODEL, (2, 2), "taylor-2", steps=4)


def test_another_grid_is_refused(tmp_path: Path):
    """Where it differs by more than rounding; the file of one is refused for the other."""
    grid = [1.0, 0.6, 0.3, 1e-3]
    run = begin_sampling(MODEL, (1, 2), "seeds-1", grid=grid)
    run.advance(1)
    run.save(tmp_path / "run")
    assert isinstance(run.plan, Plan) and json.dumps(run.plan.to_dict())
    for other in ([1.0, 0.6, 0.3 + 1e-12, 1e-3], [1.0, 0.6, 1e-3], [1.0, 0.6, 0.3, 0.2, 1e-3]):
        with pytest.raises(ValueError, match="another plan"):
            continue_sampling(tmp_path / "run", MODEL, "seeds-1", grid=other)
    assert "seeds-1" in solvers.names()


Change = Callable[[float], float]
CHANGES: dict[str, Callable[[Row, Change], Row]] = {
    "time": lambda row, change: row._replace(time=change(row.time)),
    "target": lambda row, change: row._replace(target=change(row.target)),
    "scale": lambda row, change: row._replace(scale=change(row.scale)),  # type: ignore[arg-type]
    "weights": lambda row, change: row._replace(
        weights=tuple((j, change(weight)) for j, weight in row.weights)  # type: ignore[arg-type]
    ),
    "noise": lambda row, change: row._replace(noise=tuple(map(change, row.noise))),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("field", CHANGES)
@pytest.mark.parametrize("i", range(5))
def test_the_plan_is_known_by_every_number_up_to_rounding(
    field: str, i: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A last digit, such as another version of a library may change, is no other plan; a change by
    a millionth of one coefficient of one row is.
    """
    options: dict[str, Any] = {"grid": [1.0, 0.6, 0.3, 1e-3], "seed": 3}
    run = begin_sampling(MODEL, (2, 2), "seeds-2", **options)
    run.advance(3)
    run.save(tmp_path / "run")
    whole, compiled, row = run.advance(), run.plan, run.plan.rows[i]
    assert row.scale and row.weights and row.noise

    def go_on(change: Change) -> torch.Tensor:
        rows = [*compiled.rows]
        rows[i] = CHANGES[field](row, change)
        assert rows[i] != row
        changed = replace(compiled, rows=tuple(rows))
        monkeypatch.setattr(saved_runs, "plan_sampling", lambda *args, **kwargs: changed)
        return continue_sampling(tmp_path / "run", MODEL, "seeds-2", **options).advance()

    torch.testing.assert_close(go_on(lambda value: math.nextafter(value, 9.0)), whole)
    with pytest.raises(ValueError, match="another plan"):
        go_on(lambda value: value * (1 - 1e-6))


@pytest.mark.parametrize("kind", ["one per sample", "one for all", "torch's own"])
@pytest.mark.parametrize("solver", ["seeds-3", "seeds-sra", "dpm2-ancestral"])
def test_generators_are_known_by_where_they_stand(kind: str, solver: str, tmp_path: Path):
    """The run moves them: as they stand then, they would give other noise, which is refused; put
    back to where they stood when the run began, they give the unsplit run.
    """
    generators: Any = {
        "one per sample": [torch.Generator().manual_seed(7), torch.Generator().manual_seed(8)],
        "one for all": torch.Generator().manual_seed(7),
        "torch's own": None,
    }[kind]
    noise = FromGenerators(generators)
    moved = [torch.default_generator if g is None else g for g in noise.listed()]
    begin = [generator.get_state() for generator in moved]

    def put_back() -> None:
        for generator, state in zip(moved, begin, strict=True):
            generator.set_state(state)

    options: dict[str, Any] = {"steps": 5, "noise": noise}
    whole = sample(MODEL, (2, 2), solver, progress=False, **options)
    put_back()
    run = begin_sampling(MODEL, (2, 2), solver, **options)
    run.advance(4)
    run.save(tmp_path / "run")
    with pytest.raises(ValueError, match=r"another noise \(FromGenerators"):
        continue_sampling(tmp_path / "run", MODEL, solver, **options)
    put_back()
    assert torch.equal(
        continue_sampling(tmp_path / "run", MODEL, solver, **options).advance(), whole
    )
    put_back()


def test_a_source_without_an_identity_is_not_saved(tmp_path: Path):
    class Nameless:
        def stream(self, like: torch.Tensor, run: Any) -> Any:
            return Gaussian([3, 4]).stream(like, run)

    run = begin_sampling(MODEL, (2, 2), "seeds-2", steps=4, noise=Nameless())
    run.advance(3)
    with pytest.raises(ValueError, match=r"Nameless noise .* attribute `identity`"):
        run.save(tmp_path / "run")
    assert not [*tmp_path.iterdir()]


class Linear(torch.nn.Module):
    """A network with weights, as a model."""

    schedule, prediction = VP(), "noise"

    def __init__(self, weight: float, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((3,), weight, dtype=dtype))

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return x * self.weight.mean()


class Other(Linear):
    pass


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Linear(0.31), "3 parameters of mean square 0.09,.*0.0961"),
        (Other(0.3), "Linear, noise.*here Other, noise"),
        (wavy(VP()), "here FunctionModel, data"),
        (Reparametrized(Linear(0.3), "data"), "Reparametrized, data.*around Linear, noise"),
    ],
)
def test_another_model_is_refused(model: Any, message: str, tmp_path: Path):
    """A class, a prediction, other weights: each would go on as if nothing were."""
    run = begin_sampling(Linear(0.3), (2, 2), "seeds-2", steps=4)
    run.advance(3)
    run.save(tmp_path / "run")
    with pytest.raises(ValueError, match=f"another model .*{message}"):
        continue_sampling(tmp_path / "run", model, "seeds-2", steps=4)
    whole = run.advance()
    again = continue_sampling(tmp_path / "run", Linear(0.3), "seeds-2", steps=4)
    assert torch.equal(again.advance(), whole)


@pytest.mark.parametrize(
    ("begun", "continued"),
    [
        (FunctionModel(VP(), "data", lambda x, t: 0.3 * x), wavy(VP())),
        (Linear(0.3), Linear(-0.3)),
        (targets.Gaussian([1.0], 0.25, VP()), targets.Gaussian([1.001], 0.25, VP())),
        (targets.Gaussian([0.0], 0.0, VP()), targets.Gaussian([1.0], 0.0, VP())),
    ],
    ids=["functions", "signs of weights", "targets", "zero"],
)
def test_models_that_differ_in_their_output_alone(begun: Any, continued: Any, tmp_path: Path):
    """Same class, prediction, schedule, and number and mean square of parameters."""
    run = begin_sampling(begun, (2, 1), "seeds-2", steps=4)
    run.save(tmp_path / "begin")
    run.advance(3)
    run.save(tmp_path / "run")
    continue_sampling(tmp_path / "begin", continued, "seeds-2", steps=4)
    with pytest.raises(ValueError, match="another model: at the state and time of the latest"):
        continue_sampling(tmp_path / "run", continued, "seeds-2", steps=4)
    again = continue_sampling(tmp_path / "run", begun, "seeds-2", steps=4)
    assert again.nfe == 3 and torch.equal(again.advance(), run.advance())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_goes_on_in_half_precision(dtype: torch.dtype, tmp_path: Path):
    """Its state is held in float32, but the model sees, and the caller gets, the half type."""
    seen: list[torch.dtype] = []

    def function(x: torch.Tensor, t: Any) -> torch.Tensor:
        seen.append(x.dtype)
        return 0.3 * x

    model = FunctionModel(VP(), "noise", function)
    options: dict[str, Any] = {"steps": 4, "seed": 3}
    whole = sample(model, (2, 2), "seeds-2", progress=False, dtype=dtype, **options)
    run = begin_sampling(model, (2, 2), "seeds-2", dtype=dtype, **options)
    run.advance(3)
    run.save(tmp_path / "run")
    for given in (None, dtype):
        again = continue_sampling(tmp_path / "run", model, "seeds-2", dtype=given, **options)
        assert torch.equal(again.advance(), whole) and whole.dtype == dtype
    assert set(seen) == {dtype}
    with pytest.raises(ValueError, match=f"holds a run in {dtype}, here torch.float32"):
        continue_sampling(tmp_path / "run", model, "seeds-2", dtype=torch.float32, **options)


def test_part_of_a_run_is_saved_and_continued(tmp_path: Path):
    options: dict[str, Any] = {"steps": 5, "seed": 3, "start": 4}
    whole = sample(MODEL, (6, 2), "seeds-2", steps=5, seed=3, progress=False)
    run = begin_sampling(MODEL, (2, 2), "seeds-2", **options)
    run.advance(3)
    run.save(tmp_path / "run")
    later = continue_sampling(tmp_path / "run", MODEL, "seeds-2", **options).advance()
    torch.testing.assert_close(later, whole[4:], rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="another noise"):
        continue_sampling(tmp_path / "run", MODEL, "seeds-2", **options | {"start": 3})
