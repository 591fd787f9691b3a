"""The default of this library beside schedulers of diffusers with their own defaults, on the same
networks: distance against evaluations, from the figures in benchmarks/defaults.json.

    python benchmarks/against_diffusers.py [--out docs/img/against-diffusers.png]

`python benchmarks/defaults.py digits-vp-table digits-iddpm-table` measures them: Fréchet distances
of 3 × 1000 samples together from 3000 of the network's own with 100 evaluations. The floors are
those of other samples with 100 evaluations, as many, and the largest of one run of 1000.
"""

from pathlib import Path
from typing import Any

import click
import defaults

from expint.results import new_figure, save_figure

OUT = defaults.PAGE.parent / "img" / "against-diffusers.png"
LINES = {
    (defaults.DEFAULT, defaults.DEFAULT): ("expint, default", "C0", "o-", 2.4),
    (defaults.PEER, "UniPC"): ("diffusers, UniPC", "C1", "s--", 1.2),
    (defaults.PEER, "sde-dpmsolver++"): ("diffusers, SDE-DPM-Solver++", "C2", "^--", 1.2),
    (defaults.PEER, "SASolver"): ("diffusers, SA-Solver", "C3", "v--", 1.2),
}


def panel(axis: Any, name: str, found: dict[str, Any]) -> None:
    """One network."""
    for entry, (label, color, style, width) in LINES.items():
        means = [found["figures"][defaults.key(*entry, n)][0] for n in defaults.NFES]
        axis.plot(defaults.NFES, means, style, color=color, lw=width, ms=5, label=label)
    together, *single = found["floor"]
    axis.axhspan(
        together, max(single), color="0.92", zorder=0, label="floor, up to 1 × 1000 samples"
    )
    axis.axhline(together, color="0.5", lw=1, ls=":", label="floor, 3 × 1000 samples")
    axis.set(xscale="log", yscale="log", title=name, xlabel="network evaluations")
    axis.set_xticks(defaults.NFES, [str(n) for n in defaults.NFES])
    axis.minorticks_off()


@click.command(help=__doc__)
@click.option("--out", type=click.Path(path_type=Path), default=OUT)
def main(out: Path) -> None:
    """Draw it."""
    content = defaults.load_file()
    figure = new_figure(9.6, 3.9)
    axes = figure.subplots(1, 2, sharey=True)
    for axis, name in zip(axes, ("digits-vp-table", "digits-iddpm-table"), strict=True):
        panel(axis, name, content[name])
    axes[0].set_ylabel("Fréchet distance from the network's law")
    axes[0].legend(fontsize=8, frameon=False, loc="upper right")
    save_figure(figure, out)


if __name__ == "__main__":
    main()
