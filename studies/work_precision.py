"""Error against network evaluations and against seconds: all registered solvers, and what users
have today, on four problems; the figures behind docs/work-precision.md.

    python studies/work_precision.py            what is missing in studies/work_precision.json
    python studies/work_precision.py ring       one problem
    python studies/work_precision.py --page     the figures that are there into the page

Everything is one denoiser D(x/α, σ), which each program sees in the form that it is made for:
this library in EDM's schedule, on equal steps in λ where the law is known, on the default grid
for the network, and "expint default" with grid and solver left out; diffusers' schedulers with
their own defaults (no clipping), as a network with noise prediction on the linear table of 1000
timesteps (σ from 157 to 0.01), EDM's as a preconditioned network from σ = 80 to 0.002; torchsde on
the reverse SDE under the VP schedule, equal steps in t, with one evaluation to denoise at the end.
The problems are not changed: the laws are the same, and a network is called at σ = 80 at most.

gaussian-64   64 dimensions, variances from 0.001 to 1: Wasserstein-2 over the root of the total
              variance, exact: the maps are affine, and found from unit vectors in place of noise
ring, grid-25 mixtures of 8 and 25 modes: sliced Wasserstein-2 of 5000 samples
digits-edm    Fréchet distance of 1000 samples from 3000 of the network at 100 evaluations, in the
              features of the classifier

Floors are those of exact samples (or the network's at 100 evaluations), as many. Seconds are those
of the one run, of 1000 samples for gaussian-64, on one thread. Interrupted, it goes on.
"""

import json
import math
import platform
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from datetime import date
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from pages import with_table
from stiffness import ring
from torch import Tensor
from tqdm import tqdm

import expint
from expint import Reparametrized, solvers
from expint.gaussian_data import exact_moments
from expint.metrics import sliced_wasserstein
from expint.quality import analytic_target
from expint.results import new_figure, write_json
from expint.schedules import VP

Point = tuple[float, int, float]
"""Error, evaluations and seconds."""

FILE = Path(__file__).with_suffix(".json")
DOCS = FILE.parents[1] / "docs"
PAGE, PICTURE = DOCS / "work-precision.md", DOCS / "img" / "work-precision.png"
NFES = (5, 10, 20, 50)
COUNT, LARGEST = 5000, 80.0
SHOWN = ("expint default", "seeds-ab2", "unipc-3", "seeds-3", "diffusers DPM++", "diffusers UniPC",
         "diffusers SDE-DPM++", "diffusers Heun", "torchsde euler")  # fmt: skip


class Law:
    """A denoiser and how far samples are from its law.

    Args:
        name: of the problem.
    """

    def __init__(self, name: str) -> None:
        self.name, self.calls = name, 0
        self.nfes = NFES[:2] if name == "digits-edm" else NFES  # more takes half an hour
        self.count = 1000 if name in ("digits-edm", "gaussian-64") else COUNT

    @cached_property
    def _problem(self) -> Any:
        sys.path.insert(0, str(FILE.parents[1] / "benchmarks"))
        import defaults

        return defaults.Problem(self.name, self.count)

    @cached_property
    def model(self) -> Any:
        """What is sampled."""
        if self.name == "digits-edm":
            return self._problem.model
        return ring() if self.name == "ring" else analytic_target(self.name)

    @property
    def shape(self) -> Any:
        """Of one sample."""
        return self.model.shape

    @cached_property
    def _reference(self) -> Tensor:
        return self.model.sample(COUNT, seed=10**6)

    @cached_property
    def _data(self) -> Reparametrized:
        return Reparametrized(self.model, "data")

    def denoised(self, z: Tensor, sigma: float) -> Tensor:
        """D at x/α; above σ = 80, where x is all noise, as at 80."""
        self.calls += 1
        scale = min(1.0, LARGEST / sigma)
        with torch.no_grad():
            return self._data(z * scale, torch.tensor(sigma * scale, dtype=torch.float64))

    def error(self, samples: Tensor) -> float:
        """Of samples."""
        if self.name == "digits-edm":
            return self._problem.distance(self._problem.features(samples.float()))
        return float(sliced_wasserstein(samples.double(), self._reference))

    def floor(self) -> float:
        """Of samples of the law."""
        if self.name == "gaussian-64":
            return 0.0
        if self.name == "digits-edm":
            return self._problem.distance(self._problem.law(17, self.count))
        drawn = (self.model.sample(self.count, seed=seed) for seed in range(17, 27))
        return sum(map(self.error, drawn)) / 10

    def exact(self, stds: Tensor, means: Tensor) -> float:
        """Of a normal law with independent components, for gaussian-64: the exact distance."""
        right = self.model.variances.sqrt()
        return float(((stds - right) ** 2 + means**2).sum().sqrt() / right.norm())


