"""The methods of `torch.nn.Module` for models that have networks inside: adapters, and wrappers of
other models.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Self

import torch

from expint.guards.arguments import checked
from expint.numerics.devices import usable_device
from expint.runs import Reparametrized


class ModuleMethods(ABC):
    """A model that moves, casts and switches the networks inside it, in place."""

    @abstractmethod
    def _models(self) -> Sequence[Any]:
        """What it calls: networks, and models that have networks inside."""

    def to(self, *where: Any, **options: Any) -> Self:
        """Move or cast the networks in place, with the arguments of `torch.nn.Module.to`; returns
        the model.

        Raises:
            TypeError: for a network that is not a module, or other arguments.
            ValueError: for a device that cannot be used here.
        """
        for place in (*where, options.get("device")):
            if isinstance(place, str | int | torch.device):
                usable_device(place)
        networks = self._networks()
        try:
            for network in networks:
                network.to(*where, **options)
        except (TypeError, RuntimeError) as error:
            reason = str(error).split(", but expected")[0]
            raise TypeError(f"to takes a device, a floating dtype or both ({reason}).") from error
        return self

    def half(self) -> Self:
        """Cast the networks to float16 in place. Time labels stay in float32."""
        return self.to(torch.float16)

    @checked
    def train(self, mode: bool = True) -> Self:
        """Put the networks into train mode, or with False into evaluation mode."""
        for network in self._networks():
            network.train(mode)
        return self

    def eval(self) -> Self:
        """Put the networks into evaluation mode, in which samples should be drawn."""
        return self.train(False)

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """The parameters of the networks, each once; none for a function."""
        listed = (p for network in self._networks(needed=False) for p in network.parameters())
        return iter({id(p): p for p in listed}.values())

    def _networks(self, needed: bool = True) -> list[torch.nn.Module]:
        """The networks inside; if they are `needed`, everything inside must have one."""
        found, models = [], [*self._models()]
        while models:
            model = models.pop(0)
            if isinstance(model, torch.nn.Module):
                found.append(model)
            elif isinstance(model, ModuleMethods):
                models[:0] = model._models()
            elif isinstance(model, Reparametrized):
                models.insert(0, model.model)
            elif needed:
                raise TypeError(
                    "This needs a model with a network that is a torch.nn.Module, got a "
                    f"{type(model).__name__}."
                )
        return found
