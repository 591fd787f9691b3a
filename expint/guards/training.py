"""Networks that are sampled as if they were still trained."""

from typing import Any

from torch import nn

from expint.guards.warning import warn

_RANDOM = (
    nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout,
    nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm,
)  # fmt: skip


def warn_in_training(network: Any) -> bool:
    """Warn of a network whose samples are random or depend on each other, because a module of it is
    in train mode; whether there was one. What is wrapped as `model` is looked at too."""
    if not isinstance(network, nn.Module):
        inner = getattr(network, "model", None)
        return inner is not None and warn_in_training(inner)
    if not network.training:
        return False
    modules = (m for m in network.modules() if m.training and isinstance(m, _RANDOM))
    found = next((m for m in modules if getattr(m, "p", 1.0) > 0.0), None)
    if found is not None:
        warn(
            f"{type(network).__name__} is in train mode, where {found} makes samples random or "
            "dependent on each other: call .eval() on it before sampling."
        )
    return found is not None
