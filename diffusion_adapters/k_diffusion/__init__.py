"""The solvers of expint as sampling functions of k-diffusion, whose contract ComfyUI and other
programs share.
"""

from diffusion_adapters.k_diffusion.noise import brownian_noise_sampler
from diffusion_adapters.k_diffusion.sampling import (
    NOISES,
    SAMPLERS,
    KDiffusionModel,
    is_flow,
    sample_dpmpp_3m_sde,
    sample_er_sde_3,
    sample_expint,
    sample_sa_solver,
    sample_seeds_1,
    sample_seeds_2,
    sample_seeds_3,
    sample_seeds_ab2,
    sample_seeds_sra,
    sample_unipc,
    uniform_lambda_sigmas,
)  # fmt: skip

__all__ = [
    "NOISES", "SAMPLERS", "KDiffusionModel", "brownian_noise_sampler", "is_flow",
    "sample_dpmpp_3m_sde", "sample_er_sde_3", "sample_expint", "sample_sa_solver", "sample_seeds_1",
    "sample_seeds_2", "sample_seeds_3", "sample_seeds_ab2", "sample_seeds_sra", "sample_unipc",
    "uniform_lambda_sigmas",
]  # fmt: skip
