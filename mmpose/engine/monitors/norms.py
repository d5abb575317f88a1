# Copyright (c) OpenMMLab. All rights reserved.
from collections import defaultdict
from typing import Iterable, Iterator, List, Sequence, Tuple

import torch
from torch import Tensor

from .work_sharing import share

# How many elements a thread takes at least: a fraction of a millisecond; and
# into how many pieces all are cut at most. To start on a tensor takes as long
# as so many of its elements.
_PIECE = 1 << 21
_MAX_PIECES = 8
_COST_OF_CALL = 1 << 13

# Names of tensors, and their norms on one device.
NamedNorms = Tuple[List[str], Tensor]


@torch.no_grad()
def named_norms(named: Iterable[Tuple[str, Tensor]]) -> List[NamedNorms]:
    """L2 norm of each tensor, on a GPU in one launch for each type.

    Norms of half-precision tensors are accumulated and returned in float32,
    so that they neither overflow nor lose digits.

    Args:
        named (Iterable[tuple[str, Tensor]]): Names and tensors of any shape,
            dense or sparse.

    Returns:
        list[tuple[list[str], Tensor]]: For each device and type the names of
        the tensors and their norms, shape (N, ), on that device.
    """
    alike = defaultdict(list)
    for name, tensor in named:
        if tensor.layout is not torch.strided:
            # Duplicate indices of a sparse gradient stand for their sum.
            tensor = tensor.coalesce().values()
        alike[tensor.dtype, tensor.device].append((name, tensor))
    norms = []
    for (dtype, _), of_a_kind in alike.items():
        names, tensors = zip(*of_a_kind)
        if dtype not in (torch.float32, torch.float64):
            compute = _norms_in_float32
        else:
            compute = _norms_at_once
        norms.append((list(names), compute(tensors)))
    return norms


def joined(norms: Iterable[NamedNorms]) -> NamedNorms:
    """Bring what :func:`named_norms` returns into one tensor.

    Args:
        norms (Iterable[tuple[list[str], Tensor]]): One or more of its items.

    Returns:
        tuple[list[str], Tensor]: All names and their norms, shape (N, ), on
        the device of the first.
    """
    names, tensors = zip(*norms)
    return ([name for some in names for name in some],
            torch.cat([tensor.to(tensors[0].device) for tensor in tensors]))


def _norms_in_float32(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack(
        [torch.linalg.vector_norm(t, dtype=torch.float32) for t in tensors])


def _norms_at_once(tensors: Sequence[Tensor]) -> Tensor:
    if tensors[0].device.type != 'cpu':
        return torch.stack(torch._foreach_norm(tensors))
    # There the operator takes one tensor after the other, on one core. Dot
    # products take all cores, but wait for those that are busy elsewhere.
    norms = share(_norms_on_one_core, _pieces(tensors))
    return torch.stack([norm for piece in norms for norm in piece])


@torch.no_grad()
def _norms_on_one_core(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    return torch._foreach_norm(tensors)


def _pieces(tensors: Sequence[Tensor]) -> Iterator[List[Tensor]]:
    """Cut into lists that take about as long, in the same order."""
    costs = [tensor.numel() + _COST_OF_CALL for tensor in tensors]
    enough = max(_PIECE, sum(costs) / _MAX_PIECES)
    piece, cost_of_piece = [], 0
    for tensor, cost in zip(tensors, costs):
        piece.append(tensor)
        cost_of_piece += cost
        if cost_of_piece >= enough:
            yield piece
            piece, cost_of_piece = [], 0
    if piece:
        yield piece
