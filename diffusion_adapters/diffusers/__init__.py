"""expint with diffusers: its networks as models, and a scheduler for its pipelines (which needs the
package diffusers).
"""

from typing import TYPE_CHECKING, Any

from diffusion_adapters.diffusers.networks import from_diffusers

if TYPE_CHECKING:
    from diffusion_adapters.diffusers.scheduler import ExpIntScheduler, ExpIntSchedulerOutput

__all__ = ["ExpIntScheduler", "ExpIntSchedulerOutput", "from_diffusers"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from diffusion_adapters.diffusers import scheduler

    return getattr(scheduler, name)