# --- what is compared


def ours(law: Law, solver: str | None, nfe: int) -> Point:
    """A registered solver; None is what a user gets who names none."""
    grid = "default" if solver is None or law.name == "digits-edm" else "uniform_lambda"
    options: Any = {"grid": grid, "nfe": nfe, "sigma_data": 0.5}
    plan = expint.plan_sampling(law.model.schedule, solver, **options)
    if law.name == "gaussian-64" and plan.has_tangents:
        raise ValueError("no exact moments")
    began = time.perf_counter()
    samples = expint.sample(law.model, (law.count, *law.shape), plan=plan, progress=False)
    seconds = time.perf_counter() - began
    if law.name != "gaussian-64":
        return law.error(samples), plan.nfe, seconds
    right = law.model.variances.sqrt()
    ratios, means = exact_moments(plan, right.tolist(), mean=0.0)
    error = law.exact(torch.tensor(ratios) * right, torch.tensor(means) * right)
    return error, plan.nfe, seconds


def schedulers() -> dict[str, Callable[[], Any]]:
    """diffusers' schedulers with their own defaults, by the names that people use."""
    import diffusers as d

    multistep, edm = d.DPMSolverMultistepScheduler, d.EDMDPMSolverMultistepScheduler
    sde = {"algorithm_type": "sde-dpmsolver++"}
    found = {
        "DDPM": partial(d.DDPMScheduler, clip_sample=False),
        "DDIM": partial(d.DDIMScheduler, clip_sample=False, set_alpha_to_one=True),
        "PNDM": d.PNDMScheduler,
        "DEIS": d.DEISMultistepScheduler,
        "DPM++": multistep,
        "DPM++ Karras": partial(multistep, use_karras_sigmas=True),
        "SDE-DPM++": partial(multistep, **sde),
        "DPM++ singlestep": d.DPMSolverSinglestepScheduler,
        "UniPC": d.UniPCMultistepScheduler,
        "SA-Solver": d.SASolverScheduler,
        "Euler": d.EulerDiscreteScheduler,
        "Euler ancestral": d.EulerAncestralDiscreteScheduler,
        "Heun": d.HeunDiscreteScheduler,
        "LMS": d.LMSDiscreteScheduler,
        "EDM Euler": d.EDMEulerScheduler,
        "EDM DPM++": edm,
        "EDM SDE-DPM++": partial(edm, **sde),
    }
    return {f"diffusers {name}": make for name, make in found.items()}


def by_scheduler(
    law: Law, make: Callable[[], Any], nfe: int, draw: Callable[..., Tensor]
) -> Tensor:
    """Samples of a scheduler with at most `nfe` evaluations; `draw(shape)` gives its normals."""
    scheduler = next(s for s in set_up(make, nfe) if len(s.timesteps) <= nfe)
    kind = type(scheduler).__name__
    module = sys.modules[type(scheduler).__module__]
    kept = getattr(module, "randn_tensor", None)
    module.randn_tensor = lambda shape, *args, **kwargs: draw(tuple(shape))
    try:
        x = draw((law.count, *law.shape)) * float(scheduler.init_noise_sigma)
        for t in scheduler.timesteps:
            scheduler.scale_model_input(x, t)
            if kind.startswith(("Euler", "Heun", "LMS", "EDM")):
                sigma = float(scheduler.sigmas[scheduler.step_index])
                denoised = law.denoised(x, sigma)
                if kind.startswith("EDM"):
                    skip = 0.25 / (sigma**2 + 0.25)
                    output = (denoised - skip * x) / (0.5 * sigma / math.hypot(sigma, 0.5))
                else:
                    output = (x - denoised) / sigma
            else:
                signal = float(scheduler.alphas_cumprod[int(t)])
                alpha, std = math.sqrt(signal), math.sqrt(1.0 - signal)
                output = (x - alpha * law.denoised(x / alpha, std / alpha)) / std
            x = scheduler.step(output, t, x).prev_sample
    finally:
        module.randn_tensor = kept
    return x


