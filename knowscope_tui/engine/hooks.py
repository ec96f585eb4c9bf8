"""Hooks that live inside a `with`; nothing else in the package registers one.

`capture` reads activations, `intervene` replaces them, `record_calls` reads what each layer is called with. All leave
the model without hooks, whatever happens inside.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from knowscope_tui.core.units import Site
from knowscope_tui.engine.sites import Tap, decoder_layers, embedding, final_norm, tap

Change = Callable[[Tensor], Tensor]
"""Takes the activation at a site, (batch, pos, width), and returns what is to stand there instead."""


def _first(value: Any) -> Tensor:
    """The tensor a module passes: decoder layers return it bare in transformers 5 and in a tuple in 4."""
    tensor: Tensor = value[0] if isinstance(value, tuple) else value
    return tensor


def _like(value: Any, tensor: Tensor) -> Any:
    return (tensor, *value[1:]) if isinstance(value, tuple) else tensor


def _attach(place: Tap, change: Change) -> list[Any]:
    """Registers the hooks that pass the activation at `place` through `change`; their handles."""
    if place.side == "output":

        def after(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> Any:
            return _like(output, change(_first(output)))

        return [place.module.register_forward_hook(after)]
    shift: list[Tensor] = []

    def before(_module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        changed = change(args[0])
        shift[:] = [changed - args[0]] if place.sum is not None and changed is not args[0] else []
        return (changed, *args[1:])

    def add_shift(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> Any:
        return _like(output, _first(output) + shift.pop()) if shift else output

    handles = [place.module.register_forward_pre_hook(before)]
    if place.sum is not None:
        # In front of the hooks that read or change the sum itself.
        handles.append(place.sum.register_forward_hook(add_shift, prepend=True))
    return handles


@contextmanager
def intervene(model: Any, changes: Mapping[Site, Change]) -> Iterator[None]:
    """Within the block every forward of `model` passes the activation at each site through its change."""
    with ExitStack() as stack:
        for site, change in changes.items():
            for handle in _attach(tap(model, site), change):
                stack.callback(handle.remove)
        yield


@contextmanager
def capture(model: Any, sites: Iterable[Site], *, gradients: bool = False) -> Iterator[dict[Site, Tensor]]:
    """Within the block the last forward's activations appear in the dictionary this yields.

    With `gradients` the tensors are part of an autograd graph that starts at the token embeddings, though every
    parameter is frozen, so that `torch.autograd.grad` can reach each of them.
    """
    cache: dict[Site, Tensor] = {}

    def keep(site: Site) -> Change:
        def change(activation: Tensor) -> Tensor:
            cache[site] = activation if gradients else activation.detach()
            return activation

        return change

    def start_graph(_module: nn.Module, _args: tuple[Any, ...], output: Tensor) -> Tensor:
        return output.detach().requires_grad_(True)

    with ExitStack() as stack:
        if gradients:
            stack.callback(embedding(model).register_forward_hook(start_graph).remove)
        stack.enter_context(intervene(model, {site: keep(site) for site in sites}))
        yield cache


@dataclass(frozen=True)
class Call:
    """What a module was called with: its input, and everything else by argument name but the cache."""

    hidden: Tensor
    arguments: Mapping[str, Any]


@contextmanager
def record_calls(model: Any) -> Iterator[list[Call]]:
    """Within the block each forward leaves here the calls of the decoder layers and, last, of the final norm."""
    calls: list[Call] = []

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        bound = inspect.signature(module.forward).bind(*args, **kwargs).arguments
        rest = bound.pop("kwargs", {})
        # It grows with the forward, and in one with gradients holds the graph.
        bound.pop("past_key_values", None)
        hidden: Tensor = bound.pop(next(iter(bound)))
        calls.append(Call(hidden.detach(), {**bound, **rest}))

    with ExitStack() as stack:
        for module in (*decoder_layers(model), final_norm(model)):
            stack.callback(module.register_forward_pre_hook(note, with_kwargs=True).remove)
        yield calls
