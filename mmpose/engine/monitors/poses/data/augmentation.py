# Copyright (c) OpenMMLab. All rights reserved.
import functools
import logging
import pickle
import threading
from typing import Iterator, List, Optional

from mmengine.logging import print_log

from ...core.arguments import WEIGHT_HIST_INTERVAL, Arguments
from ...core.monitor import Monitor
from ...core.registry import MONITORS
from ...core.runner_parts import (bare_model, data_set, is_iter_based,
                                  iterations_per_pass)
from ...core.schedule import Interval
from ...writers.record import IMAGE, Image, Record
from ..arguments import LOG_DATA
from ..model_kinds import lifts_poses
from ..pictures.model_inputs import copy_input, image_prefixes
from ..pictures.pose_painter import PosePainter
from ..pictures.pose_targets import find_codec, read_labels
from ..pipelines import PipelineWatch, mixes_images
from .drawing_process import DrawingProcess, Job
from .few_samples import choose_samples
from .sheet import draw_panel, sheet

# How many samples are drawn, how often each, and how many others there are for
# transforms that mix images.
_SAMPLES, _DRAWS, _OTHERS = 4, 5, 16
# How many of a batch are shown.
_FRESH = 6


@MONITORS.register_module()
class AugmentationMonitor(Monitor):
    """Show what the pipeline of the training makes of the samples.

    ===================== ===================================================
    ``data/augmentation`` Four training samples, a picture for each: what is
                          annotated, and five draws of the pipeline with the
                          target on the input; later, fresh samples of a batch
    ===================== ===================================================

    What it tells: How strong the augmentation is, and whether image and
    keypoints stay together in it. Look for draws in which the subject is cut
    off, hardly visible or upside down, and for targets that do not lie on it.

    The four samples are spread over the data set. They are drawn when the
    training begins and when the pipeline is switched, in a process of its own
    with its own random numbers: the training's are not touched. Every
    ``weight_hist_interval``, the first six samples of a batch are shown, as it
    comes. The input is shown before the data preprocessor. A line of the log
    says where nothing can be drawn.

    Args:
        interval (int | dict | Schedule): At which epochs to show fresh
            samples; in iteration-based training at which iterations.
        by_passes (bool): In iteration-based training take the schedule to be
            in passes over the training data, which is what an epoch is.
            Defaults to False.
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    switches = (LOG_DATA, )
    settings = dict(interval=WEIGHT_HIST_INTERVAL)

    @classmethod
    def settings_from(cls, given: Arguments) -> dict:
        return dict(
            super().settings_from(given),
            by_passes=not given.is_given(WEIGHT_HIST_INTERVAL.name))

    def __init__(self,
                 interval: Interval,
                 by_passes: bool = False,
                 strict: bool = False) -> None:
        super().__init__(interval, strict)
        self._by_passes = by_passes
        self._process: Optional[DrawingProcess] = None
        self._thread: Optional[threading.Thread] = None

    def before_train(self, runner) -> None:
        self._pipeline = PipelineWatch()
        self._epoch = runner.epoch
        model = bare_model(runner.model)
        self._off = lifts_poses(model)
        if self._off:
            _say('a lifting model has no images')
        self._codec = find_codec(model)
        self._passes = 1
        if self._by_passes and is_iter_based(runner):
            self._passes = iterations_per_pass(runner)

    def before_train_iter(self, runner, batch_idx: int, data_batch) -> None:
        if self._off:
            return
        dataset = data_set(runner.train_dataloader)
        if self._pipeline.has_changed(dataset):
            self._epoch = runner.epoch
            self._draw(runner, dataset)
        elif (self._is_time(runner) and isinstance(data_batch, dict)
              and 'data_samples' in data_batch):
            self._show(runner.iter + 1, dataset, data_batch)

    def after_train(self, runner) -> None:
        if self._process is not None:
            self._process.end()

    def wait(self) -> None:
        """Wait until the process has ended, for tests."""
        if self._thread is not None:
            self._thread.join()

    def _is_time(self, runner) -> bool:
        """Return whether fresh samples are due."""
        if not is_iter_based(runner):
            is_new, self._epoch = runner.epoch != self._epoch, runner.epoch
            return is_new and self.is_due(runner.epoch + 1)
        number, rest = divmod(runner.iter + 1, self._passes)
        return rest == 0 and self.is_due(number)

    def _draw(self, runner, dataset) -> None:
        """Let another process draw the same samples several times."""
        step = runner.iter + 1
        self.after_train(runner)
        others = _OTHERS if mixes_images(dataset) else _SAMPLES
        samples = choose_samples(runner.train_dataloader.dataset, others)
        if samples is None:
            _say(f'{type(dataset).__name__} does not hold annotations as '
                 "MMEngine's BaseDataset does")
            return
        job = Job(samples, _SAMPLES, _DRAWS, self._codec,
                  image_prefixes(dataset), f'pipeline of step {step:,}',
                  _imports(runner.cfg))
        try:
            pickled = pickle.dumps(job)
        except Exception as error:  # Whatever a transform of a user raises.
            _say(f'the pipeline cannot be given to another process: {error}')
            return
        self._process = DrawingProcess(pickled)
        self._thread = threading.Thread(
            target=self._wait_for,
            args=(step, self._process),
            name='AugmentationMonitor',
            daemon=True)
        self._thread.start()

    def _wait_for(self, step: int, process: DrawingProcess) -> None:
        """Emit the pictures of a process; in a thread of its own."""
        try:
            pictures = process.run()
            self.emit(
                Record(
                    step,
                    lambda: [Image('data/augmentation', pictures, photo=True)],
                    (), IMAGE, sum(picture.nbytes for picture in pictures)))
        except Exception as error:
            _say(str(error))

    def _show(self, step: int, dataset, data_batch) -> None:
        """Show samples of a batch that has come anyway."""
        inputs = list(map(copy_input, data_batch['inputs'][:_FRESH]))
        labels = list(map(read_labels, data_batch['data_samples'][:_FRESH]))
        painter = PosePainter(getattr(dataset, 'metainfo', {}), kpt_thr=0)
        self.emit(
            Record(
                step,
                functools.partial(_fresh, step, inputs, labels, self._codec,
                                  painter),
                kind=IMAGE,
                size=sum(tensor.nelement() * tensor.element_size()
                         for tensor in inputs)))


def _fresh(step: int, inputs: list, labels: List[dict], codec,
           painter: PosePainter) -> Iterator[Image]:
    panels = [
        draw_panel(one.numpy(), of_one, codec, painter, f'sample {i}')
        for i, (one, of_one) in enumerate(zip(inputs, labels), 1)
    ]
    yield Image(
        'data/augmentation', [
            sheet(panels, f'step {step:,}, the first samples of the batch',
                  'one draw of each')
        ],
        photo=True)


def _imports(config: dict) -> List[str]:
    """Return the modules that a config imports."""
    imports = (config.get('custom_imports') or {}).get('imports') or ()
    return [imports] if isinstance(imports, str) else list(imports)


def _say(reason: str) -> None:
    print_log(
        f'EnhancedTensorBoardHook draws no data/augmentation: {reason}.',
        logger='current',
        level=logging.INFO)
