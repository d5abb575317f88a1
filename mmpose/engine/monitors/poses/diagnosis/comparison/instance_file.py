# Copyright (c) OpenMMLab. All rights reserved.
import logging
import os.path as osp
from typing import Iterator

from mmengine.logging import print_log

from ....core.other_runs.compared_run import FILE, flat_config
from ....writers.record import Record, Value
from ..diagnosis import Diagnosis, Validation
from .saved_instances import save, saved_part


class InstanceFile(Diagnosis):
    """Save the predictions for all instances beside the event file.

    ``instances.npz`` has those of the last validation, for ``compare`` in a
    later run: the ids of the annotations, the predicted keypoints with their
    scores, and the config; 0.9 MB for COCO, 9 MB at most.
    """

    def __init__(self) -> None:
        self._failed = False

    def records(self, runner, validation: Validation) -> Iterator[Record]:
        # In the writer's thread.
        yield Record(validation.step,
                     lambda: self._save(validation, runner.cfg))

    def _save(self, validation: Validation, cfg) -> Iterator[Value]:
        path = osp.join(validation.folder, FILE)
        try:
            save(path, validation.when,
                 list(map(saved_part, validation.parts)),
                 flat_config(cfg.to_dict() if cfg else {}))
        except OSError as error:
            # The curves go on without it.
            if not self._failed:
                print_log(
                    f'EnhancedTensorBoardHook cannot write {path}: {error}',
                    'current', logging.WARNING)
            self._failed = True
        return iter(())
