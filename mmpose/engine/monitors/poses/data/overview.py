# Copyright (c) OpenMMLab. All rights reserved.
import functools
import logging
import threading
from typing import Any, Dict, Iterator, List, NamedTuple

from mmengine.logging import print_log
from mmengine.runner import BaseLoop
from torch.utils.data import DataLoader

from ...core.monitor import Monitor
from ...core.registry import MONITORS
from ...core.runner_parts import (bare_model, data_set, evaluation_step,
                                  keypoint_names, pipeline_transforms)
from ...writers.record import IMAGE, Image, Record, Text
from ..accuracy.keypoint_curves import curve_groups
from ..arguments import LOG_DATA
from ..model_kinds import lifts_poses
from ..pose_samples import PoseSampleReader
from .annotated_data import (MAX_SAMPLES, loaded_parts, read_evaluated,
                             read_samples)
from .overview_figure import overview_figure
from .overview_table import overview_table
from .overview_tally import Crop, OverviewTally
from .same_images import shared_images

# The longest time that the end of a short run waits, in seconds.
_LONGEST_WAIT = 30


@MONITORS.register_module()
class DataOverviewMonitor(Monitor):
    """Show what is annotated in the data of training and validation.

    ================= =======================================================
    ``data/overview`` A figure and a table: how often each keypoint is
                      visible, occluded and absent; where the keypoints lie in
                      the crop; sizes and aspect ratios of boxes; instances
                      per image and without keypoints
    ================= =======================================================

    What it tells: Whether the annotations are those that you think they are,
    and whether the validation is like the training. A keypoint that is never
    annotated cannot be learned; keypoints outside of the crop are lost. The
    report says so if images of the validation are in the training as well, by
    their path or, for files on a local disk, by their content;
    ``shared_images.csv`` beside the event file lists them.

    Written once, when the training begins, from the annotations that the data
    sets hold in memory, in a thread of its own. Crowds are not counted. With a
    detector's boxes, the annotations of the validation are those that its
    evaluator compares with. The crop is the box with the padding of the
    pipeline, in the aspect ratio of the input, without augmentation; for a
    bottom-up model, the box. The table has body parts where there are more
    than 30 keypoints. A line of the log says where it cannot be written.

    Args:
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    switches = (LOG_DATA, )

    def __init__(self, strict: bool = False) -> None:
        super().__init__(strict=strict)
        self._counted = threading.Event()
        self._counted.set()

    def before_train(self, runner) -> None:
        if lifts_poses(bare_model(runner.model)):
            print_log(
                'EnhancedTensorBoardHook writes no data/overview: a lifting '
                'model is trained on keypoints, without images and boxes.',
                logger='current',
                level=logging.INFO)
            return
        splits, step = [], evaluation_step(runner)
        # ``tools/test.py`` calls it without a training.
        if isinstance(runner._train_loop, BaseLoop):
            splits.append(Split('training', runner.train_dataloader))
            step = runner.iter
        val_loop = getattr(runner, 'val_loop', None)
        if getattr(val_loop, 'dataloader', None) is not None:
            splits.append(
                Split('validation', val_loop.dataloader,
                      getattr(val_loop, 'evaluator', None)))
        self._write(step, splits)

    def after_train(self, runner) -> None:
        # One that is shorter than the counting.
        self._counted.wait(_LONGEST_WAIT)

    def after_test_epoch(self, runner, metrics) -> None:
        self.after_train(runner)

    def _write(self, step: int, splits: List['Split']) -> None:
        splits = [split for split in splits if split.is_readable()]
        if splits:
            self._counted.clear()
            threading.Thread(
                target=self._count,
                args=(step, splits),
                name=type(self).__name__,
                daemon=True).start()

    def _count(self, step: int, splits: List['Split']) -> None:
        """Write what is annotated; in a thread of its own.

        A large data set takes several seconds, and a disk may be slow.
        """
        try:
            overview = Overview(splits)
            table, figure = overview.table(), overview.figure()
            self.emit(Record(step, lambda: [Text('data/overview', table)]))
            self.emit(
                Record(
                    step,
                    lambda: [Image('data/overview', [figure])],
                    kind=IMAGE,
                    size=figure.nbytes))
            self._counted.set()
            images = overview.images()
            if len(images) > 1:
                first, second = (_storage(split.loader) for split in splits)
                for shared in shared_images(*images, self.writer.log_dir,
                                            first == second):
                    self.emit(Record(step, functools.partial(list, [shared])))
        except Exception as error:
            self.emit(Record(step, functools.partial(_fail, error)))
        finally:
            self._counted.set()


def _storage(loader: DataLoader) -> List[tuple]:
    """Return where the images of a data set are, if not on a disk."""
    return [(step.backend_args, getattr(step, 'file_client_args', None))
            for step in pipeline_transforms(data_set(loader))
            if hasattr(step, 'backend_args')][:1]


def _fail(error: Exception) -> None:
    """Raise an error where the guard of the monitor is told of it."""
    raise error


class Split(NamedTuple):
    """The data of a loop.

    Attributes:
        name (str): Such as 'training'.
        loader (DataLoader): Its data loader.
        evaluator (Evaluator, optional): Its evaluator. Defaults to None.
    """
    name: str
    loader: DataLoader
    evaluator: Any = None

    def is_readable(self) -> bool:
        """Return whether its annotations are in memory; if not, log why."""
        if loaded_parts(self.loader.dataset):
            return True
        print_log(
            f'EnhancedTensorBoardHook writes no data/overview of the '
            f'{self.name}: {type(data_set(self.loader)).__name__} does not '
            "hold annotations as MMEngine's BaseDataset does.",
            logger='current',
            level=logging.INFO)
        return False


class Overview:
    """Count the annotations of some splits, and show the numbers.

    Args:
        splits (list[Split]): At least one.
    """

    def __init__(self, splits: List[Split]) -> None:
        self._notes: List[str] = []
        self._meta: dict = getattr(data_set(splits[0].loader), 'metainfo', {})
        self._tallies: Dict[str, OverviewTally] = {}
        for split in splits:
            tally = self._tallies[split.name] = self._count(split)
            self._notes += _notes(split.name, tally)
        filtered = [
            split.name for split in splits
            if self._tallies[split.name].compared and not self._tallies[
                split.name].empty and _leaves_out(split.loader.dataset)
        ]
        if filtered:
            self._notes.append(
                f'There are no instances without keypoints in '
                f'{" and ".join(filtered)}: in the top-down mode, data sets '
                'leave them out.')

    def table(self) -> str:
        """Return all numbers in Markdown."""
        return overview_table(self._tallies, self._groups(), self._notes)

    def images(self) -> List[List[str]]:
        """Return the files of the images of each split."""
        return [
            list(filter(None, tally.images))
            for tally in self._tallies.values()
        ]

    def figure(self):
        """Return the picture, RGB, uint8 of shape (H, 900, 3)."""
        return overview_figure(self._tallies, self._groups())

    def _groups(self) -> Dict[str, List[int]]:
        first = next(iter(self._tallies.values()))
        names = keypoint_names(self._meta, first.num_keypoints)
        return curve_groups(names, self._meta)

    def _count(self, split: Split) -> OverviewTally:
        dataset = data_set(split.loader)
        reader = PoseSampleReader(dataset, split.evaluator)
        has_several = bool(getattr(dataset, 'datasets', None))
        tally = None
        for part in loaded_parts(split.loader.dataset):
            samples = read_samples(part)
            what, count = 'samples', len(part)
            if getattr(part, 'bbox_file', None):
                name = part.metainfo['dataset_name'] if has_several else None
                coco = reader.rules(name).coco
                self._notes.append(
                    f'The {split.name} predicts in {count:,} boxes of a '
                    'detector. ' +
                    ('The evaluator does not hold the annotations.'
                     if coco is None else
                     'The numbers are those of the annotations that its '
                     'evaluator compares with.'))
                samples = read_evaluated(reader, name)
                what, count = 'images', len(coco.imgs) if coco else 0
            if count > MAX_SAMPLES:
                self._notes.append(
                    f'{MAX_SAMPLES:,} of the {count:,} {what} of the '
                    f'{split.name} are counted, spread over all.')
            samples = iter(samples)
            if tally is None:
                tally, samples = self._begin(samples, dataset)
            tally.add(samples)
        return tally

    def _begin(self, samples: Iterator, dataset) -> tuple:
        """Return an empty tally for samples, and all of the samples."""
        read = []
        number = self._meta.get('num_keypoints')
        for sample in samples if number is None else ():
            read.append(sample)
            if len(sample.keypoints):
                number = sample.keypoints.shape[1]
                break
        if self._tallies:  # A row of the table is one keypoint.
            number = next(iter(self._tallies.values())).num_keypoints

        def all_samples():
            yield from read
            yield from samples

        return OverviewTally(number or 0, _crop_of(dataset)), all_samples()


def _leaves_out(dataset) -> bool:
    """Return whether a data set leaves out instances without keypoints."""
    return any(
        getattr(part, 'data_mode', '') == 'topdown'
        and not getattr(part, 'bbox_file', None)
        for part in loaded_parts(dataset))


def _crop_of(dataset) -> Crop:
    """Return how a pipeline crops."""
    from mmpose.datasets.transforms import GetBBoxCenterScale, TopdownAffine
    crop = Crop()
    for step in pipeline_transforms(dataset):
        if isinstance(step, GetBBoxCenterScale):
            crop = crop._replace(padding=step.padding)
        elif isinstance(step, TopdownAffine):
            width, height = step.input_size
            crop = crop._replace(ratio=width / height)
    return crop


def _notes(name: str, tally: OverviewTally) -> Iterator[str]:
    """Yield what a reader has to know about the numbers."""
    if tally.instances and not tally.tells_occluded:
        yield (f'The annotations of the {name} do not tell occluded keypoints '
               'from visible ones.')
    if tally.others:
        yield (f'{tally.others:,} instances of the {name} have another number '
               f'of keypoints than {tally.num_keypoints}: only their boxes '
               'are counted.')
    if tally.nonfinite:
        yield (f'{tally.nonfinite:,} annotated keypoints of the {name} have '
               'coordinates that are NaN or infinite: some codecs leave them '
               'out without a word, of others the target is NaN, and so is '
               'the loss. Annotate them as absent.')
