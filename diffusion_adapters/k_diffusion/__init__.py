"""The solvers of expint as sampling functions of k-diffusion, whose contract ComfyUI and other
programs share.
"""

from diffusion_adapters.k_diffusion.inversion import invert_expint
from diffusion_adapters.k_diffusion.noise import brownian_noise_sampler
from diffusion_adapters.k_diffusion.sampling import (
    NOISES,
    SAMPLERS,
    KDiffusionModel,
    is_flow,
    named,
    sample_expint,
    uniform_lambda_sigmas,
)

__all__ = [
    "NOISES", "SAMPLERS", "KDiffusionModel", "brownian_noise_sampler", "invert_expint", "is_flow",
    "sample_dpmpp_3m_sde", "sample_er_sde_3", "sample_expint", "sample_sa_solver", "sample_seeds_1",
    "sample_seeds_2", "sample_seeds_3", "sample_seeds_ab2", "sample_seeds_sra", "sample_unipc",
    "uniform_lambda_sigmas",
]  # fmt: skip

sample_seeds_1 = named("seeds-1", 1.0, "SEEDS-1, one evaluation per step")
sample_seeds_2 = named("seeds-2", 1.0, "SEEDS-2, two evaluations per step")
sample_seeds_3 = named("seeds-3", 1.0, "SEEDS-3, three evaluations per step")
sample_seeds_sra = named("seeds-sra", 1.0, "Strong order 3/2, two evaluations per step")
sample_seeds_ab2 = named("seeds-ab2", 1.0, "Two-step Adams–Bashforth, one evaluation per step")
sample_dpmpp_3m_sde = named(
    "dpmpp-3m-sde", 1.0, "DPM-Solver++(3M) SDE with the second difference's factor 2"
)
sample_er_sde_3 = named("er-sde-3", None, "ER-SDE-3, by default with its own noise scale")
sample_sa_solver = named("sa-solver", 1.0, "SA-Solver, predictor and corrector")
sample_unipc = named("unipc-2", 0.0, "UniPC of order 2, by default for the ODE", name="unipc")
