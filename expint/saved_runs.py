"""Leave a run after any evaluation, and continue it later or elsewhere: split = unsplit, bitwise on
one kind of machine.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from expint.noise import NoiseSource
from expint.numerics.float64 import is_whole
from expint.plans.plan import Plan
from expint.runs.run import Callback, Run
from expint.sampling import model_schedule, plan_sampling, start_state

__all__ = ["Sampling", "begin_sampling", "continue_sampling"]

_FORMAT = "expint run 1"


class Sampling:
    """A run that stands between two evaluations. Made by `begin_sampling` and `continue_sampling`.

    Attributes:
        plan: what is run.
        model: called as model(x, t).
    """

    def __init__(self, plan: Plan, model: Any, run: Run, noise: NoiseSource) -> None:
        self.plan, self.model = plan, model
        self._run, self._noise = run, noise

    @property
    def x(self) -> Tensor:
        """The state at which the network is evaluated next, or the result, shape (batch,
        *event).
        """
        return self._run.x

    @property
    def nfe(self) -> int:
        """Evaluations done."""
        return self._run.nfe

    @property
    def done(self) -> bool:
        """Whether the end of the grid is reached."""
        return self._run.done

    def advance(self, evaluations: int | None = None, callback: Callback | None = None) -> Tensor:
        """Run on for some evaluations, or to the end; the state there.

        Args:
            evaluations: how many, or None for all.
            callback: callback(step, nfe, t, x, denoised) after every step.

        Raises:
            ValueError: for a number of evaluations that is not positive.
            FloatingPointError: at the end of the grid, if the state became NaN or infinite.
        """
        if evaluations is not None and not (is_whole(evaluations) and evaluations >= 1):
            raise ValueError(
                "evaluations must be a positive integer, or None for all that are left, got "
                f"{evaluations!r}."
            )
        left = self.plan.nfe if evaluations is None else evaluations
        with torch.no_grad():
            while left > 0 and not self.done:
                self._run.feed(self.model(self._run.x, self._run.time), callback)
                left -= 1
        return self._run.result() if self.done else self.x

    def save(self, path: str | Path) -> None:
        """Write the run to a safetensors file: state, history and position; plan and noise as
        digests, to be checked.

        Raises:
            OSError: if the file cannot be written; then none is left half-written.
        """
        tensors, position = self._run.snapshot()
        content = {
            "format": _FORMAT,
            "position": json.dumps(position),
            **_identity(self.plan, self._noise),
        }
        target = Path(path)
        if target.is_dir() or not target.parent.is_dir():
            raise OSError(
                f"Cannot write the run to {target}: that is a folder, or there is no folder "
                f"{target.parent}."
            )
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            save_file(
                {name: value.detach().contiguous().clone() for name, value in tensors.items()},
                part,
                content,
            )
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)


def begin_sampling(
    model: Any,
    shape: Sequence[int] | Tensor,
    solver: Any = "seeds-3",
    *,
    seed: int | Sequence[int] = 0,
    noise: NoiseSource | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    **options: Any,
) -> Sampling:
    """The run that `expint.sample` would do, before its first evaluation.

    Args:
        model, shape, solver, seed, noise, dtype, device: as for `expint.sample`.
        options: the other arguments of `expint.plan_sampling`: steps, nfe, grid, form, ell, ….

    Raises:
        ValueError, TypeError: what `expint.sample` refuses; and for solvers that take derivatives
            of the model.

    Example:
        >>> import expint
        >>> target = expint.targets.Gaussian([1.0, -2.0], [0.25, 1.0], expint.schedules.EDM())
        >>> run = expint.begin_sampling(target, (3, 2), "seeds-2", steps=6)
        >>> run.advance(5).shape, run.nfe, run.done
        (torch.Size([3, 2]), 5, False)
        >>> whole = expint.sample(target, (3, 2), "seeds-2", steps=6, progress=False)
        >>> run.advance().equal(whole)
        True
    """
    schedule = model_schedule(model)
    plan = plan_sampling(
        schedule,
        solver,
        sigma_data=getattr(model, "sigma_data", None),
        round_time=getattr(model, "round_time", None),
        **options,
    )
    x, source = start_state(model, shape, plan, seed, noise, dtype, device)
    return Sampling(plan, model, Run(plan, model, x, source), source)


def continue_sampling(
    path: str | Path, model: Any, solver: Any = "seeds-3", **options: Any
) -> Sampling:
    """A run where `Sampling.save` left it.

    Args:
        path: the file.
        model, solver, options: those of `begin_sampling`, seeds or noise included; the plan and the
            noise must be the same.

    Raises:
        ValueError: for a file that is no saved run or is damaged, or arguments that give another
            plan, noise or shape; before the first evaluation, naming what differs.
    """
    tensors, content = _read(Path(path))
    state = tensors["anchor"]
    if options.setdefault("dtype", state.dtype) not in (None, state.dtype):
        raise ValueError(
            f"{path} holds a run in {state.dtype}, here {options['dtype']}: give the dtype with "
            "which it was begun."
        )
    options["dtype"] = state.dtype
    begun = begin_sampling(model, tuple(state.shape), solver, **options)
    own = _identity(begun.plan, begun._noise)
    for what, value in own.items():
        if content.get(what) != value:
            raise ValueError(
                f"{path} holds a run with another {what} ({content.get(what)}, here {value}): give "
                "the arguments with which it was begun."
            )
    moved = {name: value.to(begun.x.device) for name, value in tensors.items()}
    begun._run.restore(moved, json.loads(content["position"]))
    return begun


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    if not path.is_file():
        raise ValueError(f"There is no saved run at {path}.")
    try:
        with safe_open(path, framework="pt") as file:
            content = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is not a saved run, or is damaged: {error}") from error
    if content.get("format") != _FORMAT or not {"x", "anchor"} <= set(tensors):
        raise ValueError(
            f"{path} is a safetensors file, but no saved run of this version "
            f"({content.get('format')!r})."
        )
    return tensors, content


def _identity(plan: Plan, noise: NoiseSource) -> dict[str, str]:
    """What a run must have in common with the one that it continues."""
    numbers = hashlib.sha256(json.dumps(plan.to_dict()).encode()).hexdigest()[:16]
    # Sources print their seeds; arrays that are replayed are told apart by their values.
    described = repr(noise)
    with contextlib.suppress(AttributeError, TypeError):
        described += hashlib.sha256(torch.as_tensor(noise.normals).numpy().tobytes()).hexdigest()  # type: ignore[attr-defined]
    return {
        "solver": plan.solver,
        "plan": numbers,
        "noise": hashlib.sha256(described.encode()).hexdigest()[:16],
    }
