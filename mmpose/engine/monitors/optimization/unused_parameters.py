# Copyright (c) OpenMMLab. All rights reserved.
from contextlib import ExitStack
from typing import Iterator, List, Optional

from ..core.arguments import GRAD_NORM_INTERVAL, LOG_HEALTH
from ..core.layer_groups import covering_modules, named_parameters
from ..core.measurements import UnusedParameters
from ..core.monitor import Monitor
from ..core.registry import MONITORS
from ..core.runner_parts import bare_model, optim_wrappers
from ..core.schedule import Interval
from ..core.step_wrapping import call_around, has_closure
from ..writers.record import Record, Scalar, Value

# Branches that are trained in turn have all had their turn by then.
_MIN_UPDATES = 10


@MONITORS.register_module()
class UnusedParameterMonitor(Monitor):
    """Which parameters require a gradient for nothing.

    ===================================== =================================
    ``health/unused_parameters``          Number of parameters that have
                                          never had a gradient, or that no
                                          optimizer has
    ``health/no_gradient/<module>``       Those of a module that have never
                                          had a gradient
    ``health/not_in_optimizer/<module>``  Those of a module that have one,
                                          and no optimizer has them
    ``health/frozen_head``                Number of parameters of the model's
                                          ``head``, if none of them requires
                                          a gradient and others do
    ===================================== =================================

    What it tells: A branch that does not lead to the loss, or a module that
    was forgotten in the optimizer, learns nothing, and no loss says so.

    The last three are there only if there is one; for the modules see
    :func:`covering_modules`. Every update is looked at, on the host alone,
    until each parameter has had a gradient: then there is nothing left to look
    at. What is frozen requires no gradient and counts only where it is the
    whole head.

    Args:
        interval (int | dict | Schedule): At which iterations to say so, from
            the tenth update on.
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    switches = (LOG_HEALTH, )
    settings = dict(interval=GRAD_NORM_INTERVAL)

    of_whole_model = True

    def __init__(self, interval: Interval, strict: bool = False) -> None:
        super().__init__(interval, strict)
        self._detach = ExitStack()

    def before_train(self, runner) -> None:
        # A training that was interrupted has left these behind.
        self._detach.close()
        self._parameters = dict(named_parameters(bare_model(runner.model)))
        self._without_gradient = list(self._parameters)
        self._num_updates = 0
        self._optimizers = []
        for _, optim_wrapper in optim_wrappers(runner.optim_wrapper):
            self._optimizers.append(optim_wrapper.optimizer)
            self._detach.callback(
                call_around(optim_wrapper.optimizer, 'step', self.guard,
                            self._look, self._look_again))

    def after_train_iter(self, runner, batch_idx: int, data_batch,
                         outputs: Optional[dict]) -> None:
        step = runner.iter + 1
        if self.is_due(step) and self._num_updates >= _MIN_UPDATES:
            self._hand_over(step)

    def after_train(self, runner) -> None:
        self._detach.close()

    def _look(self, *_, **__) -> None:
        """Before an update; right after it there are no gradients."""
        self._num_updates += 1
        self._without_gradient = [
            name for name in self._without_gradient
            if self._parameters[name].grad is None
        ]

    def _look_again(self, _, *args, **kwargs) -> None:
        if has_closure(*args, **kwargs):
            self._num_updates -= 1  # It was counted already.
            self._look()

    def _hand_over(self, step: int) -> None:
        trainable = [
            name for name, parameter in self._parameters.items()
            if parameter.requires_grad
        ]
        no_gradient = set(trainable).intersection(self._without_gradient)
        not_owned = set(self._not_owned(trainable)) - no_gradient
        head = [name for name in self._parameters if name.startswith('head.')]
        frozen = head if trainable and not set(head) & set(trainable) else []

        def values() -> Iterator[Value]:
            yield Scalar('health/unused_parameters',
                         len(no_gradient) + len(not_owned))
            if frozen:
                yield Scalar('health/frozen_head', len(frozen))
            modules = dict(
                no_gradient=covering_modules(no_gradient, trainable),
                not_in_optimizer=covering_modules(not_owned, trainable))
            for kind, of_kind in modules.items():
                for module, number in of_kind.items():
                    yield Scalar(f'health/{kind}/{module}', number)
            yield UnusedParameters(frozen_head=len(frozen), **modules)

        self.emit(Record(step, values))

    def _not_owned(self, trainable: List[str]) -> List[str]:
        # Not just once: unfreezing may add param groups.
        owned = {
            id(parameter)
            for optimizer in self._optimizers
            for group in optimizer.param_groups
            for parameter in group['params']
        }
        return [n for n in trainable if id(self._parameters[n]) not in owned]