def set_up(make: Callable[[], Any], nfe: int) -> Iterator[Any]:
    """The scheduler with fewer and fewer steps."""
    for steps in range(nfe, 0, -1):
        scheduler = make()
        scheduler.set_timesteps(steps)
        yield scheduler


def theirs(law: Law, make: Callable[[], Any], nfe: int) -> Point:
    """Error, evaluations and seconds of a scheduler of diffusers."""
    gen, law.calls = torch.Generator().manual_seed(0), 0
    began = time.perf_counter()
    samples = by_scheduler(law, make, nfe, lambda shape: torch.randn(shape, generator=gen))
    seconds, used = time.perf_counter() - began, law.calls
    if law.name != "gaussian-64":
        return law.error(samples), used, seconds
    drawn: list[tuple[int, ...]] = []
    count = law.count
    try:
        law.count = 1

        def nothing(shape: tuple[int, ...]) -> Tensor:
            drawn.append(shape)
            return torch.zeros(shape)

        by_scheduler(law, make, nfe, nothing)
        law.count, place = len(drawn) + 1, iter(range(len(drawn)))

        def unit(shape: tuple[int, ...]) -> Tensor:
            values = torch.zeros(shape)
            values[next(place)] = 1.0
            return values

        ends = by_scheduler(law, make, nfe, unit).double()
    finally:
        law.count = count
    return law.exact((ends[:-1] - ends[-1]).norm(dim=0), ends[-1]), used, seconds


def by_torchsde(law: Law, method: str, nfe: int) -> Point:
    """The same of torchsde."""
    import torchsde

    schedule = VP()
    first, last = schedule.sampling_range

    def F(x: Tensor, t: Tensor) -> Tensor:
        return law.denoised(x / schedule.alpha(t).to(x), float(schedule.sigma(t)))

    sde = expint.to_torchsde(
        expint.reverse_sde(schedule, "data", 1.0), F, event_shape=law.shape, span=(first, last)
    )
    length, size = first - last, math.prod(law.shape)
    gen = torch.Generator().manual_seed(0)
    steps = nfe - 1
    while True:
        law.calls = 0
        x = torch.randn(law.count, size, generator=gen)
        span = torch.tensor([0.0, length], dtype=torch.float64)
        bm = torchsde.BrownianInterval(
            0.0, length, (law.count, size), entropy=1, levy_area_approximation="space-time"
        )
        began = time.perf_counter()
        with torch.no_grad():
            y = torchsde.sdeint(sde, x, span, bm=bm, method=method, dt=length / steps * (1 + 1e-9))[
                -1
            ]
        y = F(y.reshape(law.count, *law.shape), torch.tensor(last, dtype=torch.float64))
        seconds = time.perf_counter() - began
        if steps == 1 and law.calls > nfe:
            raise ValueError("too few evaluations")
        if law.calls <= nfe:
            return law.error(y), law.calls, seconds
        steps = max(1, min(steps - 1, int(steps * nfe / law.calls)))


def entries(law: Law) -> dict[str, Callable[[int], Point]]:
    """All that is compared, by name."""
    found: dict[str, Any] = {"expint default": partial(ours, law, None)}
    found |= {name: partial(ours, law, name) for name in solvers.names()}
    found |= {name: partial(theirs, law, make) for name, make in schedulers().items()}
    if law.name != "gaussian-64":  # an exact distance would need its paths
        for method in ("euler", "milstein", "srk"):
            found[f"torchsde {method}"] = partial(by_torchsde, law, method)
    return found


