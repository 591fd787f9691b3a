"""Published checkpoints: reading them without executing anything, and adapters around them."""

from diffusion_adapters.checkpoints.conversion import convert_checkpoint
from diffusion_adapters.checkpoints.loading import (
    from_edm,
    load_edm,
    load_edm_pickle,
    load_guided_diffusion,
    load_score_sde,
)
from diffusion_adapters.checkpoints.pickles import (
    CheckpointError,
    UntrustedPickleError,
    imported_globals,
    read_checkpoint,
)

__all__ = [
    "CheckpointError",
    "UntrustedPickleError",
    "convert_checkpoint",
    "from_edm",
    "imported_globals",
    "load_edm",
    "load_edm_pickle",
    "load_guided_diffusion",
    "load_score_sde",
    "read_checkpoint",
]
