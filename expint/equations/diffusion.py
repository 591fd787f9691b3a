"""The reverse SDE's link to a diffusion model: its noise schedule, and F as an affine function of
the state x and the denoiser D."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from expint.equations.noise_scales import NoiseScale
from expint.equations.predictions import Affine, conversion, to_denoiser
from expint.schedules import Schedule


@dataclass(frozen=True, eq=False)
class Diffusion:
    """What makes a semi-linear SDE the reverse SDE of a diffusion model.

    Args:
        schedule: the noise schedule.
        prediction: what F is: one of `expint.equations.predictions.PREDICTIONS`, or "rate".
        form: name of the form.
        ell: stochasticity ℓ, or None where a noise scale takes its place.
        noise_scale: the noise-scale function φ in place of ℓ.
        sigma_data: of the preconditioned form.
        rate: for the prediction "rate": (on_x, on_data) as a function of time, with which
            F = on_x x + on_data D.
    """

    schedule: Schedule
    prediction: str
    form: str
    ell: float | None = None
    noise_scale: NoiseScale | None = None
    sigma_data: float | None = None
    rate: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None

    @property
    def setting(self) -> str:
        """Form and stochasticity in words, for example "data form, ell=1"."""
        if self.noise_scale is not None:
            return f"extended form, noise scale {self.noise_scale.name}"
        words = {"precond": "preconditioned form", "sigma": "noise form in the clock sigma"}
        explicit = f"explicit drift in {self.form}" if self.rate else f"{self.form} form"
        at = "" if self.sigma_data is None else f", sigma_data={self.sigma_data:g}"
        return f"{words.get(self.form, explicit)}, ell={self.ell:g}{at}"

    def conversions(
        self, model: Any, target: str, times: Tensor, sigma_data: float | None
    ) -> tuple[Affine, Affine]:
        """From the output of a model, at `times`: to F (or to the prediction `target` in its
        place), and to the denoiser.

        Args:
            model: what the model predicts.
            target: the prediction that is wanted: that of F, or "data".
            times: float64, shape (n,).
            sigma_data: the model's.
        """
        to_d = to_denoiser(model, self.schedule, times, sigma_data)
        if target == "rate" and self.rate is not None:
            on_x, on_data = self.rate(times)
            return Affine(on_x + on_data * to_d.on_x, on_data * to_d.on_output), to_d
        to_f = conversion(
            model,
            target,
            self.schedule,
            times,
            source_sigma_data=sigma_data,
            target_sigma_data=self.sigma_data,
        )
        return to_f, to_d

    def check_schedule(self, own: Any, times: Tensor) -> None:
        """Refuse a model of another noise schedule, unless the two agree at all `times`.

        Raises:
            ValueError: naming both schedules.
        """
        planned = self.schedule
        if own is None or own is planned or own == planned:
            return
        if isinstance(own, Schedule):
            with contextlib.suppress(ValueError):  # outside its domain: they do not agree
                pairs = ((planned.log_alpha, own.log_alpha), (planned.lam, own.lam))
                if all(torch.allclose(f(times), g(times), 1e-6, 1e-6) for f, g in pairs):
                    return
        raise ValueError(
            f"The plan is for the schedule {planned}, but the model has {own}: compile the plan "
            "for the model's schedule."
        )
