"""Frames of structures: what is done to the state where a step begins, such as the random rotations
of samplers of molecules."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from expint.noise.source import check_batch, check_seeds, fill_normals, generators
from expint.numerics.float64 import are_numbers
from expint.plans import Plan

# Shares no numbers with the initial state and the path.
_FRAME_STREAM = 0x5851F42D

Frame = Callable[[int, Tensor], Tensor]
"""frame(step, x) → the state, of the shape of x, that step `step`, from 0 on, begins with."""


@dataclass(frozen=True, eq=False)
class RandomFrames:
    """Before each step the coordinates are centred, rotated and moved at random,

        x ← R (x − mean of x) + s τ,   R uniform on SO(3), τ three standard normals

    R and τ of sample i are a function of seed i and the step alone.

    Args:
        seeds: one integer per sample, for example `expint.noise.per_sample(n, batch)`.
        translation: s ≥ 0, in the unit of the coordinates: 1 Å as published, 0 for none.
        mask: true for the points whose mean is taken, shape (batch, *points) or one that broadcasts
            to it, such as (points,); default: all.

    Raises:
        TypeError, ValueError: for invalid seeds, another translation or an empty mask; where a step
            begins, for states that are not of shape (batch, *points, 3), or of another batch.

    Source: AlphaFold 3, Nature 630 (2024), supplementary algorithm 19. R from a normalised
    quaternion of normals: Shoemake, Graphics Gems III (1992).

    Example:
        >>> import expint, torch
        >>> frames = RandomFrames(seeds=range(2))
        >>> x = torch.tensor([[0.0, 0.0, 0.0], [3.0, 0.0, 4.0]]).repeat(2, 1, 1)
        >>> moved = frames(0, x)
        >>> (moved[:, 1] - moved[:, 0]).norm(dim=1)
        tensor([5., 5.])
    """

    seeds: Sequence[int]
    translation: float = 1.0
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "seeds", check_seeds(self.seeds))
        if not (are_numbers(self.translation) and 0.0 <= self.translation < float("inf")):
            raise ValueError(f"translation is finite and >= 0, got {self.translation!r}.")
        if self.mask is not None and not self.mask.to(torch.bool).any(-1).all():
            raise ValueError("The mask leaves no point of a sample, whose mean would be taken.")

    def __call__(self, step: int, x: Tensor) -> Tensor:
        """The state x in the frames of a step."""
        check_batch(self.seeds, x)
        if x.ndim < 3 or x.shape[-1] != 3:
            raise ValueError(
                "Frames are for coordinates, states of shape (batch, *points, 3), got "
                f"{tuple(x.shape)}."
            )
        rotation, shift = self.of_step(step)
        within = torch.ones(x.shape[:-1]) if self.mask is None else self.mask.expand(x.shape[:-1])
        weights, points = within.to(x).flatten(1)[..., None], x.flatten(1, -2)
        centre = (points * weights).sum(1, keepdim=True) / weights.sum(1, keepdim=True)
        moved = (points - centre) @ rotation.mT.to(x) + shift[:, None].to(x)
        return moved.reshape(x.shape)

    def of_step(self, step: int) -> tuple[Tensor, Tensor]:
        """R, shape (batch, 3, 3), and s τ, shape (batch, 3), float64."""
        streams = generators(self.seeds, _FRAME_STREAM, torch.device("cpu"))
        streams.at, normals = step, torch.empty(len(self.seeds), 1, 7, dtype=torch.float64)
        fill_normals(streams, normals)
        q = torch.nn.functional.normalize(normals[:, 0, :4], dim=1)
        # v ↦ q v q*, q = (w, u):   R = 1 + 2 w [u] + 2 [u]²,   [u] v = u × v
        one = torch.eye(3, dtype=torch.float64)
        cross = torch.linalg.cross(q[:, None, 1:], one.expand(len(q), 3, 3)).mT
        rotation = one + 2.0 * q[:, :1, None] * cross + 2.0 * cross @ cross
        return rotation, self.translation * normals[:, 0, 4:]


def in_frames(plan: Plan, frame: Frame, x: Tensor) -> tuple[Tensor, Callable[[int, Tensor], Any]]:
    """The state that the first step begins with, and what a run calls after its rows for the
    others.

    Raises:
        TypeError: if the frame is not callable.
        ValueError: for a plan that takes evaluations of earlier steps, which are in other frames;
            in the run for a state of another shape.
    """
    if not callable(frame):
        raise TypeError(f"frame is called as frame(step, x), got {frame!r}.")
    uses = ((row.step, plan.rows[max(j, ~j)].step) for row in plan.rows for j, _ in row.weights)
    if any(made < used for used, made in uses):
        raise ValueError(
            f"{plan.solver!r} takes evaluations of earlier steps, which are in another frame: take "
            "a solver without a history, for example 'seeds-2'."
        )

    def moved(step: int, state: Tensor) -> Tensor:
        found = frame(step, state)
        if getattr(found, "shape", None) != state.shape:
            got = tuple(found.shape) if isinstance(found, Tensor) else found
            raise ValueError(
                f"frame gives a state of shape {tuple(state.shape)}; for step {step} it gave "
                f"{got!r}."
            )
        return found

    def see(i: int, state: Tensor) -> Tensor | None:
        ends = plan.ends_step[i] and i + 1 < len(plan.rows)
        return moved(plan.rows[i + 1].step, state) if ends else None

    return moved(0, x), see
