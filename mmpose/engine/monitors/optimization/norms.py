# Copyright (c) OpenMMLab. All rights reserved.
import functools
import math
from typing import Iterable, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor

from .work_sharing import share

# How many elements a thread takes at least: a fraction of a millisecond; and
# into how many pieces all are cut at most. To start on a tensor takes as long
# as so many of its elements.
_PIECE = 1 << 20
_MAX_PIECES = 16
_COST_OF_CALL = 1 << 13

# Names of tensors, and their norms on one device.
NamedNorms = Tuple[List[str], Tensor]

# Where there are so many small tensors of one shape, they are put side by side
# and started on together.
_MANY = 16


class _Small(NamedTuple):
    """How many elements, at most, one of them has, and all side by side."""
    size: int
    total: int


# Above that total, operators on the CPU wait for all cores. On a GPU nearly
# all that the training thread does is to start.
_SMALL_ON_CPU = _Small(1 << 12, 1 << 15)
_SMALL_ON_GPU = _Small(1 << 18, 1 << 22)


class Piece(NamedTuple):
    """Tensors on one device that a thread takes together.

    Attributes:
        names (Sequence[str]): The name of each tensor.
        tensors (Sequence[Tensor]): The tensors.
        alike (bool): Whether they are small and of one shape and type.
    """
    names: Sequence[str]
    tensors: Sequence[Tensor]
    alike: bool = False


def cut(names: Iterable[str], tensors: Iterable[Tensor]) -> List[Piece]:
    """Cut tensors into pieces, the longest first.

    On the CPU a foreach operator takes one tensor after the other, on one
    core, and each core takes a piece. Dot products take all cores, but wait
    for those that are busy elsewhere.

    Args:
        names (Iterable[str]): The name of each tensor.
        tensors (Iterable[Tensor]): The tensors.

    Returns:
        list[Piece]: The pieces.
    """
    by_shape = {}
    for name, tensor in zip(names, tensors):
        key = tensor.device, tensor.dtype, tensor.shape
        by_shape.setdefault(key, []).append((name, tensor))
    alike, others = [], {}
    for (device, dtype, shape), group in by_shape.items():
        small = _SMALL_ON_CPU if device.type == 'cpu' else _SMALL_ON_GPU
        size = shape.numel()
        if shape and 0 < size <= small.size and len(group) >= _MANY:
            step = small.total // size
            alike += [
                Piece(*zip(*group[i:i + step]), alike=True)
                for i in range(0, len(group), step)
            ]
        else:
            others.setdefault((device, dtype), []).extend(group)
    # A thread that begins with few tensors leaves Python to another at once.
    return [
        piece for (device, _), group in others.items()
        for piece in _cut_by_size(group, device)
    ] + alike


def named_norms(pieces: Sequence[Piece],
                attribute: Optional[str] = None) -> List[NamedNorms]:
    """L2 norm of each tensor.

    Norms of half-precision tensors are accumulated and returned in float32,
    so that they neither overflow nor lose digits.

    Args:
        pieces (Sequence[Piece]): Tensors of any shape, dense or sparse, see
            :func:`cut`.
        attribute (str, optional): Take this attribute of each, 'grad' say,
            where it is not None. Defaults to None: the tensor itself.

    Returns:
        list[tuple[list[str], Tensor]]: For each device and type the names of
        the tensors and their norms, shape (N, ), on that device.
    """
    # What a GPU is to do is said by the thread whose stream it is.
    on_cpu = all(piece.tensors[0].is_cpu for piece in pieces)
    take = share if on_cpu else map
    norms = {}
    for of_names, of_piece in take(
            functools.partial(_norms_of_piece, attribute), pieces):
        # Not a defaultdict: torch.compile, which may come here with the
        # optimizer's step, makes a dict of it.
        all_names, of_all = norms.setdefault((of_piece.device, of_piece.dtype),
                                             ([], []))
        all_names.extend(of_names)
        of_all.append(of_piece)
    return [(names, torch.cat(of_kind)) for names, of_kind in norms.values()
            if names]


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


def _cut_by_size(group: List[Tuple[str, Tensor]],
                 device: torch.device) -> List[Piece]:
    group.sort(key=lambda named: named[1].numel(), reverse=True)
    costs = [tensor.numel() + _COST_OF_CALL for _, tensor in group]
    enough = math.inf
    if device.type == 'cpu':
        enough = max(_PIECE, sum(costs) / _MAX_PIECES)
    pieces = []
    begin = cost_of_piece = 0
    for end, cost in enumerate(costs, 1):
        cost_of_piece += cost
        if cost_of_piece >= enough or end == len(costs):
            pieces.append(Piece(*zip(*group[begin:end])))
            begin, cost_of_piece = end, 0
    return pieces


@torch.no_grad()
def _norms_of_piece(attribute: Optional[str], piece: Piece) -> NamedNorms:
    names, tensors, alike = piece
    if attribute is not None:
        tensors = [getattr(tensor, attribute) for tensor in tensors]
        if any(tensor is None for tensor in tensors):
            names = [n for n, t in zip(names, tensors) if t is not None]
            tensors = [tensor for tensor in tensors if tensor is not None]
    if not tensors:
        return [], torch.empty(0)
    if not all(tensor.layout is torch.strided for tensor in tensors):
        # Duplicate indices of a sparse gradient stand for their sum.
        tensors = [
            tensor
            if tensor.layout is torch.strided else tensor.coalesce().values()
            for tensor in tensors
        ]
        alike = False
    dtype = tensors[0].dtype
    if dtype not in (torch.float32, torch.float64):
        dtype = torch.float32
    # A parameter may have been given another shape since all were cut.
    if alike and len({tensor.shape for tensor in tensors}) == 1:
        rows = torch.cat(tensors).reshape(len(tensors), -1)
        return names, torch.linalg.vector_norm(rows, dim=1, dtype=dtype)
    if dtype == tensors[0].dtype:
        return names, torch.stack(torch._foreach_norm(tensors))
    return names, torch.stack(
        [torch.linalg.vector_norm(tensor, dtype=dtype) for tensor in tensors])
