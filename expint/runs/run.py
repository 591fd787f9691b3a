"""Run a plan: a short loop that calls the network and takes a few fused tensor operations per
row."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from expint.blocks import Block
from expint.guards.finite import FiniteCheck, check_range, check_result, check_state
from expint.guards.model_calls import ModelCalls, check_output
from expint.noise import NoiseSource, NoiseStream
from expint.plans import Plan, Row
from expint.plans.plan import Coefficient
from expint.runs.conversions import conversion_rates, conversions
from expint.runs.forward_mode import rate_of_change
from expint.runs.row_noise import RowNoise

Callback = Callable[[int, int, float, Tensor, Tensor], Any]
"""callback(step, nfe, t, x, denoised) after every step: steps and evaluations done, time and state
reached, latest denoised."""


def execute(
    plan: Plan,
    model: Any,
    x: Tensor,
    noise: NoiseSource | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """`expint.execute` without its checks of plan, model and scale: for studies, whose states have
    any size."""
    run = Run(plan, model, x, noise, rates=True)
    drive(run, model, callback)
    return run.result()


def drive(
    run: "Run", model: Any, callback: Callback | None = None, evaluations: int | None = None
) -> None:
    """Call the model and feed the run, to the end or for some evaluations."""
    left = run.plan.nfe if evaluations is None else evaluations
    while left > 0 and not run.done:
        run.feed(run.evaluate(model), callback, model)
        left -= 1


class Run:
    """A run of a plan that is fed one evaluation at a time; `drive` does.

    Args: those of `execute`; of the model only its attributes are used here. `on_row(row, state)`
        sees every state, and may return another one to go on from.

    While not `done`, give `feed` the model's output at state `x` and time `time`, and with `rates`
    (without, plans that take derivatives are refused) the model too. It sees the state in `dtype`,
    by default its own. Without `checked` states may be NaN: the caller looks at them. With
    `keeps_latest` a snapshot has the latest evaluation.
    """

    def __init__(
        self,
        plan: Plan,
        model: Any,
        x: Tensor,
        noise: NoiseSource | None = None,
        on_row: Callable[[int, Tensor], Any] | None = None,
        *,
        rates: bool = False,
        dtype: torch.dtype | None = None,
        checked: bool = True,
        keeps_latest: bool = False,
    ) -> None:
        if checked:
            check_state(x)
        if plan.has_tangents and not rates:
            raise ValueError(
                f"{plan.solver!r} takes derivatives of the model, and here it is fed evaluations "
                "alone: use expint.execute or expint.sample, or a solver without derivatives."
            )
        self.plan, self._on_row = plan, on_row
        self.dtype = dtype or x.dtype
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        self._converts = conversions(plan, model)
        self._conversion_rates = conversion_rates(plan, model)
        self._stream = _open_noise(plan, noise, x)
        check_range(plan, x.dtype)
        self._rows = _rows_for(plan, x)
        self._times = _model_times(plan, x)
        self._last_use = {j: i for i, row in enumerate(plan.rows) for j, _ in row.weights}
        # Evaluations that are used by rows of another prediction: by a last step to σ = 0 without
        # an evaluation of its own.
        pairs = ((j, row) for row in plan.rows for j, _ in row.weights if j >= 0)
        self._as_data = {j for j, row in pairs if plan.rows[j].prediction != row.prediction}
        self._noise = RowNoise(plan, self._rows, self._stream)
        self._slots: dict[int, Tensor] = {}
        self._anchor = x
        self._finite = FiniteCheck(plan) if checked else None
        self._calls = ModelCalls(plan)
        self._keeps_latest = keeps_latest
        self._latest: tuple[int, Tensor, Tensor] | None = None
        self._axis = plan.sde.blocks.axis if plan.sde.blocks else 1
        self.x, self.row, self.nfe = x, 0, 0
        self._updates(None)

    @property
    def done(self) -> bool:
        """Whether the end of the grid is reached."""
        return self.row == len(self._rows)

    @property
    def time(self) -> Tensor:
        """Time of the next evaluation, a 0-dimensional float64 tensor on the state's device."""
        return self._times[self.row]

    def evaluate(self, model: Any) -> Tensor:
        """The model's output at `x` and `time`; the state is safe from a model that changes its
        input."""
        return self._calls.call(model, self.x, self.dtype, self.time)

    def feed(self, output: Tensor, callback: Callback | None = None, model: Any = None) -> None:
        """Take the model's output at `x` and `time`, and go on to the next state that needs an
        evaluation. `model` is called only where the row takes the derivative of F along the ODE."""
        i, blocks = self.row, self.plan.sde.blocks
        check_output(output, blocks.like_output(self.x) if blocks else self.x)
        self._differentiate(model, output)
        value = self._converts[i].apply(output, self.x)
        self._slots[i] = self._calls.kept(output, value, self._slots.values(), self.time)
        wanted = self._keeps_latest or callback is not None or i in self._as_data
        self._latest = (i, output, self.x) if wanted else None
        self.nfe += 1
        del output, value  # they would lie beside the new state
        self._advance(callback)
        self._updates(callback)

    def replace_state(self, state: Tensor) -> None:
        """Go on from a state that the caller changed.

        In place: at the start of a step it is also the one that the step starts from.
        """
        self.x.copy_(state)

    def _differentiate(self, model: Any, output: Tensor) -> None:
        """Take the derivative of F along the ODE if the row uses it."""
        i = self.row
        tangent = self._rows[i].tangent
        if tangent is not None:
            rules = (self._converts[i].to_f, self._conversion_rates[i])
            self._slots[~i] = rate_of_change(model, self.x, self.time, output, tangent, *rules)
            self.nfe += 1

    def result(self) -> Tensor:
        """The state at the end.

        Raises:
            FloatingPointError: if the state became NaN or infinite, with the first step and time
                where it did.
        """
        if self._finite is not None:
            self._finite.wait()
        result = self.x.to(self.dtype)
        # A half type may overflow.
        return check_result(result) if self._finite and result is not self.x else result

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, int]]:
        """The state between two evaluations: tensors by name, and how far the run is. The noise is
        drawn anew."""
        slots = {f"slot {j}": value for j, value in self._slots.items()}
        tensors = {"x": self.x, "anchor": self._anchor, **slots}
        position = {"row": self.row, "nfe": self.nfe, "latest": -1}
        if self._latest is not None:
            position["latest"], tensors["latest output"], tensors["latest x"] = self._latest
        return tensors, position

    def restore(self, tensors: Mapping[str, Tensor], position: Mapping[str, int]) -> None:
        """Go to where another run of the same plan, model and noise was, or go on with other
        tensors; the noise between here and there is drawn."""
        for row in range(self.row, position["row"]):
            self._noise.terms(row)
        self.row, self.nfe = position["row"], position["nfe"]
        self.x, self._anchor = tensors["x"], tensors["anchor"]
        slots = ((name.split(), value) for name, value in tensors.items())
        self._slots = {int(name[1]): value for name, value in slots if name[0] == "slot"}
        if position["latest"] >= 0:
            self._latest = position["latest"], tensors["latest output"], tensors["latest x"]

    def _updates(self, callback: Callback | None) -> None:
        """Rows that need no evaluation."""
        while not self.done and not self._rows[self.row].evaluates:
            self._advance(callback)

    def _advance(self, callback: Callback | None) -> None:
        """Form the state that the current row produces."""
        i, slots = self.row, self._slots
        row = self._rows[i]
        known = slots.__getitem__
        if any(j >= 0 and self._rows[j].prediction != row.prediction for j, _ in row.weights):
            known = self._denoised
        self.x = self._anchor  # no other is needed any more
        self.x = state = _scaled(row.scale, self._anchor, self._axis)
        _add(state, [(weight, known(j)) for j, weight in row.weights], self._axis)
        for j in [j for j in slots if self._last_use.get(j, -1) <= i]:
            del slots[j]
        if self.plan.ends_substep[i]:
            self._anchor = state
        _add(state, self._noise.terms(i), self._axis)
        self.row = i + 1
        if self._on_row is not None and (wanted := self._on_row(i, state)) is not None:
            state.copy_(wanted)
        if self.plan.ends_step[i]:
            if self._finite is not None:
                self._finite.see(row.step, state)
            if callback is not None and self._latest is not None:
                k, output, x = self._latest
                denoised = self._converts[k].denoised(output, x).to(self.dtype, copy=True)
                reached = float(row.target), state.to(self.dtype, copy=True)
                callback(row.step + 1, self.nfe, *reached, denoised)

    def _denoised(self, j: int) -> Tensor:
        """The denoised estimate of evaluation j, which is the latest."""
        assert self._latest is not None and self._latest[0] == j
        return self._converts[j].denoised(self._latest[1], self._latest[2])


