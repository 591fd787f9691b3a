"""The tensors of a checkpoint: find them, compare them with a network, and copy them into it, all
or nothing.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from diffusion_adapters.checkpoints.pickles import CheckpointError, first_of, read_checkpoint

Builder = nn.Module | Callable[[], nn.Module]

_WRAPPERS = re.compile(r"((module|_orig_mod)\.)*")  # of DataParallel and torch.compile
_PLAIN = (type(None), bool, int, float, str)


def built(network: Builder) -> nn.Module:
    """The network itself, or what the zero-argument builder returns.

    Raises:
        TypeError: if neither gives an nn.Module.
    """
    result = network if isinstance(network, nn.Module) or not callable(network) else network()
    if not isinstance(result, nn.Module):
        allowed = "a torch.nn.Module or a function of no arguments that returns one"
        raise TypeError(f"network must be {allowed}, got {result!r}.")
    return result


def read_weights(
    path: str | Path, key: str | None = None, trust: bool = False
) -> dict[str, Tensor]:
    """The state dict in a checkpoint file.

    Args:
        path: safetensors, a file of torch.save, or (with `trust`) a pickle.
        key: where in the file, with dots between the levels ("ema", "model.state_dict"); None for
            the whole.
        trust: as in `read_checkpoint`.

    Returns:
        Tensors by name.

    Raises:
        CheckpointError: if the file cannot be read, or what lies at `key` is not a state dict; the
            message lists what there is.
    """
    state = read_checkpoint(path, trust)
    found = state if key is None else select(state, key, path)
    weights = dict(entries(found))
    if is_state_dict(weights):
        return weights
    raise CheckpointError(
        f"{key or 'The whole'} of {str(path)!r} is not a state dict (tensors by name): it holds "
        f"{_listed(found)}. Choose with key=."
    )


def is_state_dict(found: Mapping[str, Any]) -> bool:
    """Whether these are tensors by name, one at least."""
    return bool(found) and all(isinstance(value, Tensor) for value in found.values())


def select(state: Any, key: str, path: str | Path) -> Any:
    """What lies at `key` in a checkpoint: names of dict entries, with dots between the levels; list
    entries by number. In a converted checkpoint, whose names have these dots in them, all that
    begins with the key.

    Raises:
        CheckpointError: if there is nothing; the message lists what there is.
    """
    for name, value in entries(state):
        if key == name:
            return value
        if key.startswith(name + ".") and entries(value):
            return select(value, key[len(name) + 1 :], path)
    below = {n[len(key) + 1 :]: value for n, value in entries(state) if n.startswith(key + ".")}
    if below:
        return below
    raise CheckpointError(f"There is no {key!r} in {str(path)!r}, but {_listed(state)}.")


def contents(state: Any) -> list[str]:
    """What a checkpoint holds, one line per entry: name and number of tensors, or name and
    value.
    """
    return [f"{name} {_summary(value)}" for name, value in entries(state)]


def flat_tensors(state: Any) -> tuple[dict[str, Tensor], dict[str, Any], list[str]]:
    """Everything below one object: tensors by dotted name, plain values by dotted name, and the
    names of other objects.
    """
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {}
    others: list[str] = []
    for name, value in _leaves(state):
        if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
            tensors[name] = torch.as_tensor(value)
        elif isinstance(value, Tensor):
            tensors[name] = value.detach()
        elif isinstance(value, _PLAIN):
            values[name] = value
        else:
            others.append(name)
    return tensors, values, others


def load_weights(
    network: nn.Module, weights: Mapping[str, Tensor], source: str | Path
) -> nn.Module:
    """Copy a state dict into a network, in the network's dtype and on its device, after checking
    everything.

    The prefixes "module." (DataParallel) and "_orig_mod." (torch.compile) are taken off or put on
    where that is what differs.

    Args:
        network: the network; on success it is put into evaluation mode.
        weights: tensors by name.
        source: the file, for messages.

    Returns:
        The network.

    Raises:
        CheckpointError: for missing or unexpected names, other shapes, other kinds of numbers, or
            NaN or infinite parameters; the network is unchanged.
    """
    expected: dict[str, Tensor] = dict(entries(network))
    if any(value.is_meta for value in expected.values()):
        raise CheckpointError(
            "The network has tensors on 'meta', which hold nothing: build it anew."
        )
    weights = with_prefix_of(expected, weights)
    found = _differences(expected, weights, {name for name, _ in network.named_parameters()})
    if found:
        misfit = f"The weights in {str(source)!r} do not fit the network ({found})"
        raise CheckpointError(f"{misfit}; nothing was loaded.")
    network.load_state_dict(weights, strict=False)
    return network.eval()


def _differences(
    expected: Mapping[str, Tensor], weights: Mapping[str, Tensor], parameters: Collection[str]
) -> str:
    """How weights differ from a network's in names, shapes and kinds of numbers, and which of them
    are NaN or infinite; nothing if they fit. Buffers, such as masks, may be infinite.
    """
    both = {name: (weights[name], expected[name]) for name in expected if name in weights}
    faults = {
        "missing": [name for name in expected if name not in weights],
        "unexpected": [name for name in weights if name not in expected],
        "of another shape": [
            f"{name}: {tuple(given.shape)} instead of {tuple(wanted.shape)}"
            for name, (given, wanted) in both.items()
            if given.shape != wanted.shape
        ],
        "of another kind": [
            f"{name}: {given.dtype} instead of {wanted.dtype}"
            for name, (given, wanted) in both.items()
            if _kind(given) != _kind(wanted)
        ],
        "NaN": [name for name, (given, _) in both.items() if given.isnan().any()],
        "infinite": [
            name
            for name, (given, wanted) in both.items()
            if name in parameters and given.to(wanted.dtype).float().isinf().any()
        ],
    }
    return "; ".join(
        f"{len(names)} {fault}: {first_of(names)}" for fault, names in faults.items() if names
    )


def _kind(tensor: Tensor) -> tuple[bool, bool]:
    return tensor.is_floating_point(), tensor.is_complex()


def with_prefix_of(
    expected: Mapping[str, Tensor], weights: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """`weights`, with the prefixes of DataParallel and torch.compile where `expected` has them."""
    wanted, given = _wrapping(expected), _wrapping(weights)
    return {wanted + name.removeprefix(given): value for name, value in weights.items()}


def _wrapping(names: Iterable[str]) -> str:
    """The prefix of wrappers that all names have in common."""
    found = (_WRAPPERS.match(name) for name in names)
    return min((match[0] for match in found if match), key=len, default="")


def entries(state: Any) -> list[tuple[str, Any]]:
    """What is directly in one object, by name: a network's tensors, a mapping, a list."""
    if isinstance(state, nn.Module):
        return [item for item in state.state_dict().items() if isinstance(item[1], Tensor)]
    if isinstance(state, Mapping):
        return [(str(name), value) for name, value in state.items()]
    if isinstance(state, list | tuple):
        return [(str(i), value) for i, value in enumerate(state)]
    return []


def _leaves(state: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in entries(state):
        if isinstance(value, nn.Module | Mapping | list | tuple):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _summary(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, _PLAIN):
        return f"= {value!r}"[:60]
    tensors = flat_tensors(value)[0]
    kind = "" if isinstance(value, Mapping | list | tuple) else f"{type(value).__name__}, "
    numbers = sum(tensor.numel() for tensor in tensors.values())
    return f"({kind}{len(tensors)} tensors, {numbers:,} numbers)"


def _listed(state: Any) -> str:
    return first_of(contents(state), most=12, between="; ") or "nothing with a name"
