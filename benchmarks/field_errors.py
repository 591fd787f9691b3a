"""Errors of fields in space, by the number of modes, and of the energy of Allen–Cahn, by the step.

In space: the root mean square over the box, and over the noise, of what the modes beyond the first
N change. For the heat equation it is that of the exact covariance, in closed form, less the
variances of the plan. For Allen–Cahn it is the distance from 4096 modes with the same noise: the
first modes of a box are those of a smaller one, and so are its normals. The noise has the spectrum
|k|^-2r; theory gives the order r + 1/2 for both.

Energy: E ∫ ν u_x²/2 + (u² − 1)²/4 dx at the end less that of the reference on the same paths, with
its standard error.

    python benchmarks/field_errors.py [--paths 2048] [--plot docs/img/fields-space.png]
"""

import math
from pathlib import Path

import click
import torch
from torch import Tensor

from expint import compile_plan, execute, noise
from expint.convergence import SemiLinearProblem, fitted_order
from expint.convergence.common_path import run_on_common_paths
from expint.fields import Box
from expint.solvers import get

MODES, FINE, VISCOSITY, SPAN = (32, 64, 128, 256), 4096, 1e-3, (0.0, 2.0)
SPECTRA = ("white", "|k|^-2", "|k|^-4")
Errors = dict[str, list[float]]


def heat() -> Errors:
    """At rest, with zero walls: the mean variance is 1/(12ν) for white noise, 1/(180ν) for |k|^-2,
    1/(1890ν) for |k|^-4."""
    found: Errors = {}
    for power, whole in enumerate((1 / 12, 1 / 180, 1 / 1890)):
        found[f"Heat equation, {SPECTRA[power]}"] = own = []
        for modes in MODES:
            box, late = Box(modes, boundary="dirichlet"), (0.0, 100.0)
            sde = box.sde(1.0, lambda k, power=power: k ** (-2.0 * power), span=late)
            row = compile_plan(sde, "seeds-1", late).rows[0]
            own.append(math.sqrt(whole - torch.as_tensor(row.noise[0]).square().sum().item()))
    return found


def allen_cahn(modes: int, decay: float):
    """The equation, F and the start in cosine modes; spectrum 0.1/(1 + (k/4π)²)^decay."""
    box = Box(modes, boundary="neumann")
    spectrum = 0.1 / (1 - box.laplacian / (4 * math.pi) ** 2) ** decay
    start = torch.zeros(modes, dtype=torch.float64)
    start[3] = 0.5 * math.sqrt(0.5)  # cos(3πx)/2
    sde = box.sde(VISCOSITY, spectrum, span=SPAN)
    return sde, box.nonlinearity(lambda u, t: u - u**3, degree=3), start


def in_space(paths: int = 16, steps: int = 64) -> Errors:
    """Root mean square distances from the finest field at the end."""
    found: Errors = {}
    grid = torch.linspace(*SPAN, steps + 1, dtype=torch.float64)
    for power in range(3):
        sde, F, start = allen_cahn(FINE, power)
        plan, x = compile_plan(sde, "seeds-sra", grid), start.expand(paths, -1)
        stream = noise.Gaussian(range(paths)).stream(x, plan.run)
        normals = torch.stack([z for substep in plan.run for z in stream.normals(substep)])
        exact = execute(plan, F, x, noise.Replay(normals))
        found[f"Allen–Cahn, {SPECTRA[power]}"] = own = []
        for modes in MODES:
            sde, F, start = allen_cahn(modes, power)
            source = noise.Replay(normals[..., :modes])
            end = execute(compile_plan(sde, "seeds-sra", grid), F, start.expand(paths, -1), source)
            off = exact - torch.nn.functional.pad(end, (0, FINE - modes))
            own.append(math.sqrt(off.square().sum(-1).mean().item()))
    return found


def energies(paths: int) -> None:
    """Print them; 64 modes, spectrum |k|^-4."""
    sde, F, start = allen_cahn(64, 2.0)
    box, steps = Box(64, boundary="neumann"), (8, 16, 32, 64)

    def energy(x: Tensor) -> Tensor:
        wells = (box.to_points(x, (128,)) ** 2 - 1).square().mean(-1) / 4
        return wells - 0.5 * VISCOSITY * (box.laplacian * x**2).sum(-1)

    names = ["seeds-1", "seeds-2", "seeds-sra"]
    found = run_on_common_paths(
        [get(name) for name in names], SemiLinearProblem(sde, F, start), steps,
        paths=paths, refine=4, batch=128,
    )  # fmt: skip
    whole = energy(found.exact[0])
    error = whole.std() / math.sqrt(paths)
    print(f"\nenergy {whole.mean():.5f} ± {error:.5f}; error in the mean by the number of steps")
    for name, ends in zip(names, found.ends, strict=True):
        off = energy(ends) - whole
        cells = zip(off.mean(-1).tolist(), (off.std(-1) / math.sqrt(paths)).tolist(), strict=True)
        print(f"{name:>10}  " + "  ".join(f"{mean:+.1e} ± {error:.0e}" for mean, error in cells))


def picture(found: Errors, out: Path) -> None:
    """Errors against modes, with lines of the theory's orders."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(9, 3.8), sharey=True, layout="constrained")
    for i, (name, errors) in enumerate(found.items()):
        title, spectrum = name.split(", ")
        label = f"{spectrum}: {fitted_order(MODES, errors):.2f}"
        panels[i // 3].loglog(MODES, errors, "os^"[i % 3] + "-", color=f"C{i % 3}", label=label)
        theory = [errors[0] * (n / MODES[0]) ** -(i % 3 + 0.5) for n in MODES]
        panels[i // 3].loglog(MODES, theory, "k:", lw=0.8)
        panels[i // 3].set(title=title, xlabel="modes")
    for axes in panels:
        axes.set_xticks(MODES, map(str, MODES))
        axes.minorticks_off()
        axes.legend(title="spectrum: order")
    panels[0].set_ylabel("root mean square error")
    panels[0].set_ylim(bottom=1e-11)  # room for the legends
    figure.savefig(out, dpi=100)
    plt.close(figure)


@click.command(help=__doc__)
@click.option("--paths", default=2048, help="For the energy.")
@click.option("--plot", type=click.Path(path_type=Path))
def main(paths: int, plot: Path | None) -> None:
    """Run it."""
    torch.set_num_threads(1)
    found = heat() | in_space()
    print(f"{'modes':>22} " + "".join(f"{n:>10}" for n in MODES) + "     order")
    for name, errors in found.items():
        order = fitted_order(MODES, errors)
        print(f"{name:>22} " + "".join(f"{e:>10.2e}" for e in errors) + f"{order:>10.2f}")
    if plot is not None:
        picture(found, plot)
    energies(paths)


if __name__ == "__main__":
    main()
