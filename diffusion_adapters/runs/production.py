"""Draw a run of many samples into a folder: by any number of processes, and again after any of
them was killed.
"""

import errno
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from hashlib import sha256
from math import prod
from pathlib import Path
from time import perf_counter, sleep
from typing import Any, Unpack

import numpy as np
import torch
from tqdm.auto import tqdm

from diffusion_adapters.background import Background
from diffusion_adapters.pictures import write_pictures
from diffusion_adapters.runs.batches import Batches
from diffusion_adapters.runs.claims import Claim, Claims, TakenOverError
from diffusion_adapters.runs.folder import MANIFEST, MERGED, SHARDS, RunFolder
from diffusion_adapters.runs.origin import origin
from diffusion_adapters.sealed_json import unsealed
from expint.numerics.float64 import is_whole
from expint.registry import check_choice
from expint.runs.model import describe, identity, weights
from expint.sampling import SamplingOptions, arguments_for, plan_sampling, title
from expint.solvers.registry import Solver

IMAGES = ("none", "png")
_SHARD, _BYTES = 1000, 2**28  # most samples of a shard, and most memory
_LOGGED = 10.0  # seconds between two lines of progress, where they go to a file
_POLL = 0.5  # seconds between two looks at what other processes have done


def draw(
    model: Any,
    num: int,
    solver: Solver | None = None,
    *,
    out: str | Path,
    shape: Sequence[int] | None = None,
    seed: int | None = None,
    seeds: Sequence[int] | None = None,
    start: int = 0,
    labels: Sequence[int] | None = None,
    conditioned: Callable[[Sequence[int]], Any] | None = None,
    batch: int | None = None,
    shard: int | None = None,
    merge: bool = False,
    images: str = "none",
    patience: float = 300.0,
    about: Mapping[str, Any] | None = None,
    progress: bool = True,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    compile: bool | str = False,
    **options: Unpack[SamplingOptions],
) -> RunFolder:
    """Draw the samples of a run into a folder, in shards that are written as they are finished.

    The same call on a folder continues what is there, whatever stopped it; any number of processes
    may make it at the same time, and each returns when all samples are there. A sample depends on
    neither the batch it is computed in nor the process, if the model gives the same for each sample
    in any batch (on one kind of machine; networks differ by rounding). A shard is written while
    the next is drawn; no more than the two are kept in memory.

    Args:
        model, solver, options: as in `expint.sample`; the steps are fixed.
        num: how many samples.
        out: the folder.
        shape: of one sample; default: what the model says.
        seed, seeds, start: as in `expint.sample`.
        labels: a class for each sample, whole numbers ≥ 0.
        conditioned: makes the model for the samples of some labels, for example
            `lambda labels: cfg(model.with_labels(labels), 2.0)`; default: `model.with_labels`.
        batch: samples computed at a time. Default: 64 on the CPU; elsewhere as many of 1024 as
            there is memory for. It is halved when memory does not do.
        shard: samples in a file; default: that of a run that is continued, else 1000, or as many
            as take 256 MiB.
        merge: write all samples to samples.npz at the end.
        images: "png" also writes a file images/PLACE.png for each sample, or "none".
        patience: seconds after which the shard of a process on another machine is taken over, if
            that has not finished a step for so long.
        about: what else the manifest is to say, JSON values; a run goes on whatever it says.
        progress: show a progress bar of all samples.
        dtype: of the state, float32 by default; samples are written in float32.
        device, compile: as in `expint.sample`.

    Returns:
        The finished run. Its `not_finite` names the samples that became NaN or infinite.

    Raises:
        ValueError, TypeError: before the first evaluation for anything that does not fit; for a
            folder that holds a run of other settings, naming the difference.
        FloatingPointError: if no sample of a shard stays finite.
        OSError: if the folder cannot be written to, saying what is kept.

    Warns:
        UserWarning: of files that are not what was written, which are made again.

    Example:
        >>> import expint, tempfile
        >>> target = expint.targets.Gaussian([1.0, -2.0], [0.25, 1.0], expint.schedules.EDM())
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = draw(target, 5, steps=10, out=folder, shard=2, progress=False)
        ...     [part["samples"].shape for part in run]
        [(2, 2), (2, 2), (1, 2)]
    """
    described = describe(model)
    event = tuple(described.shape or () if shape is None else shape)
    _check(num, event, shard, batch, images)
    plan = plan_sampling(described.schedule, **arguments_for(described, solver, options))
    batches = Batches(
        model, event, plan, num, seed=seed, seeds=seeds, start=start, labels=labels, batch=batch,
        conditioned=conditioned, dtype=dtype, device=device, compile=compile,
    )  # fmt: skip
    for place in (0, num - 1):  # refuses what is beyond the ends of a run
        batches.seeds(range(place, place + 1))
    there = (unsealed(Path(out) / MANIFEST) or {}).get("shard")
    settings = dict(
        model=identity(model), weights=_checksum(weights(model)), probe=batches.probe(),
        shape=list(event), num=num,
        shard=shard or there or min(_SHARD, max(1, _BYTES // (4 * prod(event)))),
        seed=(seed or 0) if seeds is None else None, seeds=_digest(seeds), start=start,
        labels=_digest(batches.labels), dtype=str(dtype or torch.float32).removeprefix("torch."),
        images=images, nfe=plan.nfe, plan=plan.to_dict(), about=dict(about or {}), **origin(),
    )  # fmt: skip
    folder = RunFolder.begin(Path(out), settings)
    folder.damaged()
    claims, wanted = Claims(folder.path / SHARDS, patience), [*folder.shards, *[MERGED][:merge]]
    bar = tqdm(
        total=num, initial=folder.count, desc=title(plan), unit="sample", smoothing=0.05,
        disable=not progress, mininterval=0.1 if sys.stderr.isatty() else _LOGGED,
    )  # fmt: skip
    with bar, _keeping(folder), Background() as behind:
        while left := [name for name in wanted if not folder.is_done(name)]:
            worked = [_work(folder, name, claims, batches, bar, behind) for name in left]
            behind.wait()
            if not any(worked):
                sleep(_POLL)
            bar.update(folder.count - bar.n)
        folder.tidy()
    return folder


def _check(num: Any, event: tuple[int, ...], shard: Any, batch: Any, images: str) -> None:
    if not event:
        raise ValueError("The model has no shape: give shape=, that of one sample.")
    for name, value in (("num", num), ("shard", shard), ("batch", batch)):
        if not (is_whole(value) and value >= 1) and (value is not None or name == "num"):
            raise ValueError(f"{name} is a whole number of samples >= 1, got {value!r}.")
    check_choice("images", images, IMAGES)
    if images != "none" and not (len(event) == 3 and event[0] in (1, 3)):
        raise ValueError(f"Samples of shape {event} are no images (C, H, W): leave out images=.")


def _work(
    folder: RunFolder, name: str, claims: Claims, batches: Batches, bar: Any, behind: Background
) -> bool:
    """Make a shard, or the file of all samples, unless it is there or another process does."""
    if folder.is_done(name) or (name == MERGED and folder.count < folder.num):
        return False
    with ExitStack() as held, _taken_over(folder, name):
        claim = claims.take(name)
        if claim is None:
            return False
        held.callback(claim.release)
        if folder.is_done(name):
            return False
        if name == MERGED:
            if not folder.damaged():
                folder.merge(claim.beat)
        else:
            _draw_shard(folder, name, claim, batches, bar, behind)
            held.pop_all()  # it is released when the shard is written
    bar.update(max(bar.n, folder.count) - bar.n)
    return True


@contextmanager
def _taken_over(folder: RunFolder, name: str) -> Iterator[None]:
    """Lets go of what another process has taken over."""
    try:
        yield
    except TakenOverError:
        pass
    except FileNotFoundError:
        if not folder.is_done(name):  # by that process, which has tidied up
            raise


def _draw_shard(
    folder: RunFolder, name: str, claim: Claim, batches: Batches, bar: Any, behind: Background
) -> None:
    places, bad, began, before = folder.places(name), [], perf_counter(), bar.n
    nfe = folder.manifest["nfe"]

    def seen(part: range, evaluations: int) -> None:
        claim.beat()
        if evaluations == nfe:
            bar.update(before + part.stop - places.start - bar.n)

    samples, seeds = batches.draw(places, seen, bad).numpy(), batches.seeds(places)
    if len(bad) == len(places) > 1:
        none = f"None of the samples {places[0]} to {places[-1]} stayed finite."
        raise FloatingPointError(f"{none} {batches.trouble}")
    claim.beat(now=True)
    labels = batches.labels
    arrays = {
        "samples": samples,
        "seeds": np.array(seeds, dtype=np.uint64),
        "labels": np.array(labels[places.start : places.stop] if labels else [-1] * len(places)),
    }
    about = dict(
        not_finite=[[place, seeds[place - places.start]] for place in bad],
        why=batches.trouble if bad else None, batch=batches.batch, device=str(batches.device),
        seconds=round(perf_counter() - began, 3), **origin(),
    )  # fmt: skip

    def write() -> None:
        try:
            with _taken_over(folder, name):
                if folder.manifest["images"] == "png":
                    write_pictures(folder.path / "images", zip(places, samples, strict=True))
                folder.put(name, partial(np.savez, **arrays), **about)
        finally:
            claim.release()

    behind.do(write)


@contextmanager
def _keeping(folder: RunFolder) -> Iterator[None]:
    """Says of files that cannot be written what is kept."""
    try:
        yield
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or str(error)
        state = f"{folder.count} of {folder.num} samples are kept, and the same call continues"
        if not (folder.path / SHARDS).is_dir():
            state = "the folder is no longer there, and with it all samples"
        failed = f"Cannot go on in the folder {str(folder.path)!r} ({reason})"
        raise OSError(f"{failed}: {state}.") from error


def _checksum(held: list[torch.Tensor]) -> str | None:
    """sha256 of tensors in their order, or None if there are none."""
    digest = sha256()
    for value in held:
        digest.update(f"{value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest() if held else None


def _digest(numbers: Sequence[int] | None) -> str | None:
    if numbers is None:
        return None
    return sha256(",".join(str(int(number)) for number in numbers).encode()).hexdigest()
