"""Leave a run after any evaluation, and continue it later or elsewhere: split = unsplit, bitwise on
one kind of machine.
"""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from expint.files import replacing
from expint.guards.model_calls import check_output
from expint.guards.training import warn_in_training
from expint.noise import NoiseSource, per_sample
from expint.numerics.float64 import is_whole
from expint.plans import Plan
from expint.plans.plan_files import coefficients
from expint.runs import Callback, Run, describe, drive
from expint.runs.model import identity as model_identity
from expint.runs.start import start_state
from expint.sampling import SamplingOptions, arguments_for, plan_sampling
from expint.solvers.registry import Solver
from expint.soundness import warn_of

_FORMAT = "expint run 3"
_COEFFICIENTS = "plan"


class Sampling:
    """A run that stands between two evaluations. Made by `begin_sampling` and `continue_sampling`.

    Attributes:
        plan: what is run.
        model: called as model(x, t).
    """

    def __init__(self, plan: Plan, model: Any, run: Run, noise: NoiseSource, identity: str) -> None:
        self.plan, self.model = plan, model
        self._run, self._noise, self._identity = run, noise, identity

    @property
    def x(self) -> Tensor:
        """The state at which the network is evaluated next, or the result, shape (batch,
        *event).
        """
        return self._run.x.to(self._run.dtype, copy=True)

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
        with torch.no_grad():
            drive(self._run, self.model, callback, evaluations)
        return self._run.result() if self.done else self.x

    def save(self, path: str | Path) -> None:
        """Write the run to a safetensors file: state, history and position, and what a run that
        goes on from it must have in common with it.

        Raises:
            OSError: if the file cannot be written; then none is left half-written.
            ValueError: if the noise source has no identity by which it could be known again.
        """
        if not self._identity:
            raise ValueError(
                f"{type(self._noise).__name__} noise cannot be known again when the run goes on: "
                "give the source an attribute `identity`, or use expint.noise.Gaussian(seeds)."
            )
        tensors, position = self._run.snapshot()
        tensors[_COEFFICIENTS] = coefficients(self.plan)
        content = {"format": _FORMAT, "position": json.dumps(position), **self._common()}
        content["device"] = self._run.x.device.type
        kept = {name: value.detach().contiguous().clone() for name, value in tensors.items()}
        with replacing(path) as part:
            save_file(kept, part, content)

    def _common(self) -> dict[str, str]:
        """What the run must have in common with one that it continues, beside the coefficients."""
        return {
            "model": model_identity(self.model),
            "dtype": str(self._run.dtype),
            "solver": self.plan.solver,
            "equation": self.plan.sde.name,
            "noise": self._identity,
        }


def begin_sampling(
    model: Any,
    shape: Sequence[int] | Tensor,
    solver: Solver | None = None,
    *,
    seed: int | None = None,
    seeds: Sequence[int] | None = None,
    start: int = 0,
    noise: NoiseSource | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    **options: Unpack[SamplingOptions],
) -> Sampling:
    """The run that `expint.sample` would do, before its first evaluation.

    Args:
        model, shape, solver, seed, seeds, start, noise, dtype, device, options: as for
            `expint.sample`.

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
    about = describe(model)
    warn_in_training(model)
    plan = plan_sampling(about.schedule, **arguments_for(about, solver, options, noise))
    seeding = partial(per_sample, seed, seeds=seeds, start=start)
    warn_of(plan)
    x, source = start_state(about, shape, plan, seeding, noise, dtype, device)
    x = x.clone()  # the caller may change a state that was given
    # Asked for before the run begins to draw: generators move as it does.
    identity = getattr(source, "identity", "")
    return Sampling(plan, model, Run(plan, model, x, source, keeps_latest=True), source, identity)


def continue_sampling(
    path: str | Path,
    model: Any,
    solver: Solver | None = None,
    *,
    seed: int | None = None,
    seeds: Sequence[int] | None = None,
    start: int = 0,
    noise: NoiseSource | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    **options: Unpack[SamplingOptions],
) -> Sampling:
    """A run where `Sampling.save` left it.

    Args:
        path: the file.
        model, solver, seed, seeds, start, noise, dtype, device, options: those of `begin_sampling`;
            the model, the plan and the noise must be the same. A model is known by its class, its
            prediction, its schedule, the number and mean square of its parameters, and by its
            output: it is called once, at the state and time of the latest evaluation, and must
            give what is in the file (to 1e-4, relative in the norm; to 1e-2 on another kind of
            device). A source of generators must stand where it stood when the run began: the noise
            up to the saved place is drawn again.

    Raises:
        ValueError: for a file that does not hold a saved run or is damaged, or arguments that give
            another model, plan, noise or shape, naming what differs; before the run goes on.
    """
    tensors, content = _read(Path(path))
    state = tensors["anchor"]
    # Half types are held in float32.
    kept = getattr(torch, content.get("dtype", "").removeprefix("torch."), state.dtype)
    if dtype not in (None, kept):
        raise ValueError(
            f"{path} holds a run in {kept}, here {dtype}: give the dtype with which it was begun."
        )
    begun = begin_sampling(
        model,
        tuple(state.shape),
        solver,
        seed=seed,
        seeds=seeds,
        start=start,
        noise=noise,
        dtype=kept,
        device=device,
        **options,
    )
    way_out = "give the arguments with which it was begun"
    for what, value in begun._common().items():
        if content.get(what) != value:
            raise ValueError(
                f"{path} holds a run with another {what} ({content.get(what)}, here {value}): "
                f"{way_out}."
            )
    saved, own = tensors.pop(_COEFFICIENTS), coefficients(begun.plan)
    # Not exactly: the last digit of a coefficient depends on the version of the libraries.
    if saved.shape != own.shape or not torch.allclose(saved, own, rtol=1e-12, atol=1e-15):
        raise ValueError(f"{path} holds a run with another plan (grid or coefficients): {way_out}.")
    moved = {name: value.to(begun.x.device) for name, value in tensors.items()}
    position = json.loads(content["position"])
    if position["latest"] >= 0:
        off = _difference(begun, moved["latest output"], moved["latest x"], position["latest"])
        same = content.get("device") == begun.x.device.type
        if not off <= max(1e-4 if same else 1e-2, 4.0 * torch.finfo(kept).eps):
            raise ValueError(
                f"{path} holds a run with another model: at the state and time of the latest "
                f"evaluation the output differs from the saved one by {off:.3g}, relative to its "
                f"norm: {way_out}, for a model the same weights, labels and guidance."
            )
    begun._run.restore(moved, position)
    return begun


def _difference(begun: Sampling, saved: Tensor, x: Tensor, row: int) -> float:
    """The norm of the difference of the model's output at a saved evaluation, relative to that of
    the saved output."""
    time = begun.plan.times[row]
    with torch.no_grad():
        output = begun.model(
            x.to(begun._run.dtype, copy=True), time if x.device.type == "mps" else time.to(x.device)
        )
    check_output(output, x)
    difference, size = ((v.to(x) - w).norm().item() for v, w in ((output, saved.to(x)), (saved, 0)))
    return difference / size if size else difference


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    if not path.is_file():
        raise ValueError(f"There is no saved run at {path}.")
    try:
        with safe_open(path, framework="pt") as file:
            content = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is not a saved run, or is damaged: {error}") from error
    if content.get("format") != _FORMAT or not {"x", "anchor", _COEFFICIENTS} <= set(tensors):
        raise ValueError(
            f"{path} is a safetensors file, but not a saved run of this version "
            f"({content.get('format')!r})."
        )
    return tensors, content
