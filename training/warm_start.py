"""Weights of a network that has learned already, taken over by one that is built a little differently."""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn

_FURTHER_MEETING = re.compile(r"network\.later\.(\d+)\.")
_SILENT = ("head.weight", "head.bias")  # with nothing in them a further meeting changes nothing at first


def take_over(network: nn.Module, learned: dict[str, Tensor]) -> None:
    """Start a network from weights that were learned in another.

    Weights of the same shape are copied. Planes that the network is told besides (they stand last) are
    listened to with weight 0; a meeting with the measurement that the other did not have begins as its last
    one, saying nothing; a head that the other did not have begins anew.

    Args:
        network: module whose parameters are named as in `learned`; changed in place.
        learned: weights by name.

    Raises:
        ValueError: the weights are of a network of another width, depth or probe.
    """
    taken = {
        name: _fitted(name, value.detach(), source)
        for name, value in network.named_parameters()
        if (source := _source(name, learned)) is not None
    }
    if not taken:
        raise ValueError("the weights to start from are of another kind of network")
    network.load_state_dict({**network.state_dict(), **taken})


def _source(name: str, learned: dict[str, Tensor]) -> Tensor | None:
    """Return what was learned for a parameter; for a further meeting what the last one learned."""
    meeting = _FURTHER_MEETING.match(name)
    if name in learned or meeting is None:
        return learned.get(name)
    had = [int(found.group(1)) for key in learned if (found := _FURTHER_MEETING.match(key))]
    if not had or int(meeting.group(1)) <= max(had):
        return None
    last = learned.get(name.replace(meeting.group(0), f"network.later.{max(had)}.", 1))
    return torch.zeros_like(last) if last is not None and name.endswith(_SILENT) else last


def _fitted(name: str, value: Tensor, source: Tensor) -> Tensor:
    """Return `source` in the shape of `value`: input planes that it does not know weigh nothing."""
    more = value.shape[1] - source.shape[1] if value.ndim == source.ndim == 4 else 0
    if value.shape == source.shape:
        return source.clone()
    if more != 1 or value.shape[0] != source.shape[0] or value.shape[2:] != source.shape[2:]:
        raise ValueError(
            f"the weights to start from do not fit: {name} has {tuple(source.shape)}, "
            f"the new network {tuple(value.shape)} (another --width, or a probe with other modes?)"
        )
    return torch.cat([source, source.new_zeros(source.shape[0], more, *source.shape[2:])], dim=1)
