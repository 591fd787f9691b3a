"""Calls of a model that the run's own tensors survive."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from expint.plans import Plan


class ModelCalls:
    """Keeps the state from a model that changes its input, and outputs that are still needed from
    one that returns the same buffer every time. Copies are made for models that do so from the
    first evaluation on."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        # Whether the model changes its input, and reuses its buffer; None before one can know.
        self._overwrites: bool | None = None
        self._reuses: bool | None = None
        self._first: Tensor | None = None

    def call(self, model: Any, state: Tensor, dtype: torch.dtype, time: Tensor) -> Tensor:
        """The output at `state`, which the model sees in `dtype`.

        Raises:
            RuntimeError: if the model changed its input, but not at its first evaluation.
        """
        x = state.to(dtype)
        if x is state and (self._overwrites is not False or x.is_inference()):
            x = x.clone()
        # Inference tensors do not count their versions, and are always copied.
        before = None if x.is_inference() else x._version
        output = model(x, time)
        changed = before is not None and x._version != before
        if changed and x is state:
            raise RuntimeError(
                f"The model changed its input in place at {self._place(time)}, but not at its "
                "first evaluation: let it work on a copy, x.clone()."
            )
        self._overwrites = bool(self._overwrites) or changed
        return output

    def kept(self, output: Tensor, value: Tensor, slots: Iterable[Tensor], time: Tensor) -> Tensor:
        """`value`, made of `output`, in memory that the model will not overwrite.

        Args:
            output: of the model.
            value: F.
            slots: earlier values that are still needed.
            time: of the evaluation.

        Raises:
            RuntimeError: if one of them has been overwritten.
        """
        if any(_share(slot, output) for slot in slots):
            raise RuntimeError(
                f"At {self._place(time)} the model overwrote an earlier output that is still "
                "needed: let it return a new tensor, output.clone()."
            )
        if self._first is not None:  # held until now, so that its memory is not free
            self._reuses, self._first = _share(self._first, output), None
        elif self._reuses is None:
            self._first = output
        own = self._reuses is False or not _share(value, output)
        return value if own else value.clone()

    def _place(self, time: Tensor) -> str:
        return self._plan.sde.place(float(time))


def _share(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors lie in the same memory."""
    try:
        place = one.untyped_storage().data_ptr()
        return place != 0 and place == other.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):  # tensors of torch.func have no memory of their own
        return one is other


def check_output(output: Any, x: Tensor) -> None:
    """Refuse an output that is not of the state's kind, device and shape.

    Raises:
        TypeError, ValueError: with what came.
    """
    if not isinstance(output, Tensor):
        raise TypeError(f"The model must return a tensor, got {type(output).__name__}.")
    fits = output.is_floating_point() or (output.is_complex() and x.is_complex())
    if not fits or output.device.type != x.device.type:
        raise TypeError(
            f"The model returned {output.dtype} on {output.device} for a state in {x.dtype} on "
            f"{x.device}: it must return floating-point numbers, on the device of its input."
        )
    if output.shape != x.shape:
        raise ValueError(
            f"The model returned shape {tuple(output.shape)} for a state of shape "
            f"{tuple(x.shape)}; they must be equal. A network with extra output channels (a "
            "learned variance) needs an adapter that drops them."
        )
