"""Samples of a run computed batch by batch, in smaller ones where memory does not do."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from expint.noise import initial_state, per_sample
from expint.numerics.devices import usable_device
from expint.numerics.float64 import is_whole
from expint.plans import Plan
from expint.runs.model import describe
from expint.sampling import sample

_CPU_BATCH, _LARGEST_BATCH, _PROBED = 64, 1024, 16


class Batches:
    """Samples of a run by their places 0, 1, … in it; `trouble` is why a sample did not stay
    finite.

    Args:
        model: any model of `expint.sample`.
        shape: of one sample.
        plan: what is run.
        num: how many samples there are.
        seed, seeds, start: as in `expint.sample`, for all samples of the run.
        labels: one per sample, or None.
        conditioned: the model for the samples of some labels; default: `model.with_labels`.
        batch: samples computed at a time. Default: 64 on the CPU; elsewhere as many of 1024 as
            there is memory for.
        dtype, device, compile: as in `expint.sample`.
    """

    def __init__(
        self, model: Any, shape: Sequence[int], plan: Plan, num: int, *, seed: int | None = None,
        seeds: Sequence[int] | None = None, start: int = 0, labels: Sequence[int] | None = None,
        conditioned: Callable[[Sequence[int]], Any] | None = None, batch: int | None = None,
        **options: Any,
    ) -> None:  # fmt: skip
        self.device = usable_device(options.get("device") or describe(model).device or "cpu")
        self.batch = batch or (_CPU_BATCH if self.device.type == "cpu" else _LARGEST_BATCH)
        self.labels = None if labels is None else np.asarray(labels).reshape(-1).tolist()
        if self.labels is not None:
            if (came := len(self.labels)) != num:
                raise ValueError(f"There is one label for each sample: {came} for {num}.")
            if wrong := [label for label in self.labels if not is_whole(label)]:
                raise ValueError(f"Labels are whole numbers, got {wrong[0]!r}.")
            self._conditioned = conditioned or model.with_labels
            self._conditioned(sorted(set(self.labels)))  # refuses unknown ones
        self.trouble = ""
        self._shape, self._plan, self._options = tuple(shape), plan, options
        self._run, self._model = (seed, start), model
        self._seeds = None if seeds is None else per_sample(seed, num, seeds=seeds, start=start)

    def seeds(self, places: range) -> tuple[int, ...]:
        """The seeds of the samples at these places."""
        if self._seeds:
            return self._seeds[places.start : places.stop]
        seed, start = self._run
        return per_sample(seed, len(places), start=start + places.start)

    def draw(
        self, places: range, seen: Callable[[range, int], Any],
        not_finite: list[int] | None = None, into: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """The samples at these places, float32 on the CPU, shape (n, *shape).

        Args:
            places: of the samples.
            seen: called after every step with the places of a batch, and the evaluations of it that
                are done.
            not_finite: gets the places of samples that did not stay finite, which are then NaN;
                without it they are an error.
            into: where they are written.

        Raises:
            FloatingPointError: as `expint.sample`, without `not_finite`.
            torch.OutOfMemoryError, MemoryError: if there is no memory for a single sample.
        """
        pinned = self.device.type == "cuda"  # into such memory a GPU copies while it goes on
        if into is None:
            into = torch.empty((len(places), *self._shape), pin_memory=pinned)
        rest = into
        while places:
            part, own = places[: self.batch], rest[: self.batch]
            try:
                own.copy_(self._sample(part, seen), non_blocking=pinned)
            except FloatingPointError as error:
                if not_finite is None:
                    raise
                self.trouble = str(error)
                half = len(part) // 2
                if half:  # which they are is found by halves
                    self.draw(part[:half], seen, not_finite, own[:half])
                    self.draw(part[half:], seen, not_finite, own[half:])
                else:
                    not_finite += part
                    own.fill_(torch.nan)
            except (RuntimeError, MemoryError) as error:
                if len(part) == 1 or not _is_of_memory(error):
                    raise
                self.batch = len(part) // 2
                continue
            places, rest = places[len(part) :], rest[len(part) :]
        if pinned:
            torch.cuda.synchronize(self.device)
        return into

    def probe(self) -> list[float]:
        """A few numbers of the model's output for the first sample, by which it is known."""
        called = [row.evaluates for row in self._plan.rows]
        times = self._plan.times.detach()[called]
        time, schedule = times[len(times) // 2], describe(self._model).schedule
        x = initial_state(self.seeds(range(1)), self._shape, torch.float32, self.device)
        with torch.no_grad():
            x = x * float(schedule.std(time))
            time = time if self.device.type == "mps" else time.to(self.device)
            output = self._model_for(range(1))(x, time).flatten()
        few = output[:: -(-len(output) // _PROBED)].double()
        return few.nan_to_num(posinf=0.0, neginf=0.0).tolist()

    def _model_for(self, places: range) -> Any:
        if self.labels is None:
            return self._model
        return self._conditioned(self.labels[places.start : places.stop])

    def _sample(self, places: range, seen: Callable[[range, int], Any]) -> Tensor:
        drawn = sample(
            self._model_for(places),
            (len(places), *self._shape),
            plan=self._plan,
            seeds=self.seeds(places),
            callback=lambda step, nfe, *_: seen(places, nfe),
            progress=False,
            **self._options,
        )
        return drawn.float()


def _is_of_memory(error: Exception) -> bool:
    """Torch has a class for it on some devices; on others it is told by its words alone."""
    known = isinstance(error, (torch.OutOfMemoryError, MemoryError))
    return known or any(words in str(error) for words in ("out of memory", "allocate memory"))
