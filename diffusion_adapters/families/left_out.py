"""Conditioning that a network needs and was not given, by its signature and its error."""

from collections.abc import Iterable
from typing import Any

from diffusion_adapters.families.checks import signature_of


def left_out(
    error: Exception, network: Any, arguments: Iterable[str], names: Iterable[str]
) -> TypeError | None:
    """The refusal that names the conditioning; None if the error has another cause.

    Args:
        error: what the network raised.
        network, arguments, names: as for `check_call`.
    """
    signature = signature_of(network)
    given = signature.bind_partial(*arguments, **dict.fromkeys(names)).arguments
    left = [p for name, p in signature.parameters.items() if name not in given]
    left = [p for p in left if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    needed = [p.name for p in left if p.default is p.empty]
    if "None" in str(error) or isinstance(error, AssertionError):
        needed = needed or [p.name for p in left if p.default is None]
    if not needed:
        return None
    condition = ", ".join(f"{name!r}: ..." for name in needed)
    reason = (str(error).splitlines() or [""])[0]
    return TypeError(
        f"{type(network).__name__} was called without {', '.join(needed)} "
        f"({type(error).__name__}: {reason}): give the adapter condition={{{condition}}}, tensors "
        "with one row per sample."
    )
