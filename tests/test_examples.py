"""The examples run, at reduced size, and what they claim is so."""

import math
import runpy
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest
import torch
from click.testing import CliRunner
from imported import imported_from
from PIL import Image

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture
def example(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return imported_from(EXAMPLES, request.param, monkeypatch)


a = pytest.mark.parametrize


@a("example", ["ornstein_uhlenbeck"], indirect=True)
def test_driving_noise(example: ModuleType):
    """The joint law of dw and the convolution, and its aggregation: 4 short intervals have the law
    of a long one.
    """
    rate, strength = (
        torch.tensor(v, dtype=torch.float64) for v in ([0.0, -1.0, -30.0], [0.5, 1.0, 2.0])
    )
    short = example.DrivingNoise.draw(rate, strength, 0.1, (4, 40000, 3), 0)
    h = 0.4
    for noise in (short.on(1), example.DrivingNoise.draw(rate, strength, h, (1, 40000, 3), 1)):
        dw, convolution = noise.dw[0], noise.convolution[0]
        exact = torch.stack(
            [
                torch.full((3,), h),
                strength**2 * (1 - torch.exp(2 * rate * h)) / (-2 * rate),
                strength * torch.expm1(rate * h) / rate,
            ]
        )
        exact[:, 0] = torch.tensor([h, 0.25 * h, 0.5 * h])
        found = torch.stack(
            [dw.square().mean(0), convolution.square().mean(0), (dw * convolution).mean(0)]
        )
        error = (
            6
            * torch.stack(
                [
                    exact[0] * 2**0.5,
                    exact[1] * 2**0.5,
                    torch.sqrt(exact[0] * exact[1] + exact[2] ** 2),
                ]
            )
            / 200
        )
        assert ((found - exact).abs() < error).all()
        assert ((noise.normals().normals.square().mean((0, 1)) - 1).abs() < 6 * 2**0.5 / 200).all()
    # A sum over shorter intervals does not depend on how it is grouped.
    torch.testing.assert_close(
        short.on(2).on(1).convolution, short.on(1).convolution, rtol=1e-12, atol=1e-14
    )


@a("example", ["ornstein_uhlenbeck"], indirect=True)
def test_ornstein_uhlenbeck(example: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(example, "STEPS", (16, 32, 64, 128))
    errors, paths = example.run(samples=150, finest=2048, seed=1)
    for scheme in ("seeds-1", "seeds-2"):
        assert errors[scheme][0] < 0.1
        assert math.log2(errors[scheme][-2] / errors[scheme][-1]) == pytest.approx(1.0, abs=0.25)
    # h = 1/4 is beyond the stability limit 1/6 of the explicit scheme; afterwards its errors are
    # several times larger.
    assert errors["Euler–Maruyama"][0] > 100
    assert all(
        euler > 3 * ours
        for euler, ours in zip(errors["Euler–Maruyama"], errors["seeds-1"], strict=True)
    )
    assert paths["reference"].shape[1] == 150
    example.picture(errors, paths, tmp_path / "new" / "picture.png")
    assert (tmp_path / "new" / "picture.png").stat().st_size > 10_000


@a("example", ["allen_cahn"], indirect=True)
def test_allen_cahn(example: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(example, "T", 4.0)
    monkeypatch.setattr(example, "FACTORS", (1, 2, 4))
    result = example.run(modes=96, steps=60, samples=2, seed=3)
    assert example.T / 60 > result.explicit_limit
    euler = result.largest["Euler–Maruyama"]
    assert not torch.isfinite(euler).all() or euler.max() > 1e6
    for scheme in ("seeds-1", "seeds-2"):
        assert result.largest[scheme].max() < 3
        assert all(coarse > 1.2 * fine for coarse, fine in pairwise(result.errors[scheme]))
        assert result.errors[scheme][0] < 0.1
    assert result.errors["seeds-2"][-1] < 0.5 * result.errors["seeds-2"][0]
    example.picture(result, 60, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000


@a("example", ["allen_cahn"], indirect=True)
def test_cosine_modes(example: ModuleType):
    """Orthonormal, and the rates are those of the second derivative of a smooth function without
    flux at the ends.
    """
    basis = example.CosineModes.of(32)
    torch.testing.assert_close(
        basis.matrix @ basis.matrix.T, torch.eye(32, dtype=torch.float64), rtol=0, atol=1e-13
    )
    x = (torch.arange(32, dtype=torch.float64) + 0.5) / 32
    u = torch.cos(3 * math.pi * x) + 0.5 * torch.cos(5 * math.pi * x)
    second = basis.to_points(
        -((math.pi * torch.arange(32.0, dtype=torch.float64)) ** 2) * basis.to_modes(u)
    )
    exact = -((3 * math.pi) ** 2) * torch.cos(3 * math.pi * x) - 0.5 * (
        5 * math.pi
    ) ** 2 * torch.cos(5 * math.pi * x)
    torch.testing.assert_close(second, exact, rtol=1e-10, atol=1e-9)


@a(
    ("example", "options"),
    [
        ("ornstein_uhlenbeck", ["--samples", "20", "--finest", "1024"]),
        ("allen_cahn", ["--modes", "48", "--steps", "40", "--samples", "1"]),
    ],
    indirect=["example"],
)
def test_command_lines(
    example: ModuleType, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    if example.__name__ == "allen_cahn":
        monkeypatch.setattr(example, "T", 2.0)
    out = tmp_path / "picture.png"
    result = CliRunner().invoke(example.main, [*options, "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "Euler–Maruyama" in result.output and f"picture: {out}" in result.output and out.exists()


@a("example", ["ornstein_uhlenbeck"], indirect=True)
def test_reference_must_be_divisible(example: ModuleType):
    result = CliRunner().invoke(example.main, ["--finest", "1000"])
    assert result.exit_code == 2 and "must be a multiple of 1024, got 1000" in result.output


@a("example", ["draw_run"], indirect=True)
def test_an_animation_of_a_run(example: ModuleType, tmp_path: Path):
    """As many frames as asked for, and both runs start from the same states."""
    ddpm, seeds = (example.trajectory(solver, 20) for solver in ("seeds-1", "seeds-3"))
    assert torch.equal(ddpm[0][1], seeds[0][1]) and ddpm[-1][0] == seeds[-1][0] == 1.0
    assert torch.equal(example.between(seeds, 1.0), seeds[-1][1])
    out = tmp_path / "run.gif"
    small = ["--out", str(out), "--particles", "20", "--frames", "3"]
    result = CliRunner().invoke(example.main, small)
    assert result.exit_code == 0, result.output
    with Image.open(out) as picture:
        assert picture.n_frames == 3
    assert out.with_suffix(".png").exists()
    assert (EXAMPLES.parent / "docs" / "img" / "noise-to-data.gif").stat().st_size < 4e5


@a("example", ["edit_digits"], indirect=True)
def test_edits_of_digits(example: ModuleType, tmp_path: Path):
    """Each way is measured, and the slant is that of a line that leans by half a column a row."""
    rows = torch.arange(28)
    leaning = torch.full((1, 1, 28, 28), -1.0)
    leaning[0, 0, rows, 20 - rows // 2] = 1.0
    assert example.slant(leaning).item() == pytest.approx(0.5, abs=0.01)
    out = tmp_path / "edits.png"
    result = CliRunner().invoke(example.main, ["--out", str(out), "--count", "3", "--steps", "4"])
    assert result.exit_code == 0, result.output
    assert len(result.output.splitlines()) == 9 and "encode, from sigma = 5" in result.output
    with Image.open(out) as picture:
        assert picture.size == (2 * 3 * 32, 2 * 4 * 32)
    assert (EXAMPLES.parent / "docs" / "img" / "edit-digits.png").stat().st_size < 5e4


@a("example", ["fields"], indirect=True)
def test_fields(example: ModuleType, tmp_path: Path):
    """All four stay bounded at a quarter of the steps, and the variance of the heat equation is
    that of 2000 samples of 128 points, to 5 %."""
    out = tmp_path / "picture.png"
    result = CliRunner().invoke(example.main, ["--scale", "0.25", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert out.stat().st_size > 10_000
    numbers = [float(line.rsplit(" ", 1)[1]) for line in result.output.splitlines()[:4]]
    assert numbers[0] == pytest.approx(1.0, abs=0.05) and max(numbers[1:]) < 6


@pytest.mark.filterwarnings("ignore::expint.PlanWarning")  # "sample" shows what too few do
@a(("notebook", "picture"), [("sample", True), ("define", True), ("prove", False)])
def test_notebooks(notebook: str, picture: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each runs from cell to cell, asserts what it says, and draws where it draws."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    file = EXAMPLES / "notebooks" / f"{notebook}.py"
    assert file.read_text(encoding="utf-8").startswith("# %% [markdown]\n")
    runpy.run_path(str(file))
    assert (tmp_path / f"{notebook}.png").exists() == picture
