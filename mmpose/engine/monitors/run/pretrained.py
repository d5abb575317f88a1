# Copyright (c) OpenMMLab. All rights reserved.
"""Of which weights a training starts: how many are those of a checkpoint."""
import os
from bisect import bisect_left
from collections import defaultdict
from typing import Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple
from urllib.parse import urlparse

import torch
from mmengine.runner import checkpoint as checkpoints
from torch import Tensor, nn

from ..core.pose_measurements import PretrainedWeights
from ..core.runner_parts import bare_model, is_sharded

# The same numbers in another order have another rounding error.
_TOLERANCE = 1e-5


class _Source(NamedTuple):
    """A checkpoint, and the part of the model that it is for, '' if all."""
    checkpoint: str
    place: str


class LoadedWeights:
    """Compare the weights at the beginning with their checkpoints.

    Names do not count, since some backbones convert those of a checkpoint, nor
    does the order of the elements: two weights are the same if their numbers
    of elements, their sums and the sums of their absolute values are. Biases
    and the weights of norms are left out: they are the same at random.

    Args:
        runner (Runner): The runner, when its training begins.

    Attributes:
        sums (Tensor | None): Sum and absolute sum of each weight, shape
            (N, 2), on the device; None if no checkpoint is known.
    """

    def __init__(self, runner) -> None:
        self.sums: Optional[Tensor] = None
        model = bare_model(runner.model)
        if is_sharded(runner.model) or runner._resume:
            return
        self._sources = list(_sources(runner, model))
        weights = {
            name: weight
            for name, weight in model.named_parameters() if weight.dim() > 1
        }
        self._sizes = {name: w.numel() for name, w in weights.items()}
        if self._sources and weights:
            self.sums = torch.stack(list(map(_sums, weights.values())))

    def compare(self, sums: Tensor) -> Optional[PretrainedWeights]:
        """Read the checkpoints and compare, in the writer's thread.

        Args:
            sums (Tensor): :attr:`sums`, on the host.

        Returns:
            PretrainedWeights | None: None if a checkpoint is no longer there.
        """
        of_weight = dict(zip(self._sizes, sums.tolist()))
        found, least = 0, None
        for source in self._sources:
            path = local_file(source.checkpoint)
            if path is None:
                return None
            known = _read(path)
            prefix = f'{source.place}.' if source.place else ''
            names = [
                name for name in self._sizes
                if name.startswith(prefix) and of_weight[name][1]
            ]
            loaded = sum(self._sizes[name] for name in names
                         if _is_in(known, self._sizes[name], of_weight[name]))
            found += loaded
            total = sum(self._sizes[name] for name in names)
            if total and (least is None or loaded / total < least[0]):
                least = loaded / total, source
        if least is None:
            return None
        fraction, source = least
        return PretrainedWeights(source.checkpoint, source.place or 'model',
                                 fraction, found / sum(self._sizes.values()))


def local_file(checkpoint: str) -> Optional[str]:
    """Return where MMEngine has a checkpoint on this machine.

    Nothing is downloaded.

    Args:
        checkpoint (str): As in a config: a path, an address, or a name such as
            'torchvision://resnet50'.

    Returns:
        str | None: None if it is not there.
    """
    scheme, is_named, name = checkpoint.partition('://')
    if is_named:
        models = dict(
            torchvision=checkpoints.get_torchvision_models,
            modelzoo=checkpoints.get_torchvision_models,
            openmmlab=checkpoints.get_external_models,
            mmcls=checkpoints.get_mmcls_models).get(scheme.replace('-', ''))
        if models is not None:
            checkpoint = models().get(name, '')
    path = urlparse(checkpoint)
    if path.scheme in ('http', 'https'):
        checkpoint = os.path.join(torch.hub.get_dir(), 'checkpoints',
                                  os.path.basename(path.path))
    return checkpoint if os.path.isfile(checkpoint) else None


def _sources(runner, model: nn.Module) -> Iterator[_Source]:
    """Yield the checkpoints that a model was built from."""
    if runner._load_from:
        # It comes after all others and replaces what they have loaded.
        yield _Source(str(runner._load_from), '')
        return
    outer: List[str] = []
    for place, module in model.named_modules():
        init_cfg = getattr(module, 'init_cfg', None)
        if isinstance(init_cfg, dict):
            init_cfg = [init_cfg]
        for init in init_cfg if isinstance(init_cfg, (list, tuple)) else ():
            if (isinstance(init, dict) and init.get('type') == 'Pretrained'
                    and not any(f'{place}.'.startswith(o) for o in outer)):
                outer.append(f'{place}.' if place else '')
                yield _Source(str(init.get('checkpoint')), place)


def _sums(weight: Tensor) -> Tensor:
    """Return the sum and the absolute sum of a weight, shape (2, )."""
    weight = weight.detach()
    # Apple's GPUs have no float64.
    dtype = torch.float32 if weight.device.type == 'mps' else torch.float64
    return torch.stack(
        [weight.sum(dtype=dtype),
         weight.abs().sum(dtype=dtype)])


def _read(path: str) -> Dict[int, List[Tuple[float, float]]]:
    """Return the sums of all weights of a checkpoint by size, sorted."""
    known = defaultdict(list)
    for weight in _tensors(checkpoints.load_from_local(path, 'cpu')):
        if weight.dim() > 1 and weight.is_floating_point():
            total, absolute = _sums(weight).tolist()
            known[weight.numel()].append((absolute, total))
    return {size: sorted(sums) for size, sums in known.items()}


def _tensors(content) -> Iterable[Tensor]:
    """Yield the tensors of a checkpoint, however deep they are."""
    if isinstance(content, Tensor):
        yield content
    elif isinstance(content, dict):
        for value in content.values():
            yield from _tensors(value)


def _is_in(known: Dict[int, List[Tuple[float, float]]], size: int,
           sums: Tuple[float, float]) -> bool:
    total, absolute = sums
    margin = _TOLERANCE * absolute
    candidates = known.get(size, [])
    for i in range(
            bisect_left(candidates, (absolute - margin, )), len(candidates)):
        other_absolute, other_total = candidates[i]
        if other_absolute > absolute + margin:
            return False
        if abs(other_total - total) <= margin:
            return True
    return False
