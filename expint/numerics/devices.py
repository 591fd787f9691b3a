"""Devices that were asked for, before anything is put there."""

from typing import Any

import torch


def usable_device(device: Any) -> torch.device:
    """`device` as a torch.device, after a tensor was made there.

    Raises:
        TypeError, ValueError: if there is no such device, or it cannot be used here.
    """
    try:
        place = torch.device(device)
        torch.empty(1, device=place)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(
            f"Cannot use device={device!r} here ({reason}): give one that torch can use on this "
            f"machine, such as 'cpu'{', or cuda' if torch.cuda.is_available() else ''}."
        ) from error
    if place.type == "meta":
        raise ValueError("Cannot use device='meta', whose tensors hold nothing: give a real one.")
    return place
