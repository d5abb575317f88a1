# Copyright (c) OpenMMLab. All rights reserved.
import copy
import multiprocessing
import pickle
from typing import Callable, Iterator, List, NamedTuple, Optional, Sequence

import torch
from mmengine.dataset import Compose, pseudo_collate

from ...core.runner_parts import data_set_parts
from ...core.schedule import spread
from ...core.side_effects import fix_generators, generators_restored
from ..predictions import to_numpy
from .targets import NoTargetsError, with_targets

# How many samples are tried for one with a visible keypoint.
_TRIES = 8
# The targets of a whole body may take 4 MB a sample.
_MAX_BYTES = 64 * 2**20
# The seconds after which a process is given up.
_TIMEOUT = 300


class LossBatch(NamedTuple):
    """Samples whose loss is computed together.

    Attributes:
        pickled (bytes): The batch as a data loader gives it.
        size (int): How many samples it has.
    """
    pickled: bytes
    size: int


def pickle_first(batch: dict, count: int) -> bytes:
    """Keep a batch, of a large one the first samples.

    Args:
        batch (dict): As a data loader gives it: lists and tensors of samples.
        count (int): How many samples to keep at most.
    """
    first = {key: value[:count] for key, value in batch.items()}
    # Not the memory of all samples.
    return pickle.dumps({
        key: value.clone() if isinstance(value, torch.Tensor) else value
        for key, value in first.items()
    })


def validation_samples(validation, training):
    """Copy a data set of validation samples, with a training's targets.

    The annotations are not copied. Those of a detector's boxes are read again.

    Args:
        validation (Dataset): The data set of the validation.
        training (Dataset): That of the training.

    Raises:
        NoTargetsError: There are no targets.
    """
    trains = _packing_transforms(training)
    return _copied(validation, lambda own: with_targets(own, trains or ()))


def training_samples(validation, training):
    """Copy a data set of training samples, prepared as in the validation.

    Args:
        validation (Dataset): The data set of the validation.
        training (Dataset): That of the training.

    Raises:
        NoTargetsError: There are no targets, or the samples cannot be prepared
            so.
    """
    trains, own = map(_packing_transforms, (training, validation))
    if trains is None or own is None:
        raise NoTargetsError(
            'the data set of the training or of the validation has no '
            'pipeline that could be exchanged')
    return _copied(training, lambda _: with_targets(own, trains))


def _packing_transforms(dataset) -> Optional[Sequence[Callable]]:
    """Return the transforms of the first pipeline that packs samples."""
    for part in data_set_parts(dataset):
        if _packs(part):
            return part.pipeline.transforms
    return None


def _packs(dataset) -> bool:
    # A combined data set may leave packing to its parts, and the other way
    # round.
    transforms = getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
    return any('Pack' in type(step).__name__ for step in transforms)


def _copied(dataset, change: Callable):
    """Copy a data set with a change of the pipelines that pack.

    What is no MMPose data set stays as it is: its samples may have targets.
    """
    copied = copy.copy(dataset)
    if any(
            getattr(part, 'bbox_file', None)
            for part in data_set_parts(dataset) if part is not dataset):
        raise NoTargetsError(
            "of several data sets, one consists of a detector's boxes")
    if _packs(dataset):
        copied.pipeline = Compose(change(dataset.pipeline.transforms))
    elif hasattr(dataset, 'dataset'):
        copied.dataset = _copied(dataset.dataset, change)
    elif hasattr(dataset, 'datasets'):
        copied.datasets = [_copied(part, change) for part in dataset.datasets]
    # Another one, chosen by chance, would take the place of a bad sample.
    copied.max_refetch = 0
    if getattr(dataset, 'bbox_file', None):
        # A detector's boxes have no keypoints.
        copied.bbox_file = None
        copied.test_mode = False
        copied.data_list = []
        copied._fully_initialized = False
    return copied


