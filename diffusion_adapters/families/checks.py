"""What an adapter checks: that network and schedule are of its family, how the network is called,
and what its errors mean.
"""

import inspect
import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from expint.schedules import Schedule

# What networks of a table call the number of its entries.
_TABLE = ("num_timesteps", "num_train_timesteps", "num_diffusion_timesteps", "timesteps")
_OF_TIME = re.compile(r"time|step|temb|t_emb|sigma|noise", re.IGNORECASE)
_INDEXING = re.compile(r"'indices' to have|used as indices must be")
_DTYPES = re.compile(r"same dtype|expected scalar type|should be the same|expected m1 and m2")
_DEVICES = re.compile(r"on the same device|same device")
_TABLE_WAY_OUT = (
    "give it its table, schedule=Discrete.from_betas(betas), which calls it at whole timesteps "
    '(timesteps="round")'
)


def check_unscaled(family: str, schedule: Schedule) -> None:
    """Refuse a schedule on which the state is not x₀ + σ ε.

    Raises:
        ValueError: unless α = 1.
    """
    alpha, _ = _kernel(schedule)
    if bool((alpha - 1.0).abs().max() > 1e-6):
        raise ValueError(
            f"{family} calls the network with x = x0 + sigma eps (alpha = 1), but on {schedule} "
            f"alpha goes from {alpha[-1].item():.6g} to {alpha[0].item():.6g}: leave out the "
            "schedule, or give EDM(sigma_min, sigma_max) or VE(sigma_min, sigma_max)."
        )


def check_preserving(family: str, schedule: Schedule) -> None:
    """Refuse a schedule other than a variance-preserving one (or sub-VP) with times in [0, 1].

    Raises:
        ValueError: unless α² + σ̄² = 1 (sub-VP: α² + σ̄ = 1) on times in [0, 1].
    """
    alpha, std = _kernel(schedule)
    off = torch.minimum((alpha**2 + std**2 - 1.0).abs(), (alpha**2 + std - 1.0).abs()).max()
    noise, data = schedule.sampling_range
    if off > 1e-6 or not 0.0 <= data < noise <= 1.0:
        raise ValueError(
            f"{family} calls the network with labels 999 t on a variance-preserving schedule "
            f"(alpha^2 + std^2 = 1) with t in [0, 1], got {schedule}: give VP(...), SubVP(...) or "
            "a table, Discrete(...); networks of x0 + sigma eps go into EDMAdapter or VEAdapter."
        )


def _kernel(schedule: Schedule) -> tuple[Tensor, Tensor]:
    """α and σ̄ at times of the sampling range, from the data."""
    noise, data = schedule.sampling_range
    times = torch.linspace(data, noise, 9, dtype=torch.float64)
    return schedule.alpha(times).detach(), schedule.std(times).detach()


def check_continuous(family: str, network: Any, assumed: bool) -> None:
    """Refuse a network that was trained on a table where it would be called at any time.

    Args:
        family: of the adapter, for the message.
        network: looked at for embeddings of timesteps.
        assumed: whether continuous time was not asked for: then for the number of timesteps, too.

    Raises:
        ValueError: naming what shows it.
    """
    modules = network.named_modules() if isinstance(network, nn.Module) else ()
    found = [
        f"{name} = {module}"
        for name, module in modules
        if isinstance(module, nn.Embedding) and _OF_TIME.search(name)
    ]
    if assumed:
        numbers = {name: getattr(network, name, None) for name in _TABLE}
        found += [f"{n} = {value}" for n, value in numbers.items() if isinstance(value, int)]
    if found:
        raise ValueError(
            f"{type(network).__name__} has {found[0]}, so it was trained on a table of timesteps, "
            f"but without one {family} calls it with labels 999 t in between: {_TABLE_WAY_OUT}"
            f"{', or VP() if it does take any time' if assumed else ''}."
        )


def check_call(
    function: Any,
    arguments: Iterable[str],
    names: Iterable[str] = (),
    *,
    called: str = "The network is called as net",
    way_out: str = "wrap it in a function that takes these arguments",
    more: bool = True,
) -> None:
    """Refuse a function or module that does not take these arguments, by their number and names.

    Args:
        function: what has no signature passes.
        arguments: what the positional ones are, for the message.
        names: of the keyword arguments.
        called, way_out: for the message.
        more: whether it may need others.

    Raises:
        TypeError: with the call and the signature.
    """
    signature = signature_of(function)
    bind = signature.bind_partial if more else signature.bind
    try:
        bind(*arguments, **dict.fromkeys(names))
    except TypeError as error:
        call = ", ".join([*arguments, *(f"{name}=..." for name in names)])
        taken = ", ".join(map(str, signature.parameters))
        raise TypeError(
            f"{called}({call}), but {type(function).__name__} takes ({taken}) ({error}): {way_out}."
        ) from error


def signature_of(function: Any) -> inspect.Signature:
    """What a function or module takes: anything, if it has no signature."""
    try:
        return inspect.signature(getattr(function, "forward", function))
    except ValueError:
        return inspect.signature(lambda *arguments, **names: None)


def explained(error: Exception, x: Tensor, device: torch.device) -> Exception | None:
    """What an error of a network means that comes from how it was called, or None.

    Args:
        error: what the network raised.
        x: the state with which it was called.
        device: of the network.
    """
    text = str(error)
    first = f"{type(error).__name__}: {(text.splitlines() or [''])[0]}"
    if _INDEXING.search(text):
        return ValueError(
            f"The network looks its labels up in a table and was called with other than whole "
            f"ones ({first}): {_TABLE_WAY_OUT}."
        )
    if _DEVICES.search(text) or device.type != x.device.type:
        return ValueError(
            f"The network is on {device} and the state on {x.device} ({first}): move one of them, "
            f"for example model.to({str(x.device)!r})."
        )
    if _DTYPES.search(text):
        return TypeError(
            f"The network mixes dtypes ({first}). It was called with a state in {x.dtype} and time "
            "labels in float32 at least, as half types cannot tell 999 from 1000: let it cast the "
            "embedding of its labels, or keep it in float32 and use torch.autocast."
        )
    return None