def measured(run: Callable[[int], Point], nfe: int) -> list[float] | str:
    """[error, evaluations, seconds], or why there is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            error, used, seconds = run(nfe)
        except (ValueError, FloatingPointError, StopIteration) as reason:
            return str(reason).split(":")[0] or "too few evaluations"
    if not math.isfinite(error):
        return "not finite"
    return [float(f"{error:.4g}"), used, float(f"{seconds:.3g}")]


# --- the page


def machine() -> str:
    """The processor, and what computes."""
    lines = Path("/proc/cpuinfo")
    names = [
        line.split(":")[1].strip()
        for line in (lines.read_text().splitlines() if lines.exists() else [])
        if line.startswith("model name")
    ]
    processor = names[0] if names else platform.processor() or platform.machine()
    return f"{processor}, one thread, torch {torch.__version__.split('+')[0]}"


def cell(value: float | None) -> str:
    """Three digits, without an exponent, so that the page can sort it."""
    if value is None:
        return "–"
    return np.format_float_positional(value, precision=3, fractional=False, trim="-")


def rows_of(problem: dict[str, Any]) -> list[tuple[str, ...]]:
    """Error by evaluations allowed and seconds at the most of them, the least error at 10 first."""
    figures = problem["figures"]
    nfes = [*next(iter(figures.values()))]
    head = ("name", *(f"error, NFE {n}" for n in nfes), f"seconds, NFE {nfes[-1]}")
    lines = []
    for name, found in figures.items():
        points = [found[n] for n in nfes]
        errors = [None if isinstance(p, str) else p[0] for p in points]
        seconds = None if isinstance(points[-1], str) else points[-1][2]
        title = name if " " in name else f"`{name}`"
        lines.append((errors[1], (title, *map(cell, errors), cell(seconds))))
    lines.sort(key=lambda line: math.inf if line[0] is None else line[0])
    return [head, *(line for _, line in lines)]


def page_of(text: str, done: dict[str, Any]) -> str:
    """The page with its tables between their marks."""
    for name, problem in done.items():
        floor = f"Floor {cell(problem['floor'])}. " if problem["floor"] else ""
        said = f"{floor}{problem['made']}; {problem['machine']}."
        text = with_table(text, name, rows_of(problem), said)
    return text


def draw(done: dict[str, Any]) -> None:
    """Error against evaluations above, against seconds below."""
    figure = new_figure(12.0, 6.0)
    axes = figure.subplots(2, len(done), sharey="col")
    for (name, problem), column in zip(done.items(), axes.T, strict=True):
        for place, ax in enumerate(column):
            for i, solver in enumerate(SHOWN):
                found = problem["figures"].get(solver, {})
                points = [p for p in found.values() if not isinstance(p, str)]
                style = "s--" if solver.startswith(("diffusers", "torchsde")) else "o-"
                ax.plot([p[1 + place] for p in points], [p[0] for p in points], style,
                        color=f"C{i}", markersize=4, label=solver)  # fmt: skip
            if problem["floor"]:
                ax.axhline(problem["floor"], color="0.5", linestyle=":")
            ax.set(xscale="log", yscale="log", xlabel=("network evaluations", "seconds")[place])
            ax.xaxis.set_minor_formatter("")
            ax.grid(visible=True, color="0.92")
        nfes = [int(n) for n in next(iter(problem["figures"].values()))]
        column[0].set_xticks(nfes, [str(n) for n in nfes])
        column[0].minorticks_off()
        column[0].set_title(name, fontsize=11)
    for row in axes:
        row[0].set_ylabel("error")
    labels = axes[0, 1].get_legend_handles_labels()
    figure.legend(*labels, loc="outside lower center", ncols=5, fontsize=8)
    figure.savefig(PICTURE, dpi=120)


PROBLEMS = ("gaussian-64", "grid-25", "ring", "digits-edm")


@click.command(help=__doc__)
@click.argument("names", nargs=-1, type=click.Choice(PROBLEMS))
@click.option("--page", is_flag=True)
def main(names: tuple[str, ...], page: bool) -> None:
    """Run it."""
    torch.set_num_threads(1)
    done = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    for name in () if page else names or PROBLEMS:
        law = Law(name)
        problem = done.setdefault(name, {"figures": {}})
        if "floor" not in problem:
            problem["floor"] = float(f"{law.floor():.4g}")
        missing = {k: run for k, run in entries(law).items() if k not in problem["figures"]}
        for label, run in tqdm(missing.items(), desc=name, disable=not missing):
            problem["figures"][label] = {str(nfe): measured(run, nfe) for nfe in law.nfes}
            problem |= {"made": date.today().isoformat(), "machine": machine()}
            problem["samples"] = law.count
            write_json(FILE, done)
    if page:
        PAGE.write_text(page_of(PAGE.read_text(encoding="utf-8"), done), encoding="utf-8")
        draw(done)


if __name__ == "__main__":
    main()
