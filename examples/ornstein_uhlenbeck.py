"""A particle on a spring: strong errors of exponential schemes and of Euler–Maruyama, on the same
Brownian paths.

    dx = [−12 x + 6 cos(x + t)] dt + dω

The linear part is an Ornstein–Uhlenbeck process, which the exponential schemes solve exactly, noise
included; 6 cos(x + t) is F.

    python examples/ornstein_uhlenbeck.py --out out/ornstein-uhlenbeck.png
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import torch
from torch import Tensor
from tqdm import tqdm

from expint import SemiLinearSDE, integrate
from expint.convergence import fitted_order
from expint.noise import Replay

RATE, STRENGTH, T = -12.0, 1.0, 4.0
SHOWN = 32  # steps of the paths in the picture
STEPS = (16, 32, 64, 128, 256, 512)


def force(x: Tensor, t: Tensor) -> Tensor:
    return 6.0 * torch.cos(x + t)


@dataclass(frozen=True)
class DrivingNoise:
    """One Brownian motion ω on equal intervals of length h, with what two kinds of schemes take
    from it:

        dw = ω(t+h) − ω(t),    convolution = ∫_t^{t+h} e^{A(t+h−u)} g dω(u)

    Args:
        rate, strength: A and g, of a shape that broadcasts against the event; A ≤ 0.
        h: length of the intervals.
        dw, convolution: shape (intervals, batch, *event).
    """

    rate: Tensor
    strength: Tensor
    h: float
    dw: Tensor
    convolution: Tensor

    @staticmethod
    def draw(
        rate: Tensor, strength: Tensor, h: float, shape: tuple[int, ...], seed: int
    ) -> DrivingNoise:
        """Both from their joint law: Var dw = h, Var convolution = g² (e^{2Ah} − 1)/(2A),
        covariance g (e^{Ah} − 1)/A.
        """
        z = torch.randn(
            2, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
        )
        std = convolution_std(rate, strength, h)
        shared = strength * convolution_std(0.5 * rate, torch.ones_like(rate), h) ** 2 / std
        dw = shared * z[0] + torch.sqrt((h - shared**2).clamp(min=0.0)) * z[1]
        return DrivingNoise(rate, strength, h, dw, std * z[0])

    def on(self, intervals: int) -> DrivingNoise:
        """The same path on fewer intervals: sums, decayed to the end of the longer interval."""
        n = len(self.dw) // intervals
        decay = torch.stack([torch.exp(self.rate * self.h * (n - 1 - i)) for i in range(n)])
        decay = decay.reshape(n, *[1] * (self.dw.ndim - decay.ndim), *decay.shape[1:])
        parts = self.convolution.reshape(intervals, n, *self.dw.shape[1:])
        dw = self.dw.reshape(intervals, n, *self.dw.shape[1:]).sum(1)
        return DrivingNoise(self.rate, self.strength, n * self.h, dw, (parts * decay).sum(1))

    def normals(self) -> Replay:
        """The standard normals with which an exponential scheme takes this path, if its nodes are
        these intervals.
        """
        return Replay(self.convolution / convolution_std(self.rate, self.strength, self.h))


def convolution_std(rate: Tensor, strength: Tensor, h: float) -> Tensor:
    """g √((e^{2Ah} − 1)/(2A)), and g √h where A = 0."""
    safe = torch.where(rate == 0, -1.0, rate)
    return strength * torch.sqrt(torch.where(rate == 0, h, torch.expm1(2 * safe * h) / (2 * safe)))


def euler_maruyama(F: Callable[[Tensor, Tensor], Tensor], x: Tensor, noise: DrivingNoise) -> Tensor:
    """All states of x ← x + h (A x + F) + g dω, shape (steps + 1, *x.shape)."""
    states = [x]
    for k, dw in enumerate(noise.dw):
        x = states[-1]
        t = torch.tensor(k * noise.h, dtype=torch.float64)
        states.append(x + noise.h * (noise.rate * x + F(x, t)) + noise.strength * dw)
    return torch.stack(states)


def exponential(
    F: Callable[[Tensor, Tensor], Tensor], x: Tensor, noise: DrivingNoise, solver: str, steps: int
) -> Tensor:
    """All states of `solver` on the same path; its nodes must be equally spaced."""
    sde = SemiLinearSDE.from_coefficients(
        noise.rate, g=noise.strength, span=(0.0, noise.h * len(noise.dw))
    )
    grid = torch.linspace(0.0, noise.h * len(noise.dw), steps + 1, dtype=torch.float64)
    nodes = {"seeds-1": 1, "seeds-2": 2}[solver]
    states = integrate(sde, F, x, grid, solver, noise.on(nodes * steps).normals(), save=True).states
    assert states is not None
    return states


def run(samples: int, finest: int, seed: int) -> tuple[dict[str, list[float]], dict[str, Tensor]]:
    """Root-mean-square errors at the end by scheme and number of steps; paths of the reference, and
    of schemes at SHOWN steps.
    """
    rate, strength = (torch.tensor(v, dtype=torch.float64) for v in (RATE, STRENGTH))
    noise = DrivingNoise.draw(rate, strength, T / finest, (finest, samples, 1), seed)
    x = torch.full((samples, 1), 1.5, dtype=torch.float64)
    exact = exponential(force, x, noise, "seeds-2", finest // 2)
    errors: dict[str, list[float]] = {"Euler–Maruyama": [], "seeds-1": [], "seeds-2": []}
    paths = {"reference": exact[:, :, 0]}
    with tqdm(total=len(errors) * len(STEPS), desc="runs") as bar:
        for scheme, found in errors.items():
            for steps in STEPS:
                own = scheme.startswith("seeds")
                states = (
                    exponential(force, x, noise, scheme, steps)
                    if own
                    else euler_maruyama(force, x, noise.on(steps))
                )
                found.append(float((states[-1] - exact[-1]).square().mean().sqrt()))
                if steps == SHOWN:
                    paths[scheme] = states[:, :, 0]
                bar.update()
    return errors, paths


def picture(errors: dict[str, list[float]], paths: dict[str, Tensor], out: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    styles = {
        "Euler–Maruyama": ("tab:red", "o"),
        "seeds-1": ("tab:orange", "s"),
        "seeds-2": ("tab:blue", "D"),
    }
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(11, 4), width_ratios=(1.5, 1), layout="constrained"
    )
    reference = paths["reference"][:, 0]
    left.plot(
        torch.linspace(0, T, len(reference)).numpy(),
        reference.numpy(),
        color="0.6",
        lw=0.7,
        label="reference",
    )
    for scheme in ("Euler–Maruyama", "seeds-2"):
        color, marker = styles[scheme]
        path = paths[scheme][:, 0]
        left.plot(
            torch.linspace(0, T, len(path)).numpy(),
            path.numpy(),
            color=color,
            marker=marker,
            ms=4,
            lw=1,
            label=f"{scheme}, {SHOWN} steps",
        )
    left.set(xlabel="t", ylabel="x", title="One path of the particle", xlim=(0, T), ylim=(-2, 3))
    left.legend(loc="upper right", framealpha=0.9)
    for scheme, (color, marker) in styles.items():
        order = fitted_order(STEPS[-3:], errors[scheme][-3:])
        right.loglog(
            STEPS,
            errors[scheme],
            color=color,
            marker=marker,
            ms=5,
            label=f"{scheme} (order {order:.1f})",
        )
    right.set(
        xlabel="steps",
        ylabel="strong error at the end",
        title="Root-mean-square error on the same paths",
    )
    right.set_xticks(STEPS, [str(n) for n in STEPS])
    right.minorticks_off()
    right.grid(alpha=0.3)
    right.legend()
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=120)
    plt.close(figure)


@click.command()
@click.option("--samples", default=400, show_default=True, help="Number of paths.")
@click.option(
    "--finest",
    default=8192,
    show_default=True,
    help="Intervals of the reference, a multiple of 1024.",
)
@click.option("--seed", default=0, show_default=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("out/ornstein-uhlenbeck.png"),
    show_default=True,
)
def main(samples: int, finest: int, seed: int, out: Path) -> None:
    """Strong errors of exponential schemes and of Euler–Maruyama for a particle on a spring."""
    if finest % (2 * STEPS[-1]):
        raise click.BadParameter(f"--finest must be a multiple of {2 * STEPS[-1]}, got {finest}.")
    errors, paths = run(samples, finest, seed)
    click.echo(f"{'steps':>16}" + "".join(f"{n:>10}" for n in STEPS))
    for scheme, found in errors.items():
        click.echo(f"{scheme:>16}" + "".join(f"{error:>10.2g}" for error in found))
    picture(errors, paths, out)
    click.echo(f"picture: {out}")


if __name__ == "__main__":
    main()
