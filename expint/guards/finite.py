"""Whether a state is finite: at the start, and after every step without a host synchronisation that
waits for it."""

from itertools import chain
from typing import Any

import torch
from torch import Tensor

from expint.plans import Plan


class FiniteCheck:
    """Sees the state at the end of every step. On a GPU the answer is read one step later, when it
    has long arrived; elsewhere at once."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._waiting: tuple[int, Tensor, torch.cuda.Event] | None = None

    def see(self, step: int, state: Tensor) -> None:
        """Look at the state after a step.

        Raises:
            FloatingPointError: if it, or on a GPU the one before, is not finite, with step, time
                and samples.
        """
        # A sum is finite if and only if its entries are (they stay far below 1e38).
        if state.device.type == "cpu" and (total := state.detach().sum().item()) - total == 0.0:
            return
        finite = torch.isfinite(state.detach().reshape(len(state), -1).sum(1))
        self.wait()
        if state.device.type != "cuda":
            return self._judge(step, finite)
        told = torch.empty(finite.shape, dtype=torch.bool, pin_memory=True)
        told.copy_(finite, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        self._waiting = step, told, event

    def wait(self) -> None:
        """Judge the state that was seen last.

        Raises:
            FloatingPointError: as `see`.
        """
        if self._waiting is not None:
            step, told, event = self._waiting
            self._waiting = None
            event.synchronize()
            self._judge(step, told)

    def _judge(self, step: int, finite: Tensor) -> None:
        if not finite.all():
            at = torch.as_tensor(next(row.time for row in self._plan.rows if row.step == step))
            raise FloatingPointError(
                f"The state became NaN or infinite in step {step + 1} of {self._plan.steps}, which "
                f"starts at {self._plan.sde.place(at.item())}, in {bad_samples(finite)}. "
                "Likely causes: a network that overflows there (half precision, or a time outside "
                "its training range), or steps that are too long for this form and ell (take more "
                "steps, or form='data')."
            )


def bad_samples(finite: Tensor) -> str:
    """Which samples are not finite, by whether each is, shape (batch,)."""
    bad = torch.nonzero(~finite).flatten().tolist()
    more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
    return f"sample {', '.join(map(str, bad[:5]))}{more} of {len(finite)}"


def check_range(plan: Plan, dtype: torch.dtype) -> None:
    """Refuse a plan whose coefficients the state's type does not hold.

    Raises:
        ValueError: with the largest of them.
    """
    values = ((row.scale, *row.noise, *dict(row.weights).values()) for row in plan.rows)
    numbers = (v.abs().max().item() if isinstance(v, Tensor) else abs(v) for v in chain(*values))
    largest = max(numbers, default=0.0)
    if largest > torch.finfo(dtype).max:
        raise ValueError(
            f"A coefficient of this plan is {largest:.3g}, beyond the range of {dtype}: the "
            "solution grows too far. Take a shorter span, or a wider dtype."
        )


def check_result(x: Tensor) -> Tensor:
    """Samples as they are, unless they left the range of a half type when they were converted to
    it.

    Raises:
        FloatingPointError: saying how many.
    """
    if bad := _not_finite(x):
        raise FloatingPointError(
            f"{bad} numbers of the samples are beyond the range of {x.dtype}: give a wider dtype."
        )
    return x


def check_state(x: Any) -> None:
    """Refuse an initial state that is not a finite floating-point tensor with a batch dimension."""
    numbers = isinstance(x, Tensor) and (x.is_floating_point() or x.is_complex())
    if not numbers or x.itemsize == 1 or x.is_meta:
        kind = f"dtype {x.dtype} on {x.device}" if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(
            f"The state must be a floating-point tensor of shape (batch, *event), got {kind}: with "
            "16 bits at least."
        )
    if x.ndim < 1 or not x.numel():
        raise ValueError(
            "The state must have a batch dimension and hold something: shape (batch, *event), got "
            f"shape {tuple(x.shape)}, {x.ndim}-dimensional."
        )
    if bad := _not_finite(x):
        raise ValueError(f"The initial state contains NaN or infinity in {bad} entries.")


def _not_finite(x: Tensor) -> str:
    """How many entries are NaN or infinite, of how many; nothing if none is."""
    bad = int((~torch.isfinite(x)).sum())
    return f"{bad} of {x.numel()}" if bad else ""