def _scaled(scale: Coefficient, x: Tensor, axis: int) -> Tensor:
    """scale · x; 0 where the scale vanishes: the start may be infinitely far."""
    if not isinstance(scale, Tensor):
        return torch.zeros_like(x) if scale == 0.0 else torch.mul(x, scale)
    return scale.on(x, axis).contiguous() if isinstance(scale, Block) else torch.mul(x, scale)


def _add(state: Tensor, terms: Sequence[tuple[Coefficient, Tensor]], axis: int) -> None:
    """state + Σ coefficient · term: the one update of a state."""
    for coefficient, term in terms:
        if not isinstance(coefficient, Tensor):
            state.add_(term, alpha=coefficient)
        elif isinstance(coefficient, Block):
            state.add_(coefficient.on(term, axis))
        else:
            state.addcmul_(term, coefficient)


def _open_noise(plan: Plan, noise: NoiseSource | None, x: Tensor) -> NoiseStream | None:
    if not plan.run:
        return None
    if noise is None:
        raise ValueError(
            f"{plan.solver!r} on {plan.sde} uses {plan.normals} Gaussians per component: give a "
            f"noise source, for example expint.noise.Gaussian(range({x.shape[0]})), or use ell=0."
        )
    return noise.stream(x, plan.run)


def _model_times(plan: Plan, x: Tensor) -> tuple[Tensor, ...]:
    """Times of the evaluations as 0-dimensional float64 tensors, on the state's device where it has
    float64."""
    return (plan.times if x.device.type == "mps" else plan.times.to(x.device)).unbind(0)


def _rows_for(plan: Plan, x: Tensor) -> Sequence[Row]:
    """The plan's rows with coefficients that are tensors moved to the state's device and dtype,
    once."""
    numbers = (v for row in plan.rows for v in (row.scale, *dict(row.weights).values(), *row.noise))
    if not any(isinstance(value, Tensor) for value in numbers):
        return plan.rows

    def moved(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(moved(item) for item in value)
        return value.to(x).as_subclass(type(value)) if isinstance(value, Tensor) else value

    return [Row(*(moved(value) for value in row)) for row in plan.rows]
