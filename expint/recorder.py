"""Record a run: trajectories of single pixels, and previews of the denoised estimate."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from expint.results import new_figure, save_figure
from expint.schedules import Schedule


class Recorder:
    """A callback that keeps states and denoised estimates after every step, on the CPU in float32.

    Args:
        schedule: the model's, for the axis of λ; without it the axis is the step.
        every: keep every so many steps (and always the last).

    Attributes:
        steps, nfe, times: of the states that were kept.
        states, denoised: tensors of shape (batch, *event).

    Raises:
        ValueError: for `every` that is not positive.

    Example:
        >>> import expint
        >>> target = expint.targets.Gaussian([1.0, -2.0], [0.25, 1.0], expint.schedules.EDM())
        >>> recorder = expint.Recorder(target.schedule)
        >>> x = expint.sample(target, (3, 2), "seeds-2", steps=6, callback=recorder, progress=False)
        >>> len(recorder.states), recorder.nfe[-1], recorder.trajectories().shape
        (6, 11, torch.Size([6, 3, 2]))
    """

    def __init__(self, schedule: Schedule | None = None, every: int = 1) -> None:
        if every < 1:
            raise ValueError(f"every is a number of steps, at least 1, got {every!r}.")
        self.schedule, self.every = schedule, every
        self.steps: list[int] = []
        self.nfe: list[int] = []
        self.times: list[float] = []
        self.states: list[Tensor] = []
        self.denoised: list[Tensor] = []

    def __call__(self, step: int, nfe: int, t: float, x: Tensor, denoised: Tensor) -> None:
        """The callback of `expint.sample`."""
        kept: Any = (self.steps, self.nfe, self.times, self.states, self.denoised)
        # The last one so far goes if it was kept only in case it was the end.
        count = len(self.steps) - bool(self.steps and self.steps[-1] % self.every)
        tensors = (values.detach().float().cpu() for values in (x, denoised))
        for values, value in zip(kept, (step, nfe, t, *tensors), strict=True):
            values[count:] = [value]

    def trajectories(self) -> Tensor:
        """The states in order, shape (kept, batch, *event), float32.

        Raises:
            ValueError: if nothing was recorded.
        """
        if not self.states:
            raise ValueError(
                "Nothing was recorded: give the recorder as callback to expint.sample."
            )
        return torch.stack(self.states)

    def plot_pixels(
        self, path: str | Path | IO[bytes], pixels: Sequence[int] | None = None, sample: int = 0
    ) -> None:
        """Draw how single components of the state, and of its denoised estimate, move along the run
        (SEEDS, figure 2).

        Args:
            path: where to write the picture.
            pixels: indices into the flattened event; default: 12 spread over it.
            sample: which sample of the batch.

        Raises:
            ValueError: if nothing was recorded, or for a pixel or sample that does not exist.
            ImportError: if matplotlib is not installed.
        """
        panels = {"state x": self.trajectories(), "denoised estimate": torch.stack(self.denoised)}
        batch, size = self.states[0].flatten(1).shape
        spread = [round(i * (size - 1) / 11) for i in range(12)]
        chosen = list(dict.fromkeys(spread if pixels is None else pixels))
        if not chosen or not all(0 <= i < size for i in chosen) or not 0 <= sample < batch:
            raise ValueError(
                f"There are pixels 0 to {size - 1} and samples 0 to {batch - 1}, got {chosen} and "
                f"{sample!r}."
            )
        at, label = self._axis()
        figure = new_figure(9, 3.6)
        axes = figure.subplots(1, 2, sharex=True)
        style = {"marker": ".", "markersize": 3, "linewidth": 1.0}
        for panel, (title, values) in zip(axes, panels.items(), strict=True):
            for k, i in enumerate(chosen):
                panel.plot(at, values.flatten(2)[:, sample, i].numpy(), color=f"C{k % 10}", **style)
            panel.set_title(title)
            panel.set_xlabel(label)
        axes[0].set_yscale("symlog")  # the state starts at the scale of the noise
        axes[0].set_ylabel("value of the pixel")
        save_figure(figure, path)

    def _axis(self) -> tuple[list[float], str]:
        if self.schedule is None:
            return [float(step) for step in self.steps], "step"
        lam = [float(self.schedule.lam(t)) for t in self.times]
        finite = [value for value in lam if math.isfinite(value)]
        spacing = (finite[-1] - finite[0]) / max(1, len(finite) - 1) if finite else 1.0
        last = (finite[-1] if finite else 0.0) + spacing  # where the end at σ = 0 is drawn
        at = [value if math.isfinite(value) else last for value in lam]
        return at, "λ = −log σ (the end at σ = 0 one step further)"

    def plot_previews(
        self, path: str | Path | IO[bytes], samples: int = 4, columns: int = 10
    ) -> None:
        """Draw the denoised estimates of the first samples, from the first step to the last.

        Args:
            path: where to write the picture.
            samples: how many samples, one row each.
            columns: at most how many steps, spread over the run.

        Raises:
            ValueError: if nothing was recorded, or the event is not an image of shape (1 or 3,
                height, width).
            ImportError: if matplotlib is not installed.
        """
        self.trajectories()
        images = torch.stack(self.denoised)
        if images.ndim != 5 or images.shape[2] not in (1, 3):
            raise ValueError(
                "Previews are of images (1 or 3, height, width), got events of shape "
                f"{tuple(images.shape[2:])}."
            )
        last = len(images) - 1
        shown = sorted({round(i * last / max(1, columns - 1)) for i in range(columns)})
        rows = min(samples, images.shape[1])
        pixels = ((images.clamp(-1, 1) + 1) / 2).movedim(2, -1).numpy()
        figure = new_figure(1.1 * len(shown), 1.15 * rows + 0.3)
        grid = figure.subplots(rows, len(shown), squeeze=False)
        for column, k in enumerate(shown):
            grid[0][column].set_title(f"step {self.steps[k]}", fontsize=8)
            for row in range(rows):
                grid[row][column].imshow(pixels[k, row], cmap="gray", vmin=0, vmax=1)
                grid[row][column].set_axis_off()
        save_figure(figure, path)
