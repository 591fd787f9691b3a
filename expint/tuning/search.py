"""Find the plan for a model and a number of evaluations."""

import math
import sys
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from expint.noise.source import check_seed
from expint.numerics.float64 import is_whole
from expint.plans import Plan
from expint.runs import describe
from expint.solvers.registry import Solver
from expint.tuning import starts as begin
from expint.tuning.journal import Journal
from expint.tuning.objective import Features, Objective, SampleObjective
from expint.tuning.pairs import pair_counts
from expint.tuning.pathwise import Paths
from expint.tuning.stages import Search

_LEAST = 2000


def tune(
    model: Any,
    nfe: int,
    *,
    solver: Solver | str = "auto",
    ell: float | tuple[float, float] | str = 1.0,
    loss: Features | Objective | None = None,
    reference: Tensor | None = None,
    shape: Sequence[int] | None = None,
    budget: int = 150_000,
    seed: int = 0,
    journal: str | Path | None = None,
    progress: bool = True,
) -> Plan:
    """The best plan with at most `nfe` evaluations that a search finds for this model.

    First along paths: several solvers on several grids are compared, sample by sample, with fine
    solutions of the ODE from the same initial states, and every number of every step (grid, trust
    in extrapolation) of the best is moved by least squares. What comes out is tried at several
    levels of ℓ, beside the solvers on the default grid and on those of DMN, Align Your Steps, GITS
    and OSS, each against fine solutions of its own equation along the same Brownian paths; so small
    errors show on few samples. Of the nearest, and the nearest with another ℓ, five numbers (shape
    of the grid, trust) are then moved in law, by the energy distance from these solutions, without
    gradients. What is nearest on samples that the search has not seen is kept; another ℓ than 1
    only if it gains more than the law of an imperfect network differs there. Where distances cost
    nothing, gradients move all numbers in the end.

    Args:
        model: model(x, t) with `schedule` and `prediction`, as for `expint.sample`.
        nfe: network evaluations of the plan.
        solver: "auto", or the solver to be tuned.
        ell: ℓ of every step: a number; a pair, between which it is chosen, one for all steps (of
            an exact objective one for each); "free", the same as (0, 2).
        loss: what is minimised: None, the energy distance of samples and of what is finer in them;
            a function that makes (n, d) features of samples, in the place of the network's own; or
            an `Objective`.
        reference: samples of another law that is aimed at, (n, *event), which decide in the end
            (`SampleObjective`): what followed the paths is kept unless the default plan is nearer
            by more than that distance's noise. Default: the solutions alone.
        shape: of one sample; default: the model's attribute.
        budget: evaluations of the network on one sample that the search may take.
        seed: of all samples; another seed, another search.
        journal: a file that keeps every value that was measured. A search that was stopped, and is
            begun again with the same arguments and the same file, goes on where it was, with the
            same result; the model and the loss must be the same, and are not compared.
        progress: show a progress bar with the distance reached.

    Returns:
        The plan; its `about` has the distance on held-out samples and that of the default plan,
        how many samples these are, what the search cost in evaluations, and which trials failed.

    Raises:
        TypeError, ValueError: before the first evaluation for anything that does not fit, such as
            fewer evaluations than the solver needs, or the journal of another search.
        FloatingPointError: if no plan gives a finite distance, with the step and time of the first.
        KeyboardInterrupt: with the best distance so far, and how to go on.

    Example:
        >>> import expint
        >>> data = expint.targets.Gaussian([0.0], [0.25], expint.schedules.EDM())
        >>> exact = expint.tuning.GaussianObjective(data)
        >>> plan = expint.tune(data, 5, ell=0.0, loss=exact, progress=False)
        >>> plan.nfe, plan.about["distance"] < 1e-6
        (5, True)
    """
    about = describe(model)
    bounds = begin.bounds_of(ell)
    reference = None if reference is None else torch.as_tensor(reference)
    if not is_whole(nfe) or nfe < 1:
        raise ValueError(f"nfe is a positive number of evaluations, got {nfe!r}.")
    if not is_whole(budget) or budget < _LEAST * nfe:
        raise ValueError(
            f"budget is at least {_LEAST} samples of {nfe} evaluations, {_LEAST * nfe}, got "
            f"{budget!r}."
        )
    if loss is not None and not isinstance(loss, Objective) and not callable(loss):
        raise TypeError(f"loss is a function that makes features, or an Objective, got {loss!r}.")
    check_seed(seed)
    starts = list(begin.starts_of(about, nfe, solver, bounds))
    size = None if isinstance(loss, Objective) else begin.shape_of(about, reference, shape)
    aim = None if reference is None else sha256(reference.cpu().numpy().tobytes()).hexdigest()
    arguments = {
        "nfe": nfe, "solver": str(solver), "ell": list(bounds), "reference": aim, "seed": seed,
        "shape": size and list(size), "loss": type(loss).__name__, "budget": budget,
    }  # fmt: skip
    kept = Journal(journal, arguments)

    features = None if isinstance(loss, Objective) else loss
    event = loss.shape if isinstance(loss, SampleObjective) else size

    counts = pair_counts(budget, nfe, bounds)

    @cache
    def paths() -> Paths:
        return Paths(model, event or (), features, seed, counts)

    @cache
    def objective() -> Objective:
        if isinstance(loss, Objective) or reference is None:
            return loss if isinstance(loss, Objective) else paths()
        return SampleObjective(model, size or (), reference, features, seed)

    own = reference is None and not isinstance(loss, Objective)
    kind = type(loss) if isinstance(loss, Objective) else Paths if own else SampleObjective
    with tqdm(total=budget, disable=not progress, unit="evaluations", desc="reference") as bar:
        many = prod(event or (0,))
        search = Search(objective, paths, counts, many, own, about, nfe, budget, bar, kept, kind)
        try:
            return search.best(starts, bounds)
        except KeyboardInterrupt:
            way = f"journal={str(journal)!r}" if journal else "a journal from the beginning"
            least = f"; the best distance so far is {search.least:.4g}"
            least = least if math.isfinite(search.least) else ""
            text = f"Stopped{least}. To go on where a search stopped, give the same arguments and "
            text += f"{way}."
            bar.write(text, file=sys.stderr)  # click has its own word for the exception
            raise KeyboardInterrupt(text) from None
