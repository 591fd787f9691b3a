"""The second moment of the noise that a network predicts, Γ(t) = E|ε(x_t, t)|²/d, measured on data.

It is the statistic of Analytic-DPM (`expint.solvers.analytic_dpm`): for the perfect network the
mean variance that the data still have given x_t is σ² (1 − Γ). Estimated by Monte Carlo over x_t =
α x_0 + σ̄ z.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from expint.grids import uniform_lambda
from expint.noise import initial_state, per_sample
from expint.noise.source import Seeds
from expint.numerics.float64 import as_float64, is_whole
from expint.registry import unknown
from expint.results import write_json
from expint.runs import Reparametrized
from expint.runs.model import Description, describe

ESTIMATORS = ("moment", "residual")

_LEAST = 1e-12  # how near estimates may come to 0 and 1 where their odds are interpolated
# A step whose start is rounded out of the range by no more than this, in λ, is inside.
_SLACK = 1e-6


@dataclass(frozen=True)
class SecondMoment:
    """Γ at some times, and between them: callable with λ.

    Γ depends on time through λ only, so that the statistic serves the network with any time grid
    and any equivalent schedule.

    Args:
        times: where it was measured, from noise to data.
        lams: λ at these times, strictly increasing.
        values: Γ there, finite and ≥ 0. Estimates may come out above 1.
        errors: standard errors of the values.
        count: draws of x_t per time.
        schedule: the noise schedule, in words.
        estimator: how it was estimated, see `second_moment`; "exact" for a formula.

    Raises:
        ValueError: naming the field that does not fit.

    Example:
        >>> import torch
        >>> moment = SecondMoment((1.0, 0.5), (-2.0, 0.0), (0.9, 0.4), (0.01, 0.01), 1000, "VP")
        >>> [round(x, 3) for x in moment(torch.tensor([-2.0, -1.0, 0.0])).tolist()]
        [0.9, 0.71, 0.4]
    """

    times: tuple[float, ...]
    lams: tuple[float, ...]
    values: tuple[float, ...]
    errors: tuple[float, ...]
    count: int
    schedule: str
    estimator: str = "moment"

    def __post_init__(self) -> None:
        columns = {name: getattr(self, name) for name in ("times", "lams", "values", "errors")}
        for name, column in columns.items():
            numbers = isinstance(column, tuple | list) and {*map(type, column)} <= {int, float}
            self._need(numbers, name, "a sequence of numbers")
            object.__setattr__(self, name, tuple(map(float, column)))
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) > 1 or not self.times:
            raise ValueError(
                "The columns of a SecondMoment have one entry per time, and there is at least "
                f"one; got {lengths}."
            )
        increasing = all(a < b for a, b in pairwise(self.lams))
        finite = all(map(math.isfinite, self.lams))
        self._need(increasing and finite, "lams", "finite and increase from noise to data")
        for name in ("values", "errors"):
            self._need(all(0 <= x < math.inf for x in getattr(self, name)), name, "finite and >= 0")
        self._need(is_whole(self.count) and self.count > 0, "count", "a positive integer")
        for name in ("schedule", "estimator"):
            self._need(isinstance(getattr(self, name), str), name, "a string")

    def _need(self, fits: bool, name: str, what: str) -> None:
        if not fits:
            raise ValueError(f"SecondMoment.{name} must be {what}, got {getattr(self, name)!r}.")

    def __call__(self, lam: Any) -> Tensor:
        """Γ at λ, float64, of the shape of `lam`, between 0 and 1.

        log(Γ/(1 − Γ)) is interpolated linearly in λ: that is exact for isotropic Gaussian data,
        where it is −2λ − log v, and keeps the digits of 1 − Γ at high noise, where it falls off
        like 1/σ².

        Raises:
            ValueError: for λ outside the range that was measured.
        """
        at = as_float64(lam)
        low, high = self.lams[0], self.lams[-1]
        outside = ~((at >= low - _SLACK) & (at <= high + _SLACK))
        if outside.any():
            raise ValueError(
                f"The second moment is known for lambda from {low:.6g} to {high:.6g} (times "
                f"{self.times[0]:.6g} to {self.times[-1]:.6g}), not at lambda = "
                f"{at[outside].reshape(-1)[0].item():.6g}: measure it at times that reach as far "
                "as the grid."
            )
        # Constant beyond the last node, so that one node has an interval too.
        odds = torch.logit(as_float64([*self.values, self.values[-1]]), eps=_LEAST)
        nodes = as_float64([*self.lams, high + 1.0])
        left = torch.searchsorted(nodes[1:], at.detach().contiguous())
        part = ((at - nodes[left]) / (nodes[left + 1] - nodes[left])).clamp(0.0, 1.0)
        return torch.sigmoid(odds[left] + part * (odds[left + 1] - odds[left]))

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON-able values."""
        return asdict(self)

    def save(self, file: str | Path) -> None:
        """Write it as JSON, whole or not at all.

        Raises:
            OSError: if that is not possible; an older file is then still there.
        """
        write_json(file, self.to_dict())

    @classmethod
    def load(cls, file: str | Path) -> "SecondMoment":
        """Read what `save` wrote.

        Raises:
            ValueError: if the file cannot be read or is not such a file, with what is wrong.
        """
        names = {field.name for field in fields(cls)}
        try:
            content = json.loads(Path(file).read_text(encoding="utf-8"))
            found = sorted(content) if isinstance(content, dict) else [type(content).__name__]
            if set(found) != names:
                raise ValueError(f"it should have the fields {sorted(names)}, got {found}")
            return cls(**content)
        except (OSError, ValueError) as error:
            raise ValueError(f"Cannot read a second moment from {str(file)!r}: {error}") from error


