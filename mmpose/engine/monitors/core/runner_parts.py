# Copyright (c) OpenMMLab. All rights reserved.
import math
import sys
from typing import Iterator, List, Tuple

import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.dist import get_world_size
from mmengine.hooks import EMAHook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import BaseLoop, IterBasedTrainLoop
from torch import nn


def bare_model(model: nn.Module) -> nn.Module:
    """The model inside what distributes or compiles it, if anything does.

    Args:
        model (nn.Module): ``runner.model``.

    Returns:
        nn.Module: The model that the config describes.
    """
    while True:
        if is_model_wrapper(model):
            model = model.module
        # Not a method of it, but all of it was given to ``torch.compile``.
        elif '_orig_mod' in model._modules:
            model = model._orig_mod
        else:
            return model


def optim_wrappers(optim_wrapper) -> Iterator[Tuple[str, OptimWrapper]]:
    """The optimizer wrappers of a run, one by one.

    Args:
        optim_wrapper (OptimWrapper | OptimWrapperDict):
            ``runner.optim_wrapper``.

    Yields:
        tuple[str, OptimWrapper]: The name it has in an
        :obj:`OptimWrapperDict`, '' where there is just one; the wrapper.
    """
    if isinstance(optim_wrapper, OptimWrapperDict):
        yield from optim_wrapper.items()
    else:
        yield '', optim_wrapper


def needs_all_ranks(model: nn.Module) -> bool:
    """Whether a model runs on all ranks together only.

    Args:
        model (nn.Module): ``runner.model``.

    Returns:
        bool: True where modules inside the model have a distributed wrapper of
        their own, which may send buffers to the other ranks; and with several
        ranks, where the model is not known to be whole on each, as it is under
        DDP and is not under FSDP or ZeRO.
    """
    if any(map(is_model_wrapper, bare_model(model).modules())):
        return True
    if get_world_size() == 1:
        return is_sharded(model)
    return not any(
        isinstance(module, nn.parallel.DistributedDataParallel)
        for module in model.modules())


def is_sharded(model: nn.Module) -> bool:
    """Whether each rank holds a part of the model only, as under FSDP.

    Args:
        model (nn.Module): ``runner.model``.

    Returns:
        bool: False in a PyTorch without distributed training.
    """
    if not torch.distributed.is_available():
        return False
    from torch.distributed.fsdp import FullyShardedDataParallel
    return any(
        isinstance(module, FullyShardedDataParallel)
        for module in model.modules())


def data_set(loader):
    """The data set behind a data loader.

    Args:
        loader (DataLoader): ``runner.train_dataloader``, say.

    Returns:
        Dataset: Without wrappers that have no ``metainfo``.
    """
    dataset = loader.dataset
    while not hasattr(dataset, 'metainfo') and hasattr(dataset, 'dataset'):
        dataset = dataset.dataset
    return dataset


def keypoint_names(metainfo: dict, num_keypoints: int) -> List[str]:
    """What a data set calls its keypoints.

    Args:
        metainfo (dict): The data set's.
        num_keypoints (int): How many there are.

    Returns:
        list[str]: ``keypoint_<i>`` where it has no names, or not so many.
    """
    names = metainfo.get('keypoint_id2name', {})
    if len(names) != num_keypoints:
        return [f'keypoint_{i}' for i in range(num_keypoints)]
    return [str(names[i]) for i in range(num_keypoints)]


def iterations_per_pass(runner) -> int:
    """How many iterations it takes until all training data were seen once.

    Args:
        runner (Runner): The runner of the training process.

    Returns:
        int: Of all ranks together.

    Raises:
        TypeError: The data have no end.
    """
    loader = runner.train_dataloader
    iterations = len(loader)
    if isinstance(loader.sampler, InfiniteSampler):
        # A rank sees its part, but the length is that of the whole data set.
        iterations = math.ceil(iterations / loader.sampler.world_size)
    return iterations


def own_samples(loader) -> int:
    """How many samples of this rank no other has.

    A sampler that makes the shares equal repeats samples at the end.

    Args:
        loader (DataLoader): ``runner.val_dataloader``.

    Returns:
        int: ``sys.maxsize`` where the sampler is none of MMEngine's.
    """
    sampler = loader.sampler
    if not isinstance(sampler, DefaultSampler):
        return sys.maxsize
    return len(range(sampler.rank, len(loader.dataset), sampler.world_size))


def is_averaged(runner) -> bool:
    """Whether validations and tests are those of an averaged model.

    Args:
        runner (Runner): The runner.

    Returns:
        bool: True where there is an :obj:`mmengine.hooks.EMAHook`.
    """
    return any(isinstance(hook, EMAHook) for hook in runner.hooks)


def is_iter_based(runner) -> bool:
    """Whether the run trains by iterations rather than by epochs.

    Args:
        runner (Runner): The runner.

    Returns:
        bool: False for a run that does not train.
    """
    return isinstance(runner._train_loop, IterBasedTrainLoop)


def evaluation_step(runner) -> int:
    """The step of a validation or test.

    :obj:`mmengine.hooks.LoggerHook` has the same where its
    ``log_metric_by_epoch`` fits the loop.

    Args:
        runner (Runner): The runner.

    Returns:
        int: The finished epochs; in iteration-based training the finished
        iterations; 0 in a run that does not train.
    """
    # ``runner.train_loop`` would build a loop that nobody asked for.
    if not isinstance(runner._train_loop, BaseLoop):
        return 0
    return runner.iter if is_iter_based(runner) else runner.epoch
