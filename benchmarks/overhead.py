"""Time of a SEEDS-3 step without the network, over its floor.

Floor: one `torch.randn` of the state per Gaussian that the step uses, plus one fused multiply-add
per source tensor of each row. Both are measured in one run, interleaved, on one thread; the ratio
of the medians is printed.

    python benchmarks/overhead.py [--repeats 30] [--steps 5]
"""

import statistics
import time

import click
import torch

import expint

SHAPES = ((64, 3, 32, 32), (16, 4, 64, 64), (256, 3, 64, 64))


class Free:
    """A model that costs nothing: it returns its input, taken as the prediction of the data."""

    schedule = expint.schedules.EDM()
    prediction = "data"

    def __call__(self, x, t):
        return x


def floor(plan, x):
    """What a step cannot do without: the Gaussians, and a multiply-add for every source tensor of
    every row.
    """
    normals, substep = [], -1
    for row in plan.rows:
        if row.substep != substep:
            substep = row.substep
            noise = plan.noises[substep]
            normals = [torch.randn(x.shape) for _ in range(noise.normals if noise else 0)]
        state = torch.mul(x, 0.5)
        for _ in row.weights:
            state.add_(x, alpha=0.5)
        for z in normals[: len(row.noise)]:
            state.add_(z, alpha=0.5)
    return state


def timed(function):
    """Seconds that one call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


@click.command()
@click.option("--repeats", default=30, help="Interleaved repetitions.")
@click.option("--steps", default=20, help="Steps per repetition.")
def main(repeats, steps):
    """Print the ratio for each shape."""
    torch.set_num_threads(1)
    model = Free()
    plan = expint.plan_sampling(model.schedule, "seeds-3", steps=steps, final="none")
    print(
        f"SEEDS-3, float32, one thread, one seed per sample; medians of {repeats} interleaved runs "
        f"of {steps} steps"
    )
    for shape in SHAPES:
        x = expint.noise.initial_state(range(shape[0]), shape[1:], torch.float32)
        noise = expint.noise.Gaussian(range(shape[0]))
        ours, least = [], []
        with torch.inference_mode():
            expint.execute(plan, model, x, noise)
            floor(plan, x)
            for _ in range(repeats):
                ours.append(timed(lambda: expint.execute(plan, model, x, noise)))  # noqa: B023
                least.append(timed(lambda: floor(plan, x)))  # noqa: B023
        a, b = statistics.median(ours) / steps * 1e3, statistics.median(least) / steps * 1e3
        print(f"{shape!s:>20}: {a:8.3f} ms per step, floor {b:8.3f} ms, ratio {a / b:.3f}")


if __name__ == "__main__":
    main()
