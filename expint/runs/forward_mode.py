"""Derivatives of F along the ODE, by Jacobian-vector products through the model (forward-mode
automatic differentiation).
"""

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel


def along(
    model: Callable[[Tensor, Tensor], Tensor], x: Tensor, t: Tensor, direction: Tensor
) -> Tensor:
    """The derivative of model(x, t) in t while x moves with dx/dt = `direction`: ∂_x model ·
    direction + ∂_t model.

    It costs one forward pass that carries tangents, about two evaluations. Works inside
    torch.inference_mode, and can itself be differentiated outside of it.

    Args:
        model: as for `expint.execute`. Operations that leave torch, such as float(t) or numpy, have
            no derivative.
        x, direction: shape (batch, *event).
        t: 0-dimensional, float64.

    Returns:
        Shape and dtype of the model's output.

    Raises:
        TypeError: if the model has an operation without a forward-mode derivative.
    """
    graph = torch.is_grad_enabled()
    # By torch's documentation inference mode disables forward mode; leaving it also turns gradients
    # on, which nobody asked for. Of the kernels for attention only the plain one has a forward-mode
    # derivative.
    with torch.inference_mode(False), torch.set_grad_enabled(graph), sdpa_kernel(SDPBackend.MATH):
        _load_rules()
        state, time, tangent = x.clone(), t.clone(), direction.clone()
        try:
            return torch.func.jvp(
                lambda state, time: model(state, time),
                (state, time),
                (tangent, torch.ones_like(time)),
            )[1]
        except torch.OutOfMemoryError:
            raise
        except (
            RuntimeError
        ) as error:  # also NotImplementedError; the model has just been evaluated here without one
            raise TypeError(
                f"The model {type(model).__name__} cannot be differentiated in forward mode "
                f"(torch.func.jvp), which this solver needs: {error} Use a solver without "
                "derivatives, for example 'seeds-2' at ell=0."
            ) from error


def rate_of_change(
    model: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    t: Tensor,
    output: Tensor,
    tangent: tuple[Any, Any],
    rule: tuple[Any, Any],
    rule_rates: tuple[float, float],
) -> Tensor:
    """dF/dt along dx/dt = A x + b F, for F(x, t) = on_x(t) x + on_output(t) model(x, t), in the
    shape and dtype of x.

    Args:
        model, x, t: as for `along`.
        output: model(x, t).
        tangent: (A, b).
        rule, rule_rates: (on_x, on_output) at t, and their derivatives in t.
    """
    given = output.to(x.dtype)
    direction = tangent[0] * x + tangent[1] * (rule[0] * x + rule[1] * given)
    moved = rule[0] * direction + rule[1] * along(model, x, t, direction).to(x.dtype)
    return moved + rule_rates[0] * x + rule_rates[1] * given


@cache
def _load_rules() -> None:
    """The first use of forward mode loads rules that torch compiles with its own, deprecated,
    torch.jit.script.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"`torch\.jit", category=DeprecationWarning)
        torch.func.jvp(torch.sin, (torch.zeros(()),), (torch.ones(()),))
