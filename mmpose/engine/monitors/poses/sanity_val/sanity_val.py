# Copyright (c) OpenMMLab. All rights reserved.
import logging
from typing import List, Optional, Sequence, Tuple

from mmengine.logging import print_log

from ...core.arguments import count
from ...core.monitor import Monitor
from ...core.pose_measurements import SanityValidation
from ...core.registry import MONITORS
from ...core.runner_parts import (bare_model, needs_all_ranks,
                                  validation_precision)
from ...core.side_effects import eval_without_side_effects, original_forward
from ...writers.record import Record
from ..val_images import ValImageMonitor
from .evaluation import evaluate

SANITY_VAL = count(
    'sanity_val',
    'Validation batches that are predicted and evaluated before the first '
    'iteration, so that what is wrong there is known at once, see '
    ':class:`SanityValMonitor`. 0: none.',
    presets=dict(fast=0, balanced=0, detailed=2))


@MONITORS.register_module()
class SanityValMonitor(Monitor):
    """Validate a few batches before the training, to see whether it works.

    What it tells: There is no curve. Pictures of these batches are in
    ``val/images`` at step 0, and the report names what is wrong: an error of
    the prediction or the evaluation, predictions that are not finite, an AP
    of -1, areas of 0, images that the evaluator does not know.

    The batches are read from the data set of the validation in its order,
    without its data loader. Metrics are computed by copies of the evaluator's,
    and are not logged. Neither the training nor any other hook notices. A
    resumed training, one of a sharded model and one without a validation skip
    it.

    Args:
        batches (int): The number of batches.
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    switches = (SANITY_VAL, )
    settings = dict(batches=SANITY_VAL)
    of_whole_model = True

    def __init__(self, batches: int, strict: bool = False) -> None:
        super().__init__(strict=strict)
        self._batches = batches
        self._result: Optional[SanityValidation] = None

    def before_train(self, runner) -> None:
        self._result = None
        if not self._batches or runner.iter or runner.val_loop is None:
            return
        if needs_all_ranks(runner.model):
            print_log(
                'EnhancedTensorBoardHook: sanity_val is skipped, since a '
                'prediction takes all processes.',
                logger='current',
                level=logging.INFO)
            return
        self._result = self._validate(runner)

    def before_train_iter(self, runner, batch_idx: int, data_batch) -> None:
        # Before the training nobody listens yet.
        result, self._result = self._result, None
        if result is not None:
            self.emit(Record(runner.iter + 1, lambda: [result]))

    def _validate(self, runner) -> SanityValidation:
        model = bare_model(runner.model)
        predicted: List[Tuple[dict, Sequence]] = []
        problems: List[str] = []
        with eval_without_side_effects(model):
            try:
                for batch in read_batches(runner.val_dataloader,
                                          self._batches):
                    with validation_precision(runner):
                        predicted.append((batch, predict(model, batch)))
            except Exception as error:
                problems.append('Predicting fails with '
                                f'{type(error).__name__}: {error}')
            problems += evaluate(runner.val_evaluator, predicted)
            for peer in self.peers:
                if isinstance(peer, ValImageMonitor) and predicted:
                    with peer.guard:
                        peer.show(runner, predicted)
        return SanityValidation(
            sum(len(outputs) for _, outputs in predicted), tuple(problems))


def read_batches(loader, number: int):
    """Yield the first batches of a data loader, without iterating over it.

    Args:
        loader (DataLoader): That of the validation.
        number (int): How many.
    """
    size = loader.batch_size or 1
    dataset = loader.dataset
    for start in range(0, min(number * size, len(dataset)), size):
        stop = min(start + size, len(dataset))
        yield loader.collate_fn([dataset[i] for i in range(start, stop)])


def predict(model, batch: dict) -> Sequence:
    """Predict a batch as a validation does, without hooks of the model."""
    data = model.data_preprocessor(batch, False)
    return original_forward(model)(**data, mode='predict')
