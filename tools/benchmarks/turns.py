# Copyright (c) OpenMMLab. All rights reserved.
"""Several trainings in one process, an iteration each in turn."""
from typing import Callable, Iterator, List

from mmengine.runner import EpochBasedTrainLoop, Runner

from mmpose.registry import LOOPS


@LOOPS.register_module()
class TurnTakingLoop(EpochBasedTrainLoop):
    """Trains an iteration whenever the runner's :obj:`Turns` want one."""

    def run(self):
        """Train until the turns are over."""
        self.runner.call_hook('before_train')
        self.runner.turns.begun(self)
        self.runner.call_hook('after_train')
        return self.runner.model

    def iterations(self) -> Iterator[None]:
        """One iteration at a time, the loading of its data included, and what
        follows the last one of an epoch with that one."""
        while True:
            self.runner.call_hook('before_train_epoch')
            self.runner.model.train()
            for idx, batch in enumerate(self.dataloader):
                self.run_iter(idx, batch)
                if idx + 1 == len(self.dataloader):
                    self.runner.call_hook('after_train_epoch')
                    self._epoch += 1
                yield


class Turns:
    """Begins several trainings, each inside of the one before.

    So they all run in one thread, and none has to end for another to begin.

    Args:
        configs (list[Config]): What to train; their ``train_cfg`` is
            replaced.
        drive (Callable): Called with the list of all loops once all have
            begun; the trainings end when it returns.
    """

    def __init__(self, configs: list, drive: Callable[[List[TurnTakingLoop]],
                                                      None]) -> None:
        self._configs = configs
        self._drive = drive
        self._loops: List[TurnTakingLoop] = []

    def run(self) -> None:
        """Train."""
        self._begin_next()

    def begun(self, loop: TurnTakingLoop) -> None:
        """To be called by a loop that is ready for its iterations."""
        self._loops.append(loop)
        if len(self._loops) < len(self._configs):
            self._begin_next()
        else:
            self._drive(self._loops)

    def _begin_next(self) -> None:
        config = self._configs[len(self._loops)]
        config.train_cfg = dict(type='TurnTakingLoop', max_epochs=10**6)
        runner = Runner.from_cfg(config)
        # Not in the config, which is copied and written as text.
        runner.turns = self
        runner.train()
