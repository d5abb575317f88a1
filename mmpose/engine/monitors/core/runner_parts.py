# Copyright (c) OpenMMLab. All rights reserved.
"""Properties of a runner and its data sets that several monitors need."""
import math
import re
import sys
from typing import Iterator, List, Tuple

import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.dist import get_world_size
from mmengine.hooks import EMAHook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import BaseLoop, IterBasedTrainLoop
from mmengine.runner.amp import autocast
from torch import nn

# In the message hub of a run that does not train.
CHECKPOINT_STEP = 'enhanced_tensorboard_checkpoint_step'

_OTHER = dict(left='right', l='r')
_OTHER.update({b: a for a, b in _OTHER.items()})
_OTHER.update({a.title(): b.title() for a, b in _OTHER.items()})
_OTHER.update({a.upper(): b.upper() for a, b in _OTHER.items()})
# By themselves, as in left_eye, LEFT_EYE and r-hip; in LeftEye and RHip; at
# the end of hipLeft and HipR.
_WORD = '(?:left|right|Left|Right)'
_SIDE = re.compile(f'(?<![A-Za-z])(?:{_WORD}(?![a-z])|(?:LEFT|RIGHT|[lrLR])'
                   '(?![A-Za-z])|[LR](?=[A-Z][a-z]))|'
                   '(?<=[a-z])(?:Left|Right|[LR])(?![A-Za-z])')


def bare_model(model: nn.Module) -> nn.Module:
    """Return the model without distributed and compiled wrappers.

    Args:
        model (nn.Module): ``runner.model``.

    Returns:
        nn.Module: The model that the config describes.
    """
    while True:
        if is_model_wrapper(model):
            model = model.module
        # The whole model was given to ``torch.compile``, not one of its
        # methods.
        elif '_orig_mod' in model._modules:
            model = model._orig_mod
        else:
            return model


def optim_wrappers(optim_wrapper) -> Iterator[Tuple[str, OptimWrapper]]:
    """Iterate over the optimizer wrappers of a run.

    Args:
        optim_wrapper (OptimWrapper | OptimWrapperDict):
            ``runner.optim_wrapper``.

    Yields:
        tuple[str, OptimWrapper]: Its name in an :obj:`OptimWrapperDict`, ''
        where there is only one; and the wrapper.
    """
    if isinstance(optim_wrapper, OptimWrapperDict):
        yield from optim_wrapper.items()
    else:
        yield '', optim_wrapper


def needs_all_ranks(model: nn.Module) -> bool:
    """Return whether a forward pass of the model takes all ranks.

    Args:
        model (nn.Module): ``runner.model``.

    Returns:
        bool: True if modules inside the model have a distributed wrapper of
        their own, which may send buffers to the other ranks. With several
        ranks also True unless each is known to hold the whole model, as under
        DDP and not under FSDP or ZeRO.
    """
    if any(map(is_model_wrapper, bare_model(model).modules())):
        return True
    if get_world_size() == 1:
        return is_sharded(model)
    return not any(
        isinstance(module, nn.parallel.DistributedDataParallel)
        for module in model.modules())


def is_sharded(model: nn.Module) -> bool:
    """Return whether each rank holds only a part of the model, as with FSDP.

    Args:
        model (nn.Module): ``runner.model``.

    Returns:
        bool: False in a PyTorch without distributed training or FSDP.
    """
    if not torch.distributed.is_available():
        return False
    try:
        from torch.distributed.fsdp import FullyShardedDataParallel
    except ImportError:
        return False
    return any(
        isinstance(module, FullyShardedDataParallel)
        for module in model.modules())


def data_set(loader):
    """Return the data set of a data loader.

    Args:
        loader (DataLoader): A data loader of the runner.

    Returns:
        Dataset: The data set without wrappers that have no ``metainfo``.
    """
    return unwrapped(loader.dataset)


def unwrapped(dataset):
    """Return a data set without wrappers that have no ``metainfo``.

    Args:
        dataset (Dataset): A data set.
    """
    while not hasattr(dataset, 'metainfo') and hasattr(dataset, 'dataset'):
        dataset = dataset.dataset
    return dataset


def validation_precision(runner):
    """Return a context with the precision of the validation.

    Args:
        runner (Runner): The runner of the training process.
    """
    return autocast(enabled=getattr(runner.val_loop, 'fp16', False))


