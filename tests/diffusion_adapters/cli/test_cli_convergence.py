"""`expint convergence`, as a user runs it."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from diffusion_adapters.cli import main
from diffusion_adapters.cli.output import origin

SMALL = ["convergence", "--no-progress", "--paths", "64", "--steps", "8,16,32"]

OWN = '''
from dataclasses import replace
from fractions import Fraction

from expint.schedules import EDM
from expint.solvers import Stage, Tableau, Term, seeds2, seeds3

sound = replace(seeds2(), name="sound")
schedule = EDM()
number = 3


def wrong():
    """SEEDS-3 with half the weight of its last slope, under the name of the sound one."""
    one = Fraction(1)
    slope = (Term(Fraction(3, 4), 2, one),)
    start = (Term(one, 1, one), Term(Fraction(-3, 4), 2, one))
    return Tableau("seeds-3", (*seeds3().stages[:2], Stage(one, weights={0: start, 2: slope})))


def unnamed():
    return replace(wrong(), name="my-3")


def late():
    return seeds2(c=1)


def failing():
    return {}["key"]


def needy(c):
    return seeds2(c=c)
'''


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a module of the user's, as the working directory."""
    (tmp_path / "lab_objects.py").write_text(OWN)
    (tmp_path / "lab_broken.py").write_text("def tableau(:\n")
    (tmp_path / "lab_exits.py").write_text("raise SystemExit(0)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "lab_objects", raising=False)
    return tmp_path


def test_table_picture_and_json(tmp_path: Path):
    options = ("--solver", "seeds-1,seeds-sra", "--seed", "3")
    result = run(*SMALL, *options, "--out", tmp_path / "new" / "fig.png")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    assert (
        result.stdout.startswith("strong order: RMS error, data form, ell=1, VP(")
        and "64 paths" in result.stdout
    )
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["fig.json", "fig.png"]
    assert (tmp_path / "new" / "fig.png").read_bytes().startswith(b"\x89PNG")
    stored = json.loads((tmp_path / "new" / "fig.json").read_text())
    assert [study["solver"] for study in stored["studies"]] == ["seeds-1", "seeds-sra"]
    settings = stored["settings"]
    assert (settings["solver"], settings["seed"], settings["paths"]) == (options[1], 3, 64)
    assert "certificates" not in stored and stored["versions"] == origin()["versions"]


def test_weak_and_deterministic_go_without_paths(tmp_path: Path):
    weak = "--kind weak --solver seeds-2 --form noise".split()
    result = run("convergence", *weak, "--out", tmp_path / "folder")
    assert result.exit_code == 0, result.output
    assert "exact moments" in result.stdout and "Gaussian, 5 > sigma > 0.1" in result.stdout
    for name in ("convergence.png", "convergence.json"):
        assert (tmp_path / "folder" / name).exists()
    deterministic = "--kind deterministic --solver seeds-2 --steps 16,32,64".split()
    result = run("convergence", *deterministic, "--out", tmp_path / "a.svg")
    assert result.exit_code == 0, result.output
    assert "classical Runge-Kutta" in result.stdout and (tmp_path / "a.svg").exists()


def test_a_sound_solver_of_your_own_is_certified(own: Path):
    own_objects = "--solver lab_objects:sound --schedule lab_objects:schedule".split()
    result = run("convergence", "--kind", "deterministic", *own_objects, "--certify")
    assert result.exit_code == 0, result.output
    for words in ("lab_objects:sound: certified", "EDM(", "stage covariances"):
        assert words in result.stdout


def test_a_wrong_one_is_not_and_it_is_said_why(own: Path):
    wrong = "--kind deterministic --solver lab_objects:wrong --certify --out fig.png".split()
    result = run("convergence", *wrong)
    assert result.exit_code == 1
    assert "lab_objects:wrong: NOT certified" in result.stdout
    assert (
        "off: tableau: deterministic order 1 by the algebraic conditions, declared 3"
        in result.stdout
    )
    assert "off: deterministic order: measured 1.0" in result.stdout
    (certificate,) = json.loads(Path("fig.json").read_text())["certificates"]
    assert certificate["passed"] is False and len(certificate["findings"]) >= 2


def test_certify_makes_every_study(own: Path):
    options = "--no-progress --solver seeds-1 --paths 256 --steps 32,64,128 --certify"
    result = run("convergence", *options.split())
    assert result.exit_code == 0, result.output
    assert all(f"  {kind}: order" in result.stdout for kind in ("deterministic", "weak", "strong"))


def test_orders_may_be_declared(own: Path):
    options = "--kind deterministic --solver lab_objects:unnamed --certify"
    arguments = ("convergence", *options.split())
    assert run(*arguments).exit_code == 0  # of order 1, as its tableau says itself
    result = run(*arguments, "--declare", "3,2,1")
    assert result.exit_code == 1 and "lab_objects:unnamed: NOT certified" in result.stdout


def test_variants_of_one_solver_are_told_apart(own: Path):
    result = run(
        *SMALL, "--solver", "lab_objects:late,seeds-2,lab_objects:sound", "--out", "fig.png"
    )
    assert result.exit_code == 0, result.output
    studies = {
        study["solver"]: study for study in json.loads(Path("fig.json").read_text())["studies"]
    }
    assert list(studies) == ["lab_objects:late", "seeds-2", "lab_objects:sound"]
    assert (
        studies["lab_objects:sound"]["errors"]
        == studies["seeds-2"]["errors"]
        != studies["lab_objects:late"]["errors"]
    )


def test_steps_too_coarse_to_tell_are_named():
    result = run(*SMALL[:-1], "4,8,16", "--solver", "seeds-2", "--certify")
    assert result.exit_code == 1 and "seeds-2: NOT certified" in result.stdout
    assert (
        "off: weak order: the steps 4 to 16 are not asymptotic, the order between neighbours goes "
        "1.55, 1." in result.stdout
    )
    assert (
        "take finer steps to tell whether it is 2" in result.stdout
        and "measured" not in result.stdout
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--solver", "seeds-9"), "Unknown solver 'seeds-9'"),
        (("--solver", "seeds-1,,seeds-2"), "--solver takes values with commas"),
        (("--schedule", "strange"), "Unknown schedule 'strange'"),
        (("--solver", "no_such_module:x"), "Cannot load the solver 'no_such_module:x'"),
        (("--solver", "lab_objects:missing"), "Cannot load the solver 'lab_objects:missing'"),
        (
            ("--solver", "lab_broken:tableau"),
            "Cannot load the solver 'lab_broken:tableau': SyntaxError: ",
        ),
        (
            ("--solver", "lab_exits:tableau"),
            "Cannot load the solver 'lab_exits:tableau': SystemExit: 0",
        ),
        (
            ("--solver", "lab_objects:failing"),
            "Calling the solver 'lab_objects:failing' failed: KeyError: 'key'",
        ),
        (
            ("--schedule", "lab_objects:needy"),
            "Calling the schedule 'lab_objects:needy' failed: TypeError: needy() missing 1",
        ),
        (
            ("--solver", "lab_objects:number"),
            "must be a Method or Tableau, or give one when it is called, got int",
        ),
        (("--schedule", "lab_objects:sound"), "must be a Schedule"),
        (("--form", "precond"), "sigma_data"),
        (("--ell", "0"), "need noise, ell > 0"),
        (("--sigmas", "5"), "--sigmas takes 2 numbers, got '5'"),
        (("--sigmas", "5,x"), "--sigmas takes numbers with commas"),
        (("--steps", "8,x"), "--steps takes whole numbers with commas"),
        (("--declare", "1,2"), "--declare takes 3 numbers"),
        (("--out", "fig.gif"), "--out is a picture (.png, .svg, .pdf) or a folder"),
    ],
)
def test_what_is_refused_in_one_line(own: Path, arguments: tuple[str, ...], message: str):
    result = run("convergence", "--no-progress", *arguments)
    assert result.exit_code == 2 and result.stdout == "", result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ") and message in line
    assert sorted(path.name for path in own.iterdir() if path.name != "__pycache__") == [
        "lab_broken.py",
        "lab_exits.py",
        "lab_objects.py",
    ]
