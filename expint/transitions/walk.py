"""Run a plan along given states: the means of its transitions, and the whitened normals that lead
from state to state."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from expint.noise import SubstepNoise
from expint.plans import Plan
from expint.runs import Description, Run, drive
from expint.runs.model import Counted
from expint.transitions.joint_laws import Kernel, kernels


class _Silent:
    """No noise: the rows then are the means."""

    def __init__(self, like: Tensor | None = None) -> None:
        self._like = like

    def stream(self, like: Tensor, run: Sequence[SubstepNoise]) -> "_Silent":
        """See `NoiseSource.stream`."""
        return _Silent(like)

    def normals(self, substep: SubstepNoise) -> Iterator[Tensor]:
        """See `NoiseStream.normals`."""
        assert self._like is not None
        zero = self._like.new_zeros(()).expand(self._like.shape)
        return iter([zero] * substep.normals)


class Walk:
    """A run along the states that `target(row)` gives for the free rows. What is computed is
    differentiable.

    Args:
        plan: with noise.
        about: what the model says of itself.
        x: initial state.
        target: of a free row, the state to go on from.
        dtype: in which the model sees the states.
    """

    def __init__(
        self,
        plan: Plan,
        about: Description,
        x: Tensor,
        target: Callable[[int], Tensor],
        dtype: torch.dtype,
    ) -> None:
        self.kernels, self._target = kernels(plan), target
        self._of = {i: kernel for kernel in self.kernels for i in kernel.loadings}
        self.means = list[Tensor]()
        self.whitened: dict[int, list[Tensor]] = {}
        """Of each noisy row so far, the u of its kernel up to there."""
        self._run = Run(plan, Counted(about, None, None), x, _Silent(), self._see, dtype=dtype)

    def go(self, call: Any) -> None:
        """To the last free row, calling the model no further than that."""
        rows = self._run.plan.rows[: self.kernels[-1].free[-1] + 1]
        drive(self._run, call, evaluations=sum(row.evaluates for row in rows))

    def log_probs(self) -> Tensor:
        """log p of each transition, shape (transitions, batch)."""
        return torch.stack([self._log_prob(kernel) for kernel in self.kernels])

    def normals(self) -> Tensor:
        """Standard normals in order of use, shape (normals, batch, *event): z = Qᵀ u."""
        plan, kernel_of = self._run.plan, {kernel.substep: kernel for kernel in self.kernels}
        found = list[Tensor]()
        for substep, noise in enumerate(plan.noises):
            if (kernel := kernel_of.get(substep)) is not None:
                u = torch.stack(self.whitened[kernel.free[-1]])
                found.append(torch.tensordot(kernel.basis.T.to(u), u, dims=1))
            elif noise is not None:  # a step of ell=0 among others
                found.append(self.means[0].new_zeros(noise.normals, *self.means[0].shape))
        return torch.cat(found)

    def _see(self, i: int, state: Tensor) -> Tensor | None:
        kernel = self._of.get(i)
        if kernel is None:
            return None
        loadings, before = kernel.loadings[i], self._before(kernel, i)
        if i not in kernel.free:
            self.whitened[i] = before
            return state + _combined(loadings, before, state)
        mean, found = state.clone(), self._target(i)
        rest = _wide(found - mean)
        own = (rest - _combined(loadings[:-1], before, rest)) / loadings[-1]
        self.whitened[i] = [*before, own]
        self.means.append(mean)
        return found

    def _before(self, kernel: Kernel, i: int) -> list[Tensor]:
        earlier = [j for j in kernel.loadings if j < i]
        return self.whitened[earlier[-1]] if earlier else []

    def _log_prob(self, kernel: Kernel) -> Tensor:
        u = self.whitened[kernel.free[-1]]
        size = u[0][0].numel()
        squares = torch.stack(u).square().transpose(0, 1).reshape(len(u[0]), -1).sum(1)
        logs = sum(math.log(kernel.loadings[i][-1]) for i in kernel.free)
        return -0.5 * squares - size * (logs + 0.5 * len(u) * math.log(2.0 * math.pi))


def checkpointed(model: Any) -> Any:
    """The model, of which with gradients no activation is kept: each evaluation is made again."""
    again = partial(checkpoint, model, use_reentrant=False)
    return lambda x, t: again(x, t) if torch.is_grad_enabled() else model(x, t)


def _wide(x: Tensor) -> Tensor:
    """float64, where the device has it: log p is a sum over all components."""
    return x if x.device.type == "mps" else x.to(torch.float64)


def _combined(loadings: Sequence[float], u: Sequence[Tensor], like: Tensor) -> Tensor | float:
    """Σ loading · u in the dtype of `like`."""
    terms = [loading * one for loading, one in zip(loadings, u, strict=True)]
    return sum(terms[1:], terms[0]).to(like.dtype) if terms else 0.0
