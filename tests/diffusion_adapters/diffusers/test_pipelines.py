"""`ExpIntScheduler` in tiny pipelines of the installed diffusers, of more than 40 kinds: finite,
reproducible, begun where the pipeline's own scheduler begins, and the run of `expint.sample`."""

import functools
from typing import Any

import diffusers
import pytest
import torch
from tiny_pipelines import KINDS, Kind
from torch import Tensor

import expint
from diffusion_adapters.diffusers import ExpIntScheduler
from diffusion_adapters.diffusers.latent_noise import seeds_of_state
from expint.noise import FromGenerators, Gaussian

torch.set_num_threads(1)
THEIRS: Any = diffusers
diffusers.utils.logging.set_verbosity_error()
pytestmark = [pytest.mark.filterwarnings("ignore")]

# Their bars count evaluations where they expect steps, or the other way round, with any scheduler.
BARS = ("AnimateDiffPipeline", "LuminaPipeline", "StableDiffusionXLImg2ImgPipeline")
SOLVERS = ["seeds-3", "pece-2"]
STEPS = 4


def test_there_are_forty_kinds():
    assert len({kind.name for kind in KINDS}) >= 40


class Seen:
    """What a pipeline handed to `step`, and what came back."""

    def __init__(self, scheduler: Any) -> None:
        self.times: list[float] = []
        self.outputs: list[Tensor] = []
        self.states: list[Tensor] = []
        self.generators: Any = None
        inner = scheduler.step

        @functools.wraps(inner)
        def step(model_output: Tensor, timestep: Any, sample: Tensor, **more: Any) -> Any:
            if not self.times:
                self.first, given = sample.clone(), more.get("generator")
                self.generators = None if given is None else _copy(given)
            self.times.append(float(torch.as_tensor(timestep).reshape(-1)[0]))
            self.outputs.append(model_output.clone())
            result = inner(model_output, timestep, sample, **more)
            reached = result[0] if isinstance(result, tuple) else result.prev_sample
            self.states.append(reached.clone())
            return result

        scheduler.step = step


def _copy(generator: torch.Generator) -> torch.Generator:
    other = torch.Generator()
    other.set_state(generator.get_state())
    return other


@functools.cache
def parts(index: int) -> dict[str, Any]:
    return KINDS[index].parts()


def called(kind: Kind, scheduler: Any, steps: int = STEPS, bar: Any = None) -> tuple[Seen, Any]:
    """A call with the generator of seed 0."""
    own = getattr(THEIRS, kind.scheduler[0])(**kind.scheduler[1])
    pipeline = getattr(THEIRS, kind.name)(scheduler=own, **parts(KINDS.index(kind)))
    pipeline.scheduler = scheduler
    pipeline.set_progress_bar_config(disable=True)
    if bar is not None:
        pipeline.progress_bar = bar
    seen = Seen(scheduler)
    generator = torch.Generator().manual_seed(0)
    return seen, pipeline(num_inference_steps=steps, generator=generator, **kind.call())


class Bar:
    """A progress bar."""

    def __init__(self) -> None:
        self.done = self.total = 0

    def __call__(self, iterable: Any = None, total: int | None = None) -> Any:
        if iterable is not None:
            self.total, self.done = len(iterable), len(iterable)
            return iterable
        self.total = total or 0
        return self

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def update(self, count: int = 1) -> None:
        self.done += count

    def set_postfix(self, *args: Any, **more: Any) -> None:
        pass


class Recorded:
    """The outputs of a run as a model."""

    def __init__(self, scheduler: Any, seen: Seen, grid: Tensor) -> None:
        self.schedule, self.prediction = scheduler._schedule, scheduler._prediction
        if scheduler._round_time is not None:
            self.round_time = scheduler._round_time
        self._seen, self._count, self._label = seen, 0, scheduler._labels

    def __call__(self, x: Tensor, t: Any) -> Tensor:
        label = float(self._label(torch.as_tensor(t, dtype=torch.float64)))
        assert label == pytest.approx(self._seen.times[self._count], rel=1e-5, abs=1e-4)
        self._count += 1
        return self._seen.outputs[self._count - 1][:, : x.shape[1]]


def ids(kind: Kind) -> str:
    return kind.name.removesuffix("Pipeline")


def begins_within_half_a_step(kind: Kind, seen: Seen, own: Any) -> bool:
    """Of where the pipeline begins with its own scheduler."""
    theirs, _ = called(kind, own)
    levels = own.timesteps.float()
    half = 0.5 * float((levels[:-1] - levels[1:]).max())
    return abs(seen.times[0] - theirs.times[0]) <= half


ON_TABLES = [kind for kind in KINDS if kind.strength and kind.scheduler[0] == "DDIMScheduler"]


@pytest.mark.parametrize("kind", ON_TABLES[:4], ids=ids)
def test_strength_where_no_solver_is_named(kind: Kind):
    own = getattr(THEIRS, kind.scheduler[0])(**kind.scheduler[1])
    scheduler = ExpIntScheduler.from_config(own.config)
    seen, _ = called(kind, scheduler)
    assert scheduler.config["grid"] == "like_leading" and torch.isfinite(seen.states[-1]).all()
    assert begins_within_half_a_step(kind, seen, own)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", KINDS, ids=ids)
def test_pipeline(kind: Kind, solver: str):
    if not hasattr(THEIRS, kind.name):
        pytest.skip("not in this diffusers")
    own = getattr(THEIRS, kind.scheduler[0])(**kind.scheduler[1])
    results: list[Seen] = []
    for seed in (0, 1):
        scheduler, bar = ExpIntScheduler.from_config(own.config, solver=solver), Bar()
        torch.manual_seed(seed)
        seen, _ = called(kind, scheduler, bar=bar)
        results.append(seen)
        assert torch.isfinite(seen.states[-1]).all()
        assert scheduler.step_index == len(scheduler.timesteps)
    assert torch.equal(results[0].states[-1], results[1].states[-1])
    if not (kind.strength or kind.name in BARS):
        assert bar.done == bar.total
    if kind.strength:
        assert begins_within_half_a_step(kind, seen, own)
    if kind.masked:
        return  # the pipeline changes the state between steps
    plan, first = scheduler._plan, len(scheduler.timesteps) - len(seen.times)
    starts = scheduler._order.starts
    if first not in starts:
        assert "denoising_start" in kind.call()  # begins inside a step
        return
    grid = plan.grid[starts.index(first) :]
    noise = (
        Gaussian(seeds_of_state(seen.first))
        if seen.generators is None
        else FromGenerators(seen.generators)
    )
    model = Recorded(scheduler, seen, grid)
    expected = expint.sample(model, seen.first, solver, grid=grid, noise=noise, progress=False)
    torch.testing.assert_close(seen.states[-1], expected, rtol=1e-4, atol=1e-4)
