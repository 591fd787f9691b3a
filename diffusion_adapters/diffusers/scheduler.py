"""Every solver of the registry behind the step-by-step scheduler interface of diffusers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from diffusion_adapters.diffusers import configs, densities, tables
from diffusion_adapters.diffusers.copies import Copied
from diffusion_adapters.diffusers.given_plans import check_begin, held_plan, without_fixed
from diffusion_adapters.diffusers.late_start import Rounding, begin_at, evaluation_times, plan_of
from diffusion_adapters.diffusers.latent_noise import LatentNoise, check_noise
from diffusion_adapters.diffusers.methods import method_of
from diffusion_adapters.diffusers.noised_states import NoisedStates
from diffusion_adapters.diffusers.step_starts import CountedSteps, StepOrder, step_starts
from diffusion_adapters.families.adapter import without_variance
from expint.equations.predictions import to_denoiser
from expint.guards.arguments import checked
from expint.numerics.devices import usable_device
from expint.plans import Plan
from expint.plans.plan_files import PlanLike
from expint.runs import Description, Run
from expint.schedules.discrete import TabulatedVP
from expint.soundness import warn_of

try:
    from diffusers.configuration_utils import ConfigMixin, register_to_config
    from diffusers.schedulers.scheduling_utils import KarrasDiffusionSchedulers, SchedulerMixin
    from diffusers.utils.outputs import BaseOutput
except ImportError as error:
    raise ImportError(
        "diffusion_adapters.diffusers needs the package diffusers, which is not installed: pip "
        "install 'expint[diffusers]'."
    ) from error

_THEIRS = [kind.name for kind in KarrasDiffusionSchedulers]
Generators = torch.Generator | Sequence[torch.Generator] | None


@dataclass
class ExpIntSchedulerOutput(BaseOutput):
    """What a step returns.

    Attributes:
        prev_sample: the state at which the network is called next, or the sample after the last
            step; shape (batch, *event).
        pred_original_sample: the denoised estimate of this evaluation, after thresholding, of the
            same shape and dtype.
        log_prob: if it was asked for, log p of what the step drew, shape (batch,), float64.
    """

    prev_sample: Tensor
    pred_original_sample: Tensor | None = None
    log_prob: Tensor | None = None


class ExpIntScheduler(CountedSteps, Copied, NoisedStates, SchedulerMixin, ConfigMixin):
    """An exponential integrator as a scheduler: one `step` per network evaluation, stages included.

    State and timesteps are those of diffusers: variance-preserving states α x₀ + σ̄ ε with the
    table's indices as timesteps (what Euler and its relatives hold in σ, the network sees the
    same), or flow matching with timesteps num_train_timesteps · t. Noise is drawn from the
    `generator` of `step`, one state of normals per increment, or without one from `seed`.

    Args:
        num_train_timesteps, beta_start, beta_end, beta_schedule, trained_betas,
            rescale_betas_zero_snr, snr_shift_scale: the table; beta_schedule is "linear",
            "scaled_linear", "squaredcos_cap_v2", "exp" or "sigmoid". Given trained_betas are all of
            it. For flow matching num_train_timesteps is what the network takes per unit of time.
        sigma_min, sigma_max, lambda_min_clipped: ends of a grid on a table (of entries only the
            last counts), and for "continuous" of the schedule.
        continuous: for networks with v-prediction that are called with a function of σ: "log" for
            ¼ log σ (Stable Video Diffusion), "atan" for (2/π) arctan σ (Stable Audio).
        prediction_type: "epsilon", "sample", "v_prediction" or "flow_prediction"; the last means
            flow matching.
        use_flow_sigmas, shift, use_dynamic_shifting, time_shift_type, shift_terminal: flow
            matching, its shift (see `Flow`), and the level at which the last step begins.
        solver, solver_options: registered name, and arguments of its builder. Default: that of
            `expint.defaults` for as many steps.
        operations: what is done around each step, as text: ["churn(s_churn=40)"], see
            `expint.solvers.operation`.
        form, ell, eta, noise_scale: as for `expint.sample`; noise_scale is a name, and a list of ℓ
            or η has one entry for each step between finite noise levels of every run.
        grid: "linspace", "leading" or "trailing" entries of the table; "like_linspace" and so on,
            the default grid moved to within half a step of these; or one of `expint.grids.names()`.
            Default: that of `expint.defaults`; for flow matching that of its Euler scheduler, or
            with "trailing" 1, 1 − 1/n, … 1/n, as of schedulers with use_flow_sigmas.
        steps_offset: added to the entries of the grid "leading".
        final: "denoise" ends at σ = 0, "none" at the last σ of the grid.
        round_timesteps: whether the network of a table is called at its integers only; default:
            where solver and grid permit.
        thresholding, dynamic_thresholding_ratio, sample_max_value, clip_sample, clip_sample_range:
            limits of the denoised estimate, from which all else follows.
        seed: of the noise where `step` is given no generator, as by most pipelines of flow
            matching. None: a function of each sample's first state, so that equal latents give
            equal results, in any batch; an integer: that of a run, as for `expint.sample`;
            "torch": torch's global generator.
        plan: a plan for this table or flow, the path of its file (`expint.Plan.save`) or its
            content, in place of the solver, its options, the grid and `final`. The configuration
            holds its content. It takes as many steps as it has, from its beginning.

    Raises:
        ValueError: for a configuration that does not fit together, saying what would.

    Source: SEEDS, arXiv 2305.14267; the interface is that of Hugging Face diffusers.
    """

    _compatibles: ClassVar[list[str]] = [*_THEIRS, "FlowMatchEulerDiscreteScheduler"]

    @register_to_config
    @checked
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.0001,
        beta_end: float = 0.02,
        beta_schedule: str = "linear",
        trained_betas: Sequence[float] | None = None,
        rescale_betas_zero_snr: bool = False,
        prediction_type: str = "epsilon",
        snr_shift_scale: float = 1.0,
        sigma_min: float | None = None,
        sigma_max: float | None = None,
        lambda_min_clipped: float = -math.inf,
        continuous: str | None = None,
        use_flow_sigmas: bool = False,
        shift: float = 1.0,
        use_dynamic_shifting: bool = False,
        time_shift_type: str = "exponential",
        shift_terminal: float | None = None,
        solver: str | None = None,
        solver_options: dict[str, Any] | None = None,
        operations: Sequence[str] | None = None,
        form: str | None = None,
        ell: float | Sequence[float] | None = None,
        eta: float | Sequence[float] | None = None,
        noise_scale: str | None = None,
        grid: str | None = None,
        steps_offset: int = 0,
        final: str = "denoise",
        round_timesteps: bool | None = None,
        thresholding: bool = False,
        dynamic_thresholding_ratio: float = 0.995,
        sample_max_value: float = 1.0,
        clip_sample: bool = False,
        clip_sample_range: float = 1.0,
        seed: int | str | None = None,
        plan: PlanLike | None = None,
    ) -> None:
        check_noise(seed)
        self._schedule = tables.schedule_of(self.config)
        self.register_to_config(**held_plan(self.config, self._schedule))
        self._prediction = configs.prediction_of(self.config)
        self._method = method_of(self.config)
        self._limits = thresholding or clip_sample
        self._table = self._schedule if isinstance(self._schedule, TabulatedVP) else None
        self._per_time = tables.labels_per_time(self._schedule, self.config)
        self._near = 1e-3 if self._table else 1e-6 * self._per_time
        self.init_noise_sigma = 1.0
        self.num_inference_steps: int | None = None
        if self._table:
            self.timesteps = torch.arange(self._table.steps - 1, -1, -1)
            bars = self._table.alpha(self._times(self.timesteps.flip(0))).square()
            self.alphas_cumprod = bars.to(torch.float32)
            before = torch.cat([torch.ones_like(bars[:1]), bars[:-1]])
            self.betas = (1.0 - bars / before).to(torch.float32)
        else:
            times = torch.linspace(*self._schedule.sampling_range, num_train_timesteps)
            self.timesteps = times * self._per_time
        self.sigmas = self._levels(self._times(self.timesteps))
        self._given: dict[str, Any] | None = None
        self._plan: Plan | None = None
        self._round_time: Rounding = None
        langevin = sum(len(each.langevin) for each in self._method.operations)
        self._stages = self._order = self._method.tableau.evaluations + langevin
        self._reset()

    @classmethod
    def from_config(
        cls, config: Any = None, return_unused_kwargs: bool = False, **kwargs: Any
    ) -> Any:
        """A scheduler from the configuration of this or another one:
        `ExpIntScheduler.from_config(pipe.scheduler.config)`.

        Taken over are the table, what the network predicts, thresholding, clipping, and where the
        steps lie: exactly, if a solver is named, otherwise to within half a step (the grid
        "like_leading", for example). Keyword arguments come on top; with grid=None the steps lie as
        in `expint.sample`.

        Raises:
            ValueError: for schedulers of networks that are called in another way (EDM's) or have
                other noise levels.
        """
        known = configs.read_config(config, kwargs.get("solver"))
        return super().from_config(without_fixed(known, kwargs), return_unused_kwargs, **kwargs)

    @checked
    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: torch.device | str | None = None,
        timesteps: Sequence[float] | Tensor | None = None,
        sigmas: Sequence[float] | Tensor | None = None,
        mu: float | None = None,
    ) -> None:
        """Compile the plan of a run, and forget any run before it.

        Afterwards `timesteps` has one entry per network evaluation, int64 where they are integers
        of the table and float32 otherwise; every step but the ones at the ends takes `order` of
        them.

        Args:
            num_inference_steps: steps, the last of which is one evaluation (with final="denoise");
                a plan needs no number, and takes no other than its own.
            device: where `timesteps` lies.
            timesteps, sigmas: where the steps begin, in place of their number: timesteps of the
                network, or noise levels. Of flow matching both may be given: the network is then
                called with the timesteps, and linearly between them.
            mu: shift of flow matching with use_dynamic_shifting.

        Raises:
            ValueError: for anything that cannot be compiled, saying why.

        Warns:
            expint.PlanWarning: as `expint.sample` does.
        """
        device = None if device is None else usable_device(device)
        given = {"steps": num_inference_steps, "timesteps": timesteps, "sigmas": sigmas, "mu": mu}
        self._method = method_of(self.config, given)
        plan, self._round_time = plan_of(self.config, self._schedule, self._method, given)
        if plan.has_tangents:
            needed = "derivatives of the network, which no scheduler sees"
            raise ValueError(f"{plan.solver!r} takes {needed}: use expint.sample.")
        places = evaluation_times(plan)
        rules = torch.stack(to_denoiser(self._prediction, self._schedule, places))
        if not torch.isfinite(rules).all():
            raise ValueError(
                f"A prediction_type={self.config['prediction_type']!r} says nothing at sigma = "
                "infinity, where this run begins: use another one, or begin at a lower timestep."
            )
        warn_of(plan)
        self._plan, self._rules = plan, rules.T.tolist()
        starts = [*step_starts(plan), len(places)]
        counted = "evaluations" if num_inference_steps is None else "steps"
        self._order = StepOrder(self._stages, starts, counted=counted)
        self._knots = None
        if timesteps is not None and sigmas is not None:
            self._knots = tables.given_labels(plan.grid, timesteps)
        labels = places.round().long() if self._round_time else self._labels(places).float()
        self.timesteps = labels.to(device=device)
        self.sigmas = self._levels(torch.cat([places, plan.grid[-1:]]))
        self.num_inference_steps = plan.steps
        self._given = {**given, "device": device}
        self._reset()

    @checked
    def step(
        self,
        model_output: Tensor,
        timestep: float | Tensor,
        sample: Tensor,
        generator: Generators = None,
        return_dict: bool = True,
        return_log_prob: bool = False,
        prev_sample: Tensor | None = None,
        **others: Any,
    ) -> ExpIntSchedulerOutput | tuple[Tensor, ...]:
        """Take the network's output at `sample`, and go on to the state of the next evaluation.

        Half types are computed in float32. A state that was changed since the last step, for
        example masked, is taken as it is.

        Args:
            model_output: shape (batch, *event), or with twice the channels, of which the first half
                counts.
            timestep: the entry of `timesteps`; it says where a run begins, unless `set_begin_index`
                did.
            sample: shape (batch, *event).
            generator: one generator, or one per sample: then a sample depends on its own alone.
                None: see `seed`.
            return_dict: False for a tuple.
            return_log_prob: also give log p of the state drawn, given all before it; the terms of a
                run add up to that of `expint.rollout`.
            prev_sample: the state to go to in place of drawing one, for its log p, which is
                differentiable. For solvers of one evaluation a step.
            others: `eta=0` and `use_clipped_model_output`, which pipelines for DDIM pass, are not
                used: `ell` is chosen before the run.

        Returns:
            `ExpIntSchedulerOutput`, in the dtype and on the device of `sample`.

        Raises:
            ValueError: before `set_timesteps`, after the last evaluation, or for shapes that do not
                fit.
            FloatingPointError: at the end, if the state became NaN or infinite.
        """
        if self._plan is None:
            raise ValueError("There are no timesteps yet: call set_timesteps before step.")
        densities.check_others(others)
        kind = torch.promote_types(sample.dtype, torch.float32)
        state, output = sample.to(kind), without_variance(model_output.to(kind), sample)
        run = self._run or self._open(state, timestep, generator, return_log_prob)
        found = densities.opened(self._densities, return_log_prob, prev_sample)
        if run.done or self._step_index is None:
            made = f"All {len(self.timesteps)} evaluations are made"
            raise ValueError(f"{made}: call set_timesteps for a new run.")
        if state.shape != run.x.shape or output.shape != state.shape:
            raise ValueError(
                f"The run has states of shape {tuple(run.x.shape)}, but got {tuple(sample.shape)} "
                f"and {tuple(model_output.shape)}: call set_timesteps before another batch."
            )
        if generator is not None:
            self._noise.generators = generator
        run.replace_state(state)
        on_x, on_output = self._rules[self._step_index]
        denoised = configs.limit(on_x * state + on_output * output, self.config)
        run.feed(denoised if self._limits else output)
        self._step_index += 1
        reached = (run.result() if run.done else run.x).to(sample.dtype, copy=True)
        made = ExpIntSchedulerOutput(reached, denoised.to(sample.dtype), found and found.taken())
        return made if return_dict else made.to_tuple()

    def scale_model_input(self, sample: Tensor, timestep: Any = None) -> Tensor:
        """The state itself: it is held as the network takes it."""
        return sample

    def __len__(self) -> int:
        return self.config["num_train_timesteps"]

    def _reset(self) -> None:
        self._run: Run | None = None
        self._begin_index: int | None = None
        self._step_index: int | None = None

    def _open(self, state: Tensor, timestep: Any, generator: Generators, dense: bool) -> Run:
        """The run from a state that is given at its first evaluation."""
        assert self._plan is not None
        first = self._index_of(timestep) if self._begin_index is None else self._begin_index
        check_begin(self.config, first)
        plan = begin_at(self._plan, first, self._round_time)
        self._noise, self._step_index = LatentNoise(state, generator, self.config["seed"]), first
        if isinstance(self._order, StepOrder):
            self._order.first = first
        model = Description(self._schedule, "data" if self._limits else self._prediction)
        self._run, self._densities = densities.run_of(plan, model, state, self._noise, dense)
        return self._run
