"""Time of one sweep of standard normals: those of a path that can be asked again, over fresh ones
of the same shape and seeds.

The sweep is one run's: 50 steps of equal length in λ from σ = 80 to 0.002 in the data form, τ =
σ^(−2), with the normal of one increment per step, or that of an increment and that of its
space-time integral U. Everything is measured in one run, interleaved, on one thread; medians and
their ratio to the fresh Gaussians (without U) are printed. The first column counts the Gaussians
drawn per step and number of the state. Sweeps in random order ask for the same steps, shuffled; a
second sweep asks a path that has been asked in order. Without a resolution a `BrownianPath` takes
what the run needs.

torchsde's BrownianInterval splits where it is asked, so that its path depends on the order of the
queries; its BrownianTree does not, up to a tolerance.

    python benchmarks/noise.py [--repeats 15] [--torchsde-repeats 3] [--steps 50] [--resolution 64]
    [--shape 16x4x64x64]
"""

import random
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from unittest import mock

import click
import torch
import torchsde

from expint.noise import BrownianPath, FromTorchsde, Gaussian, RememberingPath, SubstepNoise
from expint.noise.counter import Streams

SIGMAS = (80.0, 0.002)


def clock(steps):
    """τ = σ^(−2) at steps + 1 points of equal distance in λ."""
    ends = torch.tensor(SIGMAS, dtype=torch.float64).log()
    return torch.exp(
        -2 * torch.linspace(ends[0].item(), ends[1].item(), steps + 1, dtype=torch.float64)
    )


def sweep(source, like, taus, space_time, *, shuffled=False):
    """Open a stream and take the normals of every step."""
    run = [SubstepNoise(1, space_time, pair) for pair in taus.unfold(0, 2, 1)]
    stream = source.stream(like, run)
    for substep in random.Random(0).sample(run, len(run)) if shuffled else run:
        list(stream.normals(substep))


def torchsde_interval(like, taus, space_time):
    """A fresh torchsde.BrownianInterval on the same clock."""
    levy = "space-time" if space_time else "none"
    ends = taus[0].item(), taus[-1].item()
    return FromTorchsde(
        torchsde.BrownianInterval(
            *ends, size=tuple(like.shape), dtype=like.dtype, entropy=1, levy_area_approximation=levy
        )
    )


def torchsde_tree(like, taus):
    """A fresh torchsde.BrownianTree, torchsde's own independence of the order of queries."""
    tree = torchsde.BrownianTree(taus[0].item(), torch.zeros_like(like), taus[-1].item(), entropy=1)
    return FromTorchsde(tree)


def timed(function: Callable[[], None]) -> float:
    """Seconds of processor time that one call takes: other programs on the machine do not count."""
    start = time.process_time()
    function()
    return time.process_time() - start


def gaussians(function: Callable[[], None], like: torch.Tensor, steps: int) -> float:
    """Gaussians drawn per step and number of the state."""
    drawn = 0
    normals = Streams.normals

    def count(streams, out):
        nonlocal drawn
        drawn += out.numel()
        normals(streams, out)

    with mock.patch.object(Streams, "normals", count):
        function()
    return drawn / like.numel() / steps


@click.command()
@click.option("--repeats", default=15, help="Interleaved repetitions.")
@click.option("--torchsde-repeats", default=3, help="The same for torchsde; 0 leaves it out.")
@click.option("--steps", default=50, help="Steps of the sweep.")
@click.option("--resolution", default=64, help="Of the paths with a stated resolution.")
@click.option("--shape", default="16x4x64x64", help="Batch and event.")
def main(repeats, torchsde_repeats, steps, resolution, shape):
    """Print medians and ratios."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    like, taus = torch.empty([int(n) for n in shape.split("x")]), clock(steps)
    seeds = range(like.shape[0])
    cases: dict[str, tuple[int, Callable[[], None]]] = {
        "Gaussian": (repeats, lambda: sweep(Gaussian(seeds), like, taus, False)),
        "Gaussian, with U": (repeats, lambda: sweep(Gaussian(seeds), like, taus, True)),
        "torchsde BrownianInterval": (
            torchsde_repeats,
            lambda: sweep(torchsde_interval(like, taus, False), like, taus, False),
        ),
        "torchsde BrownianInterval, with U": (
            torchsde_repeats,
            lambda: sweep(torchsde_interval(like, taus, True), like, taus, True),
        ),
        "torchsde BrownianTree": (
            torchsde_repeats,
            lambda: sweep(torchsde_tree(like, taus), like, taus, False),
        ),
    }

    def ask(make, space_time, shuffled):
        sweep(make(), like, taus, space_time, shuffled=shuffled)

    asked = RememberingPath(seeds)
    sweep(asked, like, taus, False)
    kinds = {
        "BrownianPath, no integrals": lambda: BrownianPath(seeds, integral=False),
        "BrownianPath": lambda: BrownianPath(seeds, integral=True),
        f"BrownianPath, {resolution}, no integrals": lambda: BrownianPath(
            seeds, resolution, integral=False
        ),
        f"BrownianPath, {resolution}": lambda: BrownianPath(seeds, resolution),
        "RememberingPath": lambda: RememberingPath(seeds),
        "RememberingPath, second sweep": lambda: asked,
    }
    for name, make in kinds.items():
        for space_time in (False, True):
            if space_time and name.endswith(("no integrals", "second sweep")):
                continue
            for shuffled in (False, True):
                label = name + ", with U" * space_time + ", random" * shuffled
                cases[label] = (repeats, partial(ask, make, space_time, shuffled))
    times: dict[str, list[float]] = {name: [] for name, (wanted, _) in cases.items() if wanted}
    for name in times:
        if not name.startswith("torchsde"):
            cases[name][1]()  # warm up
    for i in range(max(repeats, torchsde_repeats)):
        for name in times:
            if i < cases[name][0]:
                times[name].append(timed(cases[name][1]))
    base = statistics.median(times["Gaussian"])
    print(
        f"{steps} steps, shape {shape}, float32, resolution {resolution}, one thread, torch "
        f"{torch.__version__}"
    )
    print(f"{'':40} Gaussians/step  ms/step  ratio")
    for name, values in times.items():
        median = statistics.median(values)
        drawn = (
            f"{gaussians(cases[name][1], like, steps):14.2f}"
            if not name.startswith("torchsde")
            else " " * 14
        )
        print(f"{name:40} {drawn} {median / steps * 1e3:8.3f} {median / base:6.2f}")


if __name__ == "__main__":
    main()
