"""Noise from the torch generators of a caller, as other libraries hand them in."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from expint.noise.source import SubstepNoise


@dataclass(eq=False)
class FromGenerators:
    """Standard normals from torch generators, which go on from where they stand.

    One state of normals is drawn for each interval, in order of use, and then, where the integral U
    is used, one for U. Unlike the sources with seeds, this one leaves the generators moved: a
    second stream gives other numbers.

    Args:
        generators: one generator per sample, so that a sample depends on its own alone; or one for
            the whole batch, a single generator or None for torch's own. Generators on the CPU serve
            states on any device. May be replaced between draws.

    Raises:
        TypeError: for anything else.

    Example:
        >>> from expint.noise.source import SubstepNoise
        >>> def draw(generators, batch):
        ...     stream = FromGenerators(generators).stream(torch.zeros(batch, 3), [])
        ...     return torch.stack(list(stream.normals(SubstepNoise(2))))
        >>> both = draw([torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)], 2)
        >>> torch.equal(both[:, 1:], draw(torch.Generator().manual_seed(1), 1))
        True
    """

    generators: torch.Generator | Sequence[torch.Generator] | None = None

    def __post_init__(self) -> None:
        self.listed()

    @property
    def identity(self) -> str:
        """A digest of the states in which the generators are."""
        states = [(torch.default_generator if g is None else g).get_state() for g in self.listed()]
        joined = b"".join(state.numpy().tobytes() for state in states)
        return "FromGenerators " + hashlib.sha256(joined).hexdigest()

    def stream(self, like: Tensor, run: Sequence[SubstepNoise]) -> "_Drawn":
        """See `NoiseSource.stream`."""
        stream = _Drawn(self, like.detach())
        stream.check()
        return stream

    def listed(self) -> "Sequence[torch.Generator | None]":
        """The generators as a list."""
        given = self.generators
        listed = [given] if given is None or isinstance(given, torch.Generator) else list(given)
        wrong = [g for g in listed if g is not None and not isinstance(g, torch.Generator)]
        if wrong or not listed:
            raise TypeError(
                "generators are torch.Generator objects, one per sample or one for all, got "
                f"{given!r}."
            )
        return listed


class _Drawn:
    def __init__(self, origin: FromGenerators, like: Tensor) -> None:
        self._origin, self._like = origin, like

    def check(self) -> "Sequence[torch.Generator | None]":
        """The generators, after checking that they are one, or one per sample."""
        listed, batch = self._origin.listed(), self._like.shape[0]
        if len(listed) not in (1, batch):
            raise ValueError(
                f"Give one generator per sample, or one for all: got {len(listed)} for a batch of "
                f"{batch}."
            )
        return listed

    def normals(self, substep: SubstepNoise) -> Sequence[Tensor]:
        """See `NoiseStream.normals`."""
        listed, like = self.check(), self._like
        size = (like.shape[0] // len(listed), *like.shape[1:])

        def draw(item: torch.Generator | None) -> Tensor:
            device = like.device if item is None else item.device
            return torch.randn(size, generator=item, dtype=like.dtype, device=device)

        return [
            torch.cat([draw(item) for item in listed]).to(like.device)
            for _ in range(substep.normals)
        ]
