# Copyright (c) OpenMMLab. All rights reserved.
from typing import List

from mmengine.dist import get_world_size

from ...core.arguments import LOG_HEALTH
from ...core.monitor import Monitor
from ...core.registry import MONITORS
from ...core.runner_parts import data_set_parts, is_iter_based
from ...writers.record import Record
from .description import Length, Settings
from .read_config import read_config


@MONITORS.register_module()
class SettingsMonitor(Monitor):
    """Describe the settings of the training, once, when it begins.

    What it tells: There is no curve. The report names settings that contradict
    each other or the data set, see :class:`SettingsDetector`.

    They are read from the config and from the ``metainfo`` of the data sets;
    what only exists as an object is not judged.

    Args:
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    switches = (LOG_HEALTH, )
    # Its findings are in the report that is written first.
    priority = 'VERY_HIGH'

    def before_train(self, runner) -> None:
        self._is_told = False

    def before_train_iter(self, runner, batch_idx: int, data_batch) -> None:
        # Not before the training, when nobody listens yet.
        if not self._is_told:
            self._is_told = True
            settings = read_settings(runner)
            self.emit(Record(runner.iter + 1, lambda: [settings]))


def read_settings(runner) -> Settings:
    """Describe the settings of a training.

    Args:
        runner (Runner): The runner of the training process.
    """
    metas = dict(train=_metas(runner.train_dataloader))
    if runner.val_loop is not None:
        metas['val'] = _metas(runner.val_dataloader)
    epochs = None if is_iter_based(runner) else runner.max_epochs
    # A dict of its own: what is read of it is read in this thread.
    config = runner.cfg.to_dict()
    return read_config(config, metas, Length(epochs, runner.max_iters),
                       get_world_size())


def _metas(loader) -> List[dict]:
    return [
        getattr(part, 'metainfo', None) or {}
        for part in data_set_parts(loader.dataset)
    ]
