"""Semi-linear SDEs: propagator, clock and noise clock; the forms of the reverse diffusion SDE;
predictions and noise scales.
"""

from expint.equations import noise_scales, predictions, step_scales
from expint.equations.cps_levels import ell_from_cps
from expint.equations.forms import form_names, reverse_sde
from expint.equations.sde import SemiLinearSDE
from expint.equations.torchsde_export import to_torchsde

__all__ = [
    "SemiLinearSDE", "ell_from_cps", "form_names", "noise_scales", "predictions", "reverse_sde",
    "step_scales", "to_torchsde",
]  # fmt: skip