class LoadOnce:
    """Load samples, in a process of its own that begins now.

    It is none of a data loader: the death of its workers raises in the main
    thread, wherever that is.

    Args:
        dataset (Dataset): A copy of a data set, see
            :func:`validation_samples`.
        count (int): How many of them, spread over the data set.
        batch_size (int): How many make up a batch at most.
        loader (DataLoader): That of the validation. Where it has no workers,
            the samples are loaded in this thread, when :meth:`result` is
            called; else as it starts them.
    """

    def __init__(self, dataset, count: int, batch_size: int, loader) -> None:
        self._batches = _Batches(dataset, count, batch_size)
        self._receiver = None
        if loader.num_workers:
            context = loader.multiprocessing_context or multiprocessing
            self._receiver, sender = context.Pipe(duplex=False)
            self._process = context.Process(
                target=_send, args=(self._batches, sender), daemon=True)
            self._process.start()
            sender.close()

    def result(self) -> List[LossBatch]:
        """Return all batches.

        Raises:
            Exception: That of the last sample if none could be loaded.
            RuntimeError: The process has died, or takes too long.
        """
        if self._receiver is None:
            with generators_restored():
                return self._batches.load()
        try:
            if not self._receiver.poll(_TIMEOUT):
                raise RuntimeError(f'loading takes more than {_TIMEOUT} '
                                   'seconds')
            batches = self._receiver.recv()
        except EOFError:
            raise RuntimeError('the process that loads has died') from None
        finally:
            self._process.kill()
            self._process.join()
        if isinstance(batches, str):
            raise RuntimeError(batches)
        return batches


def _send(batches: '_Batches', sender) -> None:
    """Load batches and send them, or why it fails."""
    torch.set_num_threads(1)
    try:
        sender.send(batches.load())
    except NoTargetsError as error:
        sender.send(str(error))
    except Exception as error:  # Of a data set, in a use of ours.
        sender.send(f'{type(error).__name__}: {error}')


class _Batches:
    """Some samples of a data set, as batches.

    Args:
        dataset (Dataset): See :class:`LoadOnce`.
        count (int): See there.
        batch_size (int): See there.
    """

    def __init__(self, dataset, count: int, batch_size: int) -> None:
        self._dataset = dataset
        self._count = count
        self._batch_size = batch_size

    def load(self) -> List[LossBatch]:
        """Load them with generators that are fixed."""
        fix_generators()
        if not getattr(self._dataset, '_fully_initialized', True):
            self._dataset.full_init()
        return list(self._pickled())

    def _pickled(self) -> Iterator[LossBatch]:
        """Pickle consecutive samples of the same shape together."""
        batch: List[dict] = []
        for sample in self._samples():
            if batch and (len(batch) == self._batch_size
                          or _shape(sample) != _shape(batch[0])):
                yield LossBatch(
                    pickle.dumps(pseudo_collate(batch)), len(batch))
                batch = []
            batch.append(sample)
        if batch:
            yield LossBatch(pickle.dumps(pseudo_collate(batch)), len(batch))

    def _samples(self) -> Iterator[dict]:
        num = len(self._dataset)
        starts = sorted(spread(range(num), self._count))
        kept, failed = None, None
        for start, end in zip(starts, [*starts[1:], num]):
            if kept is not None and start not in kept:
                continue
            for i in range(start, min(end, start + _TRIES)):
                try:
                    sample = self._dataset[i]
                except Exception as error:  # One bad sample costs that one.
                    failed = error
                    continue
                if _has_keypoints(sample):
                    if kept is None:
                        fit = _MAX_BYTES // len(pickle.dumps(sample))
                        fit = max(1, min(fit, len(starts)))
                        kept = {start, *spread(starts, fit)}
                    yield sample
                    break
        if kept is None:
            raise failed or NoTargetsError(
                'no sample with a visible keypoint was found')


def _shape(sample: dict) -> tuple:
    return tuple(getattr(sample['inputs'], 'shape', ()))


def _has_keypoints(sample: Optional[dict]) -> bool:
    """Return whether a sample has a visible keypoint, or need not have one."""
    if sample is None:
        return False
    instances = sample['data_samples'].get('gt_instances', {})
    visible = to_numpy(instances.get('keypoints_visible'))
    return visible is None or bool((visible > 0).any())
