"""The adapter of critically-damped Langevin diffusion, a family of its own: its state has a
velocity beside the image.

family   call                           time conditioning    output
CLD      net(u, t, **condition)         t                    α', ε_v, or the score S_v; or D
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from diffusion_adapters.families.adapter import NetworkAdapter, per_sample
from expint.guards.arguments import checked
from expint.registry import check_choice
from expint.schedules import CLD

OUTPUTS = ("mixed", "noise", "score", "data")


class CLDAdapter(NetworkAdapter):
    """A network of critically-damped Langevin diffusion as a denoiser for `expint.sample` and
    `expint.phase_space.Denoised`: model(u, t) → E[x_0 | u_t], shape (batch, 1, *event), for states
    u of shape (batch, 2, *event).

    Args:
        network: net(u, t, **condition), u of shape (batch, 2C, …), the C channels of the images and
            then those of the velocities, t of shape (batch,); its output has C channels.
        schedule: default `CLD()`, that of the authors.
        output: "mixed", what the authors' mixed score adds to the noise, so that the score is
            S_v = −v/Σ_vv − α'/L_vv with L Lᵀ = Σ; "noise", ε_v = −L_vv S_v; "score", S_v; or
            "data", E[x_0 | u_t].
        condition: further keyword arguments of the network.

    Raises:
        TypeError, ValueError: for another schedule or output.

    Source: Dockhorn, Vahdat & Kreis, arXiv 2112.07068, section 3.2; CLD-SGM, `models/utils`.
    """

    kind: ClassVar[type] = CLD

    @checked
    def __init__(
        self,
        network: Callable[..., Tensor],
        schedule: CLD | None = None,
        *,
        output: str = "mixed",
        condition: Mapping[str, Any] | None = None,
    ) -> None:
        check_choice("output", output, OUTPUTS)
        super().__init__(network, schedule or CLD(), "data", condition=condition)
        self.output = output

    def sampler(self, *arguments: Any, **others: Any) -> Tensor:
        """See `expint.phase_space_samples.phase_space_samples`."""
        # What it needs takes longer to import than all the other adapters.
        from expint.phase_space_samples import phase_space_samples

        return phase_space_samples(*arguments, **others)

    def _predict(self, x: Tensor, t: Tensor, condition: dict[str, Any]) -> Tensor:
        if x.ndim < 2 or x.shape[1] != 2:
            raise ValueError(
                "A model of CLD is called with states of shape (batch, 2, *event), the images and "
                f"their velocities, got {tuple(x.shape)}: draw samples with expint.sample."
            )
        wide = torch.promote_types(x.dtype, torch.float32)  # half types do not hold Σ⁻¹
        # A copy, which the network may change: what lies in x is needed again.
        found = self.network(x.flatten(1, 2).clone(), per_sample(t, x), **condition).to(wide)
        if self.output == "data":
            return found[:, None]
        mean, covariance = self.schedule.kernel(t)
        position, velocity = x.to(wide).unbind(1)
        row = torch.linalg.inv(covariance)[1]  # of Σ⁻¹, with 1/L_vv² the last on its diagonal
        score = found if self.output == "score" else -row[1].sqrt() * found
        if self.output == "mixed":
            score = score - velocity / covariance[1, 1]
        # S_v = −row · (u − m D)
        return ((score + row[0] * position + row[1] * velocity) / (row @ mean))[:, None]
