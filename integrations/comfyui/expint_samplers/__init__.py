"""The solvers of expint in ComfyUI: a sampler node, a scheduler node, and named samplers in the
lists of the other nodes.

Copy this folder into ComfyUI/custom_nodes, and install expint into ComfyUI's Python.
"""

import logging
from collections.abc import Callable
from typing import Any, ClassVar

try:
    import comfy.k_diffusion.sampling
    import comfy.samplers
except ImportError as error:
    raise ImportError(
        "This folder is a custom node of ComfyUI, and ComfyUI's package `comfy` was not found: "
        "copy the folder into ComfyUI/custom_nodes and start ComfyUI. Elsewhere import "
        "diffusion_adapters.k_diffusion itself."
    ) from error

try:
    from diffusion_adapters.k_diffusion import (
        NOISES,
        SAMPLERS,
        is_flow,
        sample_expint,
        uniform_lambda_sigmas,
    )
    from expint import solvers
    from expint.plans.plan_files import load_plan
except ImportError as error:
    raise ImportError(
        "expint is not installed in the Python that runs ComfyUI: install it there with pip."
    ) from error

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]

PREFIX = "expint_"
DEFAULT = "default"
OWN_ETA = -1.0
"""In the node: the solver's own eta."""


def solver_names() -> list[str]:
    """Solvers for the node, SEEDS first. Those that take derivatives of the model are left out."""
    known = [name for name in solvers.names() if not solvers.get(name).tableau.slopes]
    return sorted(known, key=lambda name: (not name.startswith("seeds"), name))


class SamplerExpInt:
    """A sampler for SamplerCustom and SamplerCustomAdvanced."""

    CATEGORY: ClassVar[str] = "sampling/custom_sampling/samplers"
    RETURN_TYPES: ClassVar[tuple[str, ...]] = ("SAMPLER",)
    FUNCTION: ClassVar[str] = "get_sampler"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The inputs of the node."""
        return {
            "required": {
                "solver": (
                    [DEFAULT, *solver_names()],
                    {"tooltip": "default: by the number of steps, and whether noise is added."},
                ),
                "eta": (
                    "FLOAT",
                    {
                        "default": OWN_ETA,
                        "min": OWN_ETA,
                        "max": 100.0,
                        "step": 0.01,
                        "round": False,
                        "tooltip": "Stochasticity, ell squared: 0 the ODE, 1 the reverse SDE, "
                        "below 0 the solver's own.",
                    },
                ),
                "s_noise": (
                    "FLOAT",
                    {
                        "default": 1.0,
                        "min": 0.0,
                        "max": 100.0,
                        "step": 0.001,
                        "round": False,
                        "tooltip": "Factor of the noise.",
                    },
                ),
                "noise": (
                    list(NOISES),
                    {
                        "tooltip": "path: one Brownian path per seed, whatever the sigmas. "
                        "Choose it where sigmas are split."
                    },
                ),
                "noise_device": (
                    ["cpu", "gpu"],
                    {"tooltip": "cpu: the same numbers on every computer."},
                ),
            },
            "optional": {
                "plan": (
                    "STRING",
                    {
                        "default": "",
                        "tooltip": "A plan file, or its text, in place of solver, eta and s_noise. "
                        "Take the sigmas from the node Plan Sigmas.",
                    },
                ),
                "etas": (
                    "STRING",
                    {
                        "default": "",
                        "tooltip": "In place of eta, one for each step between levels above 0: "
                        "1, 0.5, 0. inf draws all noise anew, as LCM does; alone it is for all.",
                    },
                ),
            },
        }

    def get_sampler(
        self,
        solver: str,
        eta: float,
        s_noise: float,
        noise: str,
        noise_device: str,
        plan: str = "",
        etas: str = "",
    ) -> tuple[Any]:
        """The sampler."""
        options: dict[str, Any] = {
            "solver": None if solver == DEFAULT else solver,
            "eta": _listed(etas) if etas.strip() else None if eta < 0 else eta,
            "s_noise": s_noise,
        }
        if plan.strip():
            options = {"plan": plan.strip()}
        options |= {"noise": noise, "noise_device": "cpu" if noise_device == "cpu" else None}
        return (comfy.samplers.KSAMPLER(sample_expint, options),)


def _listed(etas: str) -> float | list[float]:
    try:
        values = [float(part) for part in etas.split(",")]
    except ValueError as error:
        raise ValueError(f"etas are numbers with commas between them, got {etas!r}.") from error
    return values[0] if len(values) == 1 else values


class UniformLambdaScheduler:
    """Sigmas with equal steps in λ, half the log signal-to-noise ratio, over the model's range;
    also for flow models.
    """

    CATEGORY: ClassVar[str] = "sampling/custom_sampling/schedulers"
    RETURN_TYPES: ClassVar[tuple[str, ...]] = ("SIGMAS",)
    FUNCTION: ClassVar[str] = "get_sigmas"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The inputs of the node."""
        return {
            "required": {
                "model": ("MODEL",),
                "steps": ("INT", {"default": 20, "min": 2, "max": 10000}),
            }
        }

    def get_sigmas(self, model: Any, steps: int) -> tuple[Any]:
        """The sigmas, float32, shape (steps + 1,), on the CPU."""
        sampling = model.get_model_object("model_sampling")
        return (
            uniform_lambda_sigmas(
                steps, float(sampling.sigma_min), float(sampling.sigma_max), flow=is_flow(model)
            ),
        )


