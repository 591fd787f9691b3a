"""Where an exponential scheme pays: strong error against |A|h, with the linear part integrated
exactly and with all of the drift in F.

    du = [ν u_xx + u − u³] dt + noise on 0 < x < 1, no flux at the ends, in 8 cosine modes

64 steps; ν sets the rate A of the fastest mode. With A = 0 and the linear part in F, `seeds-sra` is
Rößler's SRA1 (torchsde's `srk` for additive noise) and `seeds-1` is Euler–Maruyama. Each scheme is
compared with a fine run on the same paths; the two formulations have paths of their own, of the
same law.

    python benchmarks/stiffness.py [--paths 256] [--out docs/img/stiffness.png]
"""

import math
from pathlib import Path

import click
import torch
from torch import Tensor
from tqdm import tqdm

from expint import SemiLinearSDE
from expint.convergence import SemiLinearProblem, strong_orders
from expint.results import new_figure, table_text

MODES, STEPS, T = 8, (64, 128, 256), 2.0
STIFFNESS = [2.0**k for k in range(-4, 8)]
NAMES = {
    ("seeds-sra", False): ("seeds-sra", "C0", "o-"),
    ("seeds-sra", True): ("SRA1, explicit", "C1", "o--"),
    ("seeds-1", False): ("seeds-1", "C0", "s-"),
    ("seeds-1", True): ("Euler–Maruyama", "C1", "s--"),
}


def field(stiffness: float, explicit: bool) -> SemiLinearProblem:
    """The equation with fastest rate −|A| = −stiffness/h at the first of STEPS."""
    k = torch.arange(MODES, dtype=torch.float64)
    basis = math.sqrt(2 / MODES) * torch.cos(math.pi * k[:, None] * (k + 0.5) / MODES)
    basis[0] /= math.sqrt(2)
    rates = -stiffness * STEPS[0] / T * (k / (MODES - 1)) ** 2
    moved = rates if explicit else torch.zeros_like(rates)
    strength = 0.3 * math.sqrt(MODES) / (1 + k**2 / 16)
    sde = SemiLinearSDE.from_coefficients(rates - moved, 1.0, strength, span=(0.0, T))

    def F(x: Tensor, t: Tensor) -> Tensor:
        u = x @ basis
        return (u - u**3) @ basis.T + moved * x

    return SemiLinearProblem(sde, F, basis @ (0.5 * torch.cos(3 * (k + 0.5) / MODES)))


def errors(stiffness: float, explicit: bool, paths: int) -> dict[str, float]:
    """RMS errors at the first of STEPS; infinite where the explicit run has blown up."""
    if explicit and stiffness > 8:
        return {"seeds-sra": math.inf, "seeds-1": math.inf}
    try:
        found = strong_orders(
            ["seeds-sra", "seeds-1"], field(stiffness, explicit), steps=STEPS, paths=paths
        )
    except (ValueError, FloatingPointError):
        return {"seeds-sra": math.inf, "seeds-1": math.inf}
    return {study.solver: study.errors[0] for study in found.studies}


@click.command(help=__doc__)
@click.option("--paths", default=256)
@click.option("--out", type=click.Path(path_type=Path), default=Path("docs/img/stiffness.png"))
def main(paths: int, out: Path) -> None:
    """Run it."""
    torch.set_num_threads(1)
    found: dict[tuple[str, bool], list[float]] = {key: [] for key in NAMES}
    for stiffness in tqdm(STIFFNESS):
        for explicit in (False, True):
            for solver, error in errors(stiffness, explicit, paths).items():
                found[solver, explicit].append(error)
    rows: list[tuple[str, ...]] = [("|A|h", *(NAMES[key][0] for key in found))]
    for i, stiffness in enumerate(STIFFNESS):
        rows.append((f"{stiffness:g}", *(f"{values[i]:.2g}" for values in found.values())))
    click.echo(table_text(rows, markdown=True))
    figure = new_figure(6.6, 4.4)
    axes = figure.subplots()
    for key, values in found.items():
        name, color, style = NAMES[key]
        good = [(a, e) for a, e in zip(STIFFNESS, values, strict=True) if e < 1.0]
        axes.loglog(*zip(*good, strict=True), style, color=color, markersize=4, label=name)
    axes.axvspan(2.0, STIFFNESS[-1], color="C1", alpha=0.1, linewidth=0)
    axes.text(2.2, 0.9 * axes.get_ylim()[1], "explicit schemes unstable", fontsize=9, va="top")
    axes.set(xlabel="|A|h of the fastest mode", ylabel=f"RMS error, {STEPS[0]} steps")
    axes.set_title("Stochastic Allen–Cahn equation, 8 modes", fontsize=11)
    axes.grid(visible=True, color="0.9")
    axes.legend(fontsize=9)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=120)


if __name__ == "__main__":
    main()
