# Copyright (c) OpenMMLab. All rights reserved.
from typing import Dict, Iterable, List, Tuple

import torch
from torch import Tensor

# Names of tensors, and their norms on one device.
NamedNorms = Tuple[List[str], Tensor]


@torch.no_grad()
def named_norms(named: Iterable[Tuple[str, Tensor]],
                order: float = 2) -> List[NamedNorms]:
    """Compute the norm of each tensor, on its device.

    Norms of half-precision tensors are accumulated and returned in float32,
    so that they neither overflow nor lose digits.

    Args:
        named (Iterable[tuple[str, Tensor]]): Names and tensors of any shape,
            dense or sparse.
        order (float): 2, or infinity for the largest magnitude. Defaults to
            2.

    Returns:
        list[tuple[list[str], Tensor]]: For each device and type the names of
        the tensors and their norms, shape (N, ), on that device.
    """
    groups: Dict[tuple, Tuple[List[str], List[Tensor]]] = {}
    for name, tensor in named:
        if tensor.layout is not torch.strided:
            # Duplicate indices of a sparse gradient are summed.
            tensor = tensor.coalesce().values()
        names, tensors = groups.setdefault((tensor.device, tensor.dtype),
                                           ([], []))
        names.append(name)
        tensors.append(tensor)
    return [(names, torch.stack(_norms(tensors, order)))
            for names, tensors in groups.values()]


def _norms(tensors: List[Tensor], order: float) -> Iterable[Tensor]:
    dtype = tensors[0].dtype
    if dtype not in (torch.float32, torch.float64):
        dtype = torch.float32
    elif hasattr(torch, '_foreach_norm'):  # From PyTorch 1.13 on.
        return torch._foreach_norm(tensors, order)
    return [torch.norm(tensor, order, dtype=dtype) for tensor in tensors]


def joined(norms: Iterable[NamedNorms]) -> NamedNorms:
    """Join what :func:`named_norms` returns into one tensor.

    Args:
        norms (Iterable[tuple[list[str], Tensor]]): One or more of its items.

    Returns:
        tuple[list[str], Tensor]: All names and their norms, shape (N, ), on
        the device of the first.
    """
    names, tensors = zip(*norms)
    return ([name for some in names for name in some],
            torch.cat([tensor.to(tensors[0].device) for tensor in tensors]))