class PlanSigmas:
    """The sigmas of a plan file."""

    CATEGORY: ClassVar[str] = "sampling/custom_sampling/schedulers"
    RETURN_TYPES: ClassVar[tuple[str, ...]] = ("SIGMAS",)
    FUNCTION: ClassVar[str] = "get_sigmas"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The inputs of the node."""
        return {"required": {"plan": ("STRING", {"tooltip": "A plan file, or its text."})}}

    def get_sigmas(self, plan: str) -> tuple[Any]:
        """The sigmas, float32, shape (steps + 1,), on the CPU."""
        return (load_plan(plan.strip()).grid.float(),)


def register() -> None:
    """Add the samplers as expint_… to the lists of ComfyUI, and those with noise of their own
    also as expint_…_path: one Brownian path per seed, for runs that are split into several.

    Where it keeps them elsewhere, only the nodes are left.
    """
    lists = [
        getattr(getattr(comfy.samplers, "KSampler", None), "SAMPLERS", None),
        getattr(comfy.samplers, "SAMPLER_NAMES", None),
    ]
    found = [names for names in lists if isinstance(names, list)]
    if not found:
        logging.warning(
            "expint: the list of samplers was not found in this ComfyUI; use the node "
            "SamplerExpInt."
        )
        return
    variants = {name: _on_cpu(sampler) for name, sampler in SAMPLERS.items()}
    for name, sampler in SAMPLERS.items():
        if sampler.keywords["eta"] != 0.0:
            variants[f"{name}_path"] = _on_cpu(sampler, noise="path")
    for name, sampler in variants.items():
        setattr(comfy.k_diffusion.sampling, f"sample_{PREFIX}{name}", sampler)
        for names in found:
            if PREFIX + name not in names:
                names.append(PREFIX + name)


def _on_cpu(sampler: Callable[..., Any], **own: Any) -> Callable[..., Any]:
    """The sampler with noise drawn on the CPU, as ComfyUI does for the initial noise: images do not
    depend on the GPU.
    """

    def sample(model: Any, x: Any, sigmas: Any, **settings: Any) -> Any:
        return sampler(model, x, sigmas, **{"noise_device": "cpu", **own} | settings)

    sample.__doc__ = sampler.__doc__
    return sample


register()

NODE_CLASS_MAPPINGS = {
    "SamplerExpInt": SamplerExpInt,
    "ExpIntUniformLambdaScheduler": UniformLambdaScheduler,
    "ExpIntPlanSigmas": PlanSigmas,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "SamplerExpInt": "SamplerExpInt",
    "ExpIntUniformLambdaScheduler": "Uniform Lambda Scheduler (expint)",
    "ExpIntPlanSigmas": "Plan Sigmas (expint)",
}
