"""Draw α, σ̄, λ and five grids of six noise schedules: the picture of docs/define-a-schedule.md.

python examples/draw_schedules.py docs/img/schedules.png
"""

from pathlib import Path

import click
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch

from expint import grids
from expint.schedules import (
    EDM,
    VP,
    Cosine,
    Discrete,
    Flow,
    Schedule,
    Symbolic,
    rescale_zero_terminal_snr,
    scaled_linear_betas,
)

GRIDS = ("uniform_time", "uniform_lambda", "karras", "cosine", "beta")
STEPS = 16


def six_schedules() -> dict[str, Schedule]:
    table = rescale_zero_terminal_snr(torch.cumprod(1 - scaled_linear_betas(), 0))
    return {
        "VP()": VP(),
        "Cosine(t_max=1)": Cosine(t_max=1.0),
        "EDM()": EDM(),
        "Flow()": Flow(),
        "Discrete, zero terminal SNR": Discrete(table),
        'from_beta("1 + 8*sin(3*t)**2")': Symbolic.from_beta(
            "1 + 8*sin(3*t)**2", sampling_range=(1.0, 1e-3)
        ),
    }


def draw(path: str) -> None:
    schedules = six_schedules()
    figure, axes = plt.subplots(
        3, len(schedules), figsize=(19, 8.5), layout="constrained", height_ratios=(1, 1, 1.1)
    )
    for index, (name, schedule) in enumerate(schedules.items()):
        noise, data = schedule.sampling_range
        levels = torch.linspace(
            max(schedule.lam(noise), -7.0), schedule.lam(data), 600, dtype=torch.float64
        )
        t = torch.cat([torch.tensor([noise], dtype=torch.float64), schedule.t_of_lam(levels)])
        kernel, half_log_snr, points = axes[:, index]
        kernel.set_title(name, fontsize=10)
        kernel.plot(t, schedule.alpha(t), label="α")
        kernel.plot(t, schedule.std(t), label="σ̄")
        if schedule.std(noise) > 1.1:
            kernel.set_yscale("log")
        kernel.legend(frameon=False)
        half_log_snr.plot(t[1:], schedule.lam(t[1:]), color="tab:green", label="λ")
        half_log_snr.legend(frameon=False)
        for axis in (kernel, half_log_snr):
            axis.set_xlabel("t")
            if isinstance(schedule, EDM):
                axis.set_xscale("log")
        for row, grid in enumerate(GRIDS):
            lam = schedule.lam(grids.get(grid)(schedule, STEPS, final="none"))
            finite = lam[torch.isfinite(lam)]
            points.plot(finite, torch.full_like(finite, -row), "|", markersize=11, color=f"C{row}")
            if len(finite) < len(lam):
                points.plot(-8.2, -row, "<", markersize=5, color=f"C{row}")
        points.set_xlabel(
            "λ of the points  (◂ starts at −∞)"
            if schedule.lam(noise) == -float("inf")
            else "λ of the points"
        )
        points.set_yticks(
            [-row for row in range(len(GRIDS))], GRIDS if index == 0 else [""] * len(GRIDS)
        )
        points.set_ylim(-len(GRIDS) + 0.4, 0.6)
        points.set_xlim(-8.6, 7.2)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)


@click.command()
@click.argument("path", default="docs/img/schedules.png", type=click.Path(dir_okay=False))
def main(path: str) -> None:
    """Draw the schedules into PATH."""
    draw(path)
    click.echo(f"wrote {path}")


if __name__ == "__main__":
    main()