def keypoint_names(metainfo: dict, num_keypoints: int) -> List[str]:
    """Return the names of the keypoints of a data set.

    Args:
        metainfo (dict): The ``metainfo`` of the data set.
        num_keypoints (int): The number of keypoints.

    Returns:
        list[str]: ``keypoint_<i>`` where the number of names differs.
    """
    names = metainfo.get('keypoint_id2name', {})
    if len(names) != num_keypoints:
        return [f'keypoint_{i}' for i in range(num_keypoints)]
    return [str(names[i]) for i in range(num_keypoints)]


def other_side(name: str) -> str:
    """Return a name with left for right and right for left."""
    return _SIDE.sub(lambda match: _OTHER[match[0]], name)


def without_side(name: str) -> str:
    """Return the words of a name without left and right."""
    words = re.findall(r'[^\W_]+', _SIDE.sub('', name))
    return ' '.join(words) or name


def iterations_per_pass(runner) -> int:
    """Return the number of iterations of one pass over the training data.

    Args:
        runner (Runner): The runner of the training process.

    Returns:
        int: The number of iterations, with all ranks together.

    Raises:
        TypeError: The data set is iterable and has no length.
    """
    loader = runner.train_dataloader
    iterations = len(loader)
    if isinstance(loader.sampler, InfiniteSampler):
        # The length is that of the data set, but each rank gets only a part.
        iterations = math.ceil(iterations / loader.sampler.world_size)
    return iterations


def own_samples(loader) -> int:
    """Return the number of samples of this rank that are not repeated.

    A sampler repeats samples at the end, so that each rank has as many.

    Args:
        loader (DataLoader): ``runner.val_dataloader``.

    Returns:
        int: ``sys.maxsize`` where the sampler is none of MMEngine's.
    """
    sampler = loader.sampler
    if not isinstance(sampler, DefaultSampler):
        return sys.maxsize
    return len(range(sampler.rank, len(loader.dataset), sampler.world_size))


def has_ema_model(runner) -> bool:
    """Return whether validations and tests use an EMA model.

    Args:
        runner (Runner): The runner.

    Returns:
        bool: True where there is an :obj:`mmengine.hooks.EMAHook`.
    """
    return any(isinstance(hook, EMAHook) for hook in runner.hooks)


def is_iter_based(runner) -> bool:
    """Return whether the training is iteration-based.

    Args:
        runner (Runner): The runner.

    Returns:
        bool: False for a run that does not train.
    """
    return isinstance(runner._train_loop, IterBasedTrainLoop)


def evaluation_step(runner) -> int:
    """Return the step at which a validation or test is logged.

    :obj:`mmengine.hooks.LoggerHook` uses the same step if its
    ``log_metric_by_epoch`` fits the loop.

    Args:
        runner (Runner): The runner.

    Returns:
        int: The number of finished epochs, or of iterations in
        iteration-based training. In a run that does not train, that of the
        checkpoint that ``tools/test.py`` has loaded, else 0.
    """
    # ``runner.train_loop`` would build a loop where there is none.
    if not isinstance(runner._train_loop, BaseLoop):
        return runner.message_hub.get_info(CHECKPOINT_STEP, 0)
    return runner.iter if is_iter_based(runner) else runner.epoch


def losses_of_iteration(message_hub, outputs: dict) -> List[Tuple[str, float]]:
    """Return the losses of a training iteration, which are on the host.

    :obj:`mmengine.hooks.RuntimeInfoHook` has copied them to the host.

    Args:
        message_hub (MessageHub): ``runner.message_hub``.
        outputs (dict): The outputs of the training step.

    Returns:
        list[tuple[str, float]]: Name and value of each.
    """
    # MMEngine selects them in the same way; the outputs also hold accuracies.
    return [(name, value_of_iteration(message_hub, name)) for name in outputs
            if 'loss' in name and f'train/{name}' in message_hub.log_scalars]


def value_of_iteration(message_hub, name: str) -> float:
    """Return a value that a training step has returned, from the host."""
    return message_hub.get_scalar(f'train/{name}').current()


def data_set_parts(dataset) -> Iterator:
    """Iterate over a data set and all that it wraps or combines.

    Args:
        dataset (Dataset): The data set of a loader.

    Yields:
        Dataset: The outer ones first.
    """
    yield dataset
    for part in (getattr(dataset, 'dataset',
                         None), *getattr(dataset, 'datasets', ())):
        if part is not None:
            yield from data_set_parts(part)


def pipeline_transforms(dataset) -> Iterator:
    """Iterate over the transforms of all pipelines of a data set.

    Args:
        dataset (Dataset): A data set, which may wrap or combine others.
    """
    for part in data_set_parts(dataset):
        pipeline = getattr(part, 'pipeline', None)
        yield from getattr(pipeline, 'transforms', ())
