"""The stochastic Allen–Cahn equation in cosine modes: every mode with its own rate, at steps where
Euler–Maruyama blows up.

    du = [ε u_xx + u − u³] dt + noise on 0 < x < 1, with no flux at the ends

In N orthonormal cosine modes this is dû_k = [−ε (πk)² û_k + F_k(û)] dt + g_k dω_k, where F is u −
u³, evaluated at N points. The linear part is diagonal and stiff; `SemiLinearSDE.from_coefficients`
takes it as a tensor of rates.

    python examples/allen_cahn.py --out out/allen-cahn.png
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import click
import torch
from ornstein_uhlenbeck import DrivingNoise, euler_maruyama, exponential
from torch import Tensor
from tqdm import tqdm

from expint.convergence import fitted_order

EPSILON, T = 1e-3, 10.0
FACTORS = (1, 2, 4, 8)  # refinements of the step


@dataclass(frozen=True)
class CosineModes:
    """N orthonormal cosines at the N midpoints of [0, 1]."""

    matrix: Tensor

    @staticmethod
    def of(n: int) -> CosineModes:
        k, i = torch.arange(n, dtype=torch.float64)[:, None], torch.arange(n, dtype=torch.float64)
        matrix = math.sqrt(2 / n) * torch.cos(math.pi * k * (i + 0.5) / n)
        matrix[0] /= math.sqrt(2)
        return CosineModes(matrix)

    def to_modes(self, u: Tensor) -> Tensor:
        return u @ self.matrix.T

    def to_points(self, modes: Tensor) -> Tensor:
        return modes @ self.matrix

    def reaction(self, modes: Tensor, t: Tensor) -> Tensor:
        """u − u³ in modes."""
        u = self.to_points(modes)
        return self.to_modes(u - u**3)


@dataclass(frozen=True)
class Result:
    """What one run of the example found.

    Attributes:
        u: the field by seeds-2 at the step, shape (steps + 1, points), first sample.
        largest: max |u| over time at that step, by scheme (all samples).
        errors: strong errors, root mean square over time, space and samples, by scheme, at the step
            divided by `FACTORS`.
        explicit_limit: the largest step at which explicit Euler is stable for the linear part.
    """

    u: Tensor
    largest: dict[str, Tensor]
    errors: dict[str, list[float]]
    explicit_limit: float


def run(modes: int, steps: int, samples: int, seed: int) -> Result:
    basis = CosineModes.of(modes)
    k = torch.arange(modes, dtype=torch.float64)
    rates = -EPSILON * (math.pi * k) ** 2
    strength = 0.06 * math.sqrt(modes) / (1 + (k / 16) ** 2)
    finest = 4 * FACTORS[-1] * steps
    noise = DrivingNoise.draw(rates, strength, T / finest, (finest, samples, modes), seed)
    x = (torch.arange(modes, dtype=torch.float64) + 0.5) / modes
    start = basis.to_modes(
        (0.4 * torch.cos(4 * math.pi * x) - 0.4 * torch.cos(7 * math.pi * x)).expand(samples, modes)
    )

    exact = exponential(basis.reaction, start, noise, "seeds-2", finest // 2)[
        :: finest // 2 // steps
    ]
    errors: dict[str, list[float]] = {"Euler–Maruyama": [], "seeds-1": [], "seeds-2": []}
    largest, u = {}, torch.empty(0)
    with tqdm(total=len(errors) * len(FACTORS), desc="runs") as bar:
        for scheme, found in errors.items():
            for factor in FACTORS:
                n = factor * steps
                own = scheme.startswith("seeds")
                states = (
                    exponential(basis.reaction, start, noise, scheme, n)
                    if own
                    else euler_maruyama(basis.reaction, start, noise.on(n))
                )
                found.append(float((states[::factor] - exact).square().mean().sqrt()))
                if factor == 1:
                    u = basis.to_points(states)
                    largest[scheme] = u.abs().amax((1, 2))
                bar.update()
    return Result(u[:, 0], largest, errors, float(-2 / rates[-1]))


def picture(result: Result, steps: int, out: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    styles = {
        "Euler–Maruyama": ("tab:red", "o"),
        "seeds-1": ("tab:orange", "s"),
        "seeds-2": ("tab:blue", "D"),
    }
    figure, (field, size, error) = plt.subplots(
        1, 3, figsize=(13, 4), width_ratios=(1.35, 1, 1), layout="constrained"
    )
    frame = {"origin": "lower", "aspect": "auto", "extent": (0, T, 0, 1)}
    image = field.imshow(result.u.T.numpy(), cmap="RdBu_r", vmin=-1.5, vmax=1.5, **frame)
    figure.colorbar(image, ax=field, label="u")
    field.set(xlabel="t", ylabel="x", title=f"seeds-2, {steps} steps")
    for scheme, marker in (("Euler–Maruyama", "o"), ("seeds-2", "")):
        values = result.largest[scheme]
        good = torch.isfinite(values) & (values < 1e30)
        times = torch.linspace(0, T, len(values))
        size.semilogy(
            times[good].numpy(),
            values[good].numpy(),
            color=styles[scheme][0],
            marker=marker,
            ms=4,
            lw=1.5,
            label=scheme,
        )
    size.set(
        xlabel="t",
        ylabel="max |u|",
        title=f"Both with {steps} steps, h = {T / steps:.3g}",
        xlim=(0, T),
        ylim=(1e-1, 1e12),
    )
    size.legend()
    counts = [factor * steps for factor in FACTORS]
    for scheme, (color, marker) in styles.items():
        pairs = [(n, e) for n, e in zip(counts, result.errors[scheme], strict=True) if e < 1e3]
        if pairs:
            fit = (
                f" (order {fitted_order(*zip(*pairs, strict=True)):.1f})"
                if len(pairs) == len(counts)
                else ""
            )
            error.loglog(
                *zip(*pairs, strict=True), color=color, marker=marker, ms=5, label=scheme + fit
            )
    stable = T / result.explicit_limit
    error.axvspan(
        counts[0] * 0.8, stable, color="tab:red", alpha=0.08, lw=0, label="Euler–Maruyama unstable"
    )
    error.set(
        xlabel="steps", ylabel="strong error (root mean square)", title="Error on the same paths"
    )
    error.set_xlim(counts[0] * 0.8, counts[-1] * 1.25)
    error.set_xticks(counts, [str(n) for n in counts])
    error.minorticks_off()
    error.set_ylim(bottom=0.3 * error.get_ylim()[0])
    error.grid(alpha=0.3)
    error.legend(loc="lower left")
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=120)
    plt.close(figure)


@click.command()
@click.option("--modes", default=96, show_default=True, help="Cosine modes, and points.")
@click.option(
    "--steps",
    default=150,
    show_default=True,
    help="Steps; errors are also measured with 2, 4 and 8 times as many.",
)
@click.option("--samples", default=8, show_default=True, help="Samples for the errors.")
@click.option("--seed", default=0, show_default=True)
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("out/allen-cahn.png"), show_default=True
)
def main(modes: int, steps: int, samples: int, seed: int, out: Path) -> None:
    """The stochastic Allen–Cahn equation by exponential schemes and by Euler–Maruyama."""
    result = run(modes, steps, samples, seed)
    click.echo(f"step {T / steps:g}; explicit Euler is stable below {result.explicit_limit:.3g}")
    click.echo(f"{'steps':>16}" + "".join(f"{factor * steps:>10}" for factor in FACTORS))
    for scheme, found in result.errors.items():
        click.echo(f"{scheme:>16}" + "".join(f"{error:>10.2g}" for error in found))
    picture(result, steps, out)
    click.echo(f"picture: {out}")


if __name__ == "__main__":
    main()