def second_moment(
    model: Any,
    data: Any,
    times: int | Sequence[float] | Tensor = 50,
    *,
    draws: int | None = None,
    seed: int = 0,
    batch: int = 256,
    estimator: str = "moment",
    conditioned: Callable[[Sequence[int]], Any] | None = None,
    progress: bool = False,
) -> SecondMoment:
    """Measure Γ(t) = E|ε(x_t, t)|²/d of a model on data, by x_t = α x_0 + σ̄ z: one evaluation per
    draw and time.

    Args:
        model: model(x, t) with attributes `schedule` and `prediction` (and `sigma_data` for
            "precond").
        data: samples x_0 as the network knows them (images in [-1, 1]), floating, shape (n,
            *event), float32 or float64.
        times: from noise to data, between finite noise levels; or how many, uniform in λ over the
            schedule's sampling range. They are rounded to those that the network knows, if it is
            called at those only.
        draws: how many draws of (x_0, z) per time, the same for all times; default: n. They are
            spread evenly over the data.
        seed: the run whose samples are the z: draw i is a function of (seed, i).
        batch: draws computed at a time.
        estimator: "moment", the mean of |ε|²/d itself (arXiv 2201.06503, section 3); or "residual",
            one minus the mean of |z − ε|²/d, which is the same for the perfect network, has a far
            smaller error at high noise, and for an imperfect one gives the variance that is best
            with that network's mean (NPR-DPM, arXiv 2206.07309).
        conditioned: conditioned(items) gives the model with the conditions of those data items, for
            a conditional network.
        progress: show a progress bar.

    Returns:
        The estimates with their standard errors.

    Raises:
        TypeError, ValueError: before the first evaluation, for anything that does not fit.
        FloatingPointError: if the network's output is not finite.

    Example:
        >>> from expint import targets
        >>> from expint.schedules import VP
        >>> target = targets.Gaussian([0.0] * 4, 1.0, VP())
        >>> moment = second_moment(target, target.sample(500), [1.0, 0.5, 0.1])
        >>> all(
        ...     abs(x - VP().std(t) ** 2) < 5 * e
        ...     for t, x, e in zip(moment.times, moment.values, moment.errors)
        ... )
        True
    """
    described = describe(model)
    schedule, clean = described.schedule, _check_data(data)
    count = len(clean) if draws is None else draws
    for name, value, least in (("draws", count, 2), ("batch", batch, 1)):
        if not is_whole(value) or value < least:
            raise ValueError(f"{name} must be an integer >= {least}, got {value!r}.")
    if estimator not in ESTIMATORS:
        raise unknown("estimator", estimator, ESTIMATORS)
    seeds = per_sample(seed, count)
    at = _check_times(described, times)
    alphas, stds = schedule.alpha(at).tolist(), schedule.std(at).tolist()
    predicted = Reparametrized(model, "noise")
    squares = torch.empty(len(at), count, dtype=torch.float64)
    total = len(at) * -(-count // batch)
    with torch.inference_mode(), tqdm(total=total, disable=not progress, unit="evaluation") as bar:
        for begin in range(0, count, batch):
            part = range(begin, min(begin + batch, count))
            # Evenly over the data, or over and over them.
            items = [i * len(clean) // min(count, len(clean)) % len(clean) for i in part]
            if conditioned is not None:
                predicted = Reparametrized(conditioned(items), "noise")
            x, own = clean[items], Seeds(seeds[part.start : part.stop])
            z = initial_state(own, x.shape[1:], x.dtype, x.device)
            for k, t in enumerate(at):
                found = predicted(alphas[k] * x + stds[k] * z, t).to(x.dtype)
                measured = found if estimator == "moment" else z - found
                squares[k, part] = measured.flatten(1).to(torch.float64).square().mean(1).cpu()
                bar.update(1)
    if not torch.isfinite(squares).all():
        where = at[~torch.isfinite(squares).all(1)][0].item()
        raise FloatingPointError(
            f"The model's prediction became NaN or infinite at t = {where:.6g}."
        )
    means, errors = squares.mean(1), squares.std(1) / math.sqrt(count)
    values = means if estimator == "moment" else (1.0 - means).clamp(min=0.0)
    columns = (tuple(column.tolist()) for column in (at, schedule.lam(at), values, errors))
    return SecondMoment(*columns, count=int(count), schedule=str(schedule), estimator=estimator)


def _check_data(data: Any) -> Tensor:
    clean = torch.as_tensor(data)
    if clean.dtype not in (torch.float32, torch.float64):
        raise TypeError(
            "data must be float32 or float64, scaled as the network knows them (images in [-1, "
            f"1]), got {clean.dtype}."
        )
    if clean.ndim < 2 or not clean.numel():
        raise ValueError(f"data must have shape (n, *event) with n >= 1, got {tuple(clean.shape)}.")
    if not torch.isfinite(clean).all():
        raise ValueError("data contain NaN or infinity.")
    return clean


def _check_times(model: Description, times: Any) -> Tensor:
    schedule = model.schedule
    if is_whole(times):
        if times < 1:
            raise ValueError(f"times must be at least 1 time, got {times!r}.")
        at = uniform_lambda(schedule, max(times - 1, 1), final="none")[:times]
        if schedule.lam(at[0]) == -math.inf:
            raise ValueError(
                f"{schedule} starts at infinite sigma: give a list of times, the first with finite "
                "sigma."
            )
    else:
        at = as_float64(times)
    if at.ndim != 1 or not len(at):
        raise ValueError(f"times is a 1-D sequence from noise to data, or how many, got {times!r}.")
    low, high = schedule.domain
    if not (torch.isfinite(at).all() and (at >= low).all() and (at <= high).all()):
        raise ValueError(
            f"times must lie in the domain of {schedule}, {low:.6g} to {high:.6g}, got "
            f"{at.tolist()}."
        )
    if model.round_time is not None:
        at = torch.unique_consecutive(model.round_time(at))
    lam = schedule.lam(at)
    if not (torch.isfinite(lam).all() and (lam[1:] > lam[:-1]).all()):
        raise ValueError(
            f"times must go from noise to data, between finite noise levels, got {at.tolist()}."
        )
    return at
