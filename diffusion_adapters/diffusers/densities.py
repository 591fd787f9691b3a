"""log p of what a scheduler's `step` draws, as reinforcement learning asks for it."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from expint.noise import SubstepNoise
from expint.noise.source import NoiseSource, NoiseStream
from expint.plans import Plan
from expint.runs import Description, Run
from expint.transitions import kernels


class Densities:
    """A noise source that keeps the normals of a substep, and the densities of the states that the
    rows of a run make of them, each given all states before.

    Args:
        plan: of the run, with noise.
        noise: where the normals come from.

    Raises:
        ValueError: for a plan without noise, which has no densities.
    """

    def __init__(self, plan: Plan, noise: NoiseSource) -> None:
        self._plan, self._noise = plan, noise
        self._kernel_of = {i: kernel for kernel in kernels(plan) for i in kernel.free}
        self._stream: NoiseStream | None = None
        self._drawn: list[Tensor] = []
        self._found: list[Tensor] = []
        self._wanted: Tensor | None = None
        self._zero, self._shape = torch.zeros(()), torch.Size()

    def stream(self, like: Tensor, run: Sequence[SubstepNoise]) -> "Densities":
        """See `NoiseSource.stream`."""
        self._shape, self._zero = like.shape, _wide(like.new_zeros(len(like)))
        self._stream = self._noise.stream(like, run)
        return self

    def normals(self, substep: SubstepNoise) -> Iterator[Tensor]:
        """See `NoiseStream.normals`."""
        assert self._stream is not None
        self._drawn = []
        for z in self._stream.normals(substep):
            self._drawn.append(z)
            yield z

    def expect(self, wanted: Tensor | None) -> None:
        """The state that the next step is to lead to, in place of the one that it draws.

        Raises:
            ValueError: for one of another shape, or not finite.
        """
        if wanted is not None and wanted.shape != self._shape:
            shapes = f"{tuple(self._shape)}, got {tuple(wanted.shape)}"
            raise ValueError(f"prev_sample has shape {shapes}.")
        if wanted is not None and not bool(torch.isfinite(wanted).all()):
            raise ValueError("prev_sample is not finite: give the state that the run went to.")
        self._wanted = wanted

    def see(self, i: int, state: Tensor) -> Tensor | None:
        """After row `i`: keep its density, and give the state to go on from if it is another."""
        kernel, wanted = self._kernel_of.get(i), self._wanted
        if kernel is None:
            return None
        n = kernel.free.index(i)
        own = kernel.loadings[i][-1]
        if wanted is None:
            weights = kernel.basis[n].tolist()
            u = sum(w * _wide(z) for w, z in zip(weights, self._drawn, strict=False))
        elif len(kernel.loadings) > 1:
            raise ValueError(
                f"A step of {self._plan.solver!r} draws states that depend on one another, so that "
                "prev_sample alone has no density: use expint.log_prob on the states of a rollout, "
                "or a solver of one evaluation a step, for example 'seeds-ab2'."
            )
        else:
            noise = zip(self._plan.rows[i].noise, self._drawn, strict=False)
            mean = _wide(state) - sum(float(c) * _wide(z) for c, z in noise)
            u = (_wide(wanted) - mean) / own
        assert isinstance(u, Tensor)
        size = u[0].numel() * (math.log(own) + 0.5 * math.log(2.0 * math.pi))
        self._found.append(-0.5 * u.square().flatten(1).sum(1) - size)
        return None if wanted is None else wanted.to(state)

    def taken(self) -> Tensor:
        """log p of the rows since the last call, shape (batch,); 0 where none drew."""
        found, self._found = self._found, []
        return sum(found, self._zero)


def _wide(x: Tensor) -> Tensor:
    """float64, where the device has it."""
    return x if x.device.type == "mps" else x.to(torch.float64)


def run_of(
    plan: Plan, model: Description, state: Tensor, noise: NoiseSource, dense: bool
) -> tuple[Run, Densities | None]:
    """The run from a copy of a state, and its densities if they are wanted."""
    found = Densities(plan, noise) if dense else None
    return Run(plan, model, state.clone(), found or noise, found and found.see), found


def opened(densities: Any, wanted: bool, prev_sample: Tensor | None) -> Densities | None:
    """The densities of a run, if they are wanted, told what the next step is to lead to.

    Raises:
        ValueError: if they are wanted of a run that began without, or prev_sample without them.
    """
    if not wanted:
        if prev_sample is not None:
            raise ValueError("prev_sample is what return_log_prob=True gives the density of.")
        return None
    if densities is None:
        raise ValueError(
            "The run began without return_log_prob: ask for it from the first step on, or call "
            "set_timesteps for a new run."
        )
    densities.expect(prev_sample)
    return densities


def check_others(others: Mapping[str, Any]) -> None:
    """Refuse arguments of `step` that other schedulers take.

    Raises:
        ValueError: naming them.
    """
    if others.get("eta") or others.keys() - {"eta", "use_clipped_model_output"}:
        raise ValueError(
            "step takes no eta > 0 and no options of other schedulers: the stochasticity is "
            f"that of ExpIntScheduler(ell=...), chosen before the run. Got {dict(others)}."
        )
