# Copyright (c) OpenMMLab. All rights reserved.
import functools
import math
from itertools import chain, compress
from operator import attrgetter
from typing import Iterable, List, Optional, Sequence, Tuple

import torch
from torch import Tensor

from .work_sharing import share

# How many elements a thread takes at least: a fraction of a millisecond; and
# into how many pieces all are cut at most. To start on a tensor takes as long
# as so many of its elements.
_PIECE = 1 << 20
_MAX_PIECES = 16
_COST_OF_CALL = 1 << 13

_KIND = attrgetter('device', 'dtype', 'layout')

# Names of tensors, and the tensors.
Piece = Tuple[Sequence[str], Sequence[Tensor]]
# Names of tensors, and their norms on one device.
NamedNorms = Tuple[List[str], Tensor]


def cut(names: Sequence[str], tensors: Sequence[Tensor]) -> List[Piece]:
    """Cut tensors into pieces that take about as long, in the same order.

    On the CPU a foreach operator takes one tensor after the other, on one
    core, and each core takes a piece. Dot products take all cores, but wait
    for those that are busy elsewhere. A GPU is given all in one piece.

    Args:
        names (Sequence[str]): The name of each tensor.
        tensors (Sequence[Tensor]): The tensors.

    Returns:
        list[tuple[Sequence[str], Sequence[Tensor]]]: The pieces.
    """
    costs = [tensor.numel() + _COST_OF_CALL for tensor in tensors]
    enough = max(_PIECE, sum(costs) / _MAX_PIECES)
    if not all(tensor.is_cpu for tensor in tensors):
        enough = math.inf
    pieces = []
    begin = cost_of_piece = 0
    for end, cost in enumerate(costs, 1):
        cost_of_piece += cost
        if cost_of_piece >= enough or end == len(costs):
            pieces.append((names[begin:end], tensors[begin:end]))
            begin, cost_of_piece = end, 0
    return pieces


def named_norms(pieces: Iterable[Piece],
                attribute: Optional[str] = None) -> List[NamedNorms]:
    """L2 norm of each tensor, on a GPU in one launch for each type.

    Norms of half-precision tensors are accumulated and returned in float32,
    so that they neither overflow nor lose digits.

    Args:
        pieces (Iterable[tuple]): Tensors of any shape, dense or sparse, see
            :func:`cut`.
        attribute (str, optional): Take this attribute of each, 'grad' say,
            where it is not None. Defaults to None: the tensor itself.

    Returns:
        list[tuple[list[str], Tensor]]: For each device, type and layout the
        names of the tensors and their norms, shape (N, ), on that device.
    """
    norms = {}
    found = share(functools.partial(_norms_by_kind, attribute), pieces)
    for kind, of_names, of_kind in chain(*found):
        # Not a defaultdict: torch.compile, which may come here with the
        # optimizer's step, makes a dict of it.
        all_names, of_all = norms.setdefault(kind, ([], []))
        all_names.extend(of_names)
        of_all.append(of_kind)
    return [(names, torch.cat(of_kind)) for names, of_kind in norms.values()]


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


@torch.no_grad()
def _norms_by_kind(attribute: Optional[str],
                   piece: Piece) -> List[Tuple[tuple, List[str], Tensor]]:
    names, tensors = piece
    if attribute is not None:
        tensors = [getattr(tensor, attribute) for tensor in tensors]
        names = [n for n, t in zip(names, tensors) if t is not None]
        tensors = [tensor for tensor in tensors if tensor is not None]
    norms = []
    kinds = list(map(_KIND, tensors))
    for kind in dict.fromkeys(kinds):
        alike = [other == kind for other in kinds]
        norms.append((kind, list(compress(names, alike)),
                      _norms_of_kind(list(compress(tensors, alike)), kind)))
    return norms


def _norms_of_kind(tensors: Sequence[Tensor], kind: tuple) -> Tensor:
    _, dtype, layout = kind
    if layout is not torch.strided:
        # Duplicate indices of a sparse gradient stand for their sum.
        tensors = [tensor.coalesce().values() for tensor in tensors]
    if dtype in (torch.float32, torch.float64):
        return torch.stack(torch._foreach_norm(tensors))
    return torch.stack(
        [torch.linalg.vector_norm(t, dtype=torch.float32) for t in tensors])
