# Copyright (c) OpenMMLab. All rights reserved.
from typing import Iterator, List, Optional, Set

from ..core.arguments import GRAD_NORM_INTERVAL, LOG_HEALTH
from ..core.layer_groups import covering_modules, named_parameters
from ..core.measurements import UnusedParameters
from ..core.monitor import Monitor
from ..core.registry import MONITORS
from ..core.runner_parts import bare_model, optim_wrappers
from ..writers.record import Record, Scalar, Value

# By then branches that are trained in turn have all been trained.
_MIN_UPDATES = 10


@MONITORS.register_module()
class UnusedParameterMonitor(Monitor):
    """Log which parameters require a gradient but are not trained.

    ===================================== =================================
    ``health/unused_parameters``          Number of parameters that have
                                          never had a gradient, or that no
                                          optimizer has
    ``health/no_gradient/<module>``       Number of a module's parameters that
                                          have never had a gradient
    ``health/not_in_optimizer/<module>``  Number of a module's parameters that
                                          have one and are in no optimizer
    ``health/frozen_head``                Number of parameters of the model's
                                          ``head``, if none of them requires
                                          a gradient and others do
    ===================================== =================================

    What it tells: A branch that the loss does not depend on, or a module that
    is missing in the optimizer, learns nothing, and no loss shows it.

    The last three are written only if there is such a parameter; for the
    modules see :func:`covering_modules`. Every update is looked at, on the
    host alone, until each parameter has had a gradient. Frozen parameters
    require no gradient and count only if the whole head is frozen.

    Args:
        interval (int | dict | Schedule): At which iterations to log, from the
            tenth update on.
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    switches = (LOG_HEALTH, )
    settings = dict(interval=GRAD_NORM_INTERVAL)

    of_whole_model = True

    def before_train(self, runner) -> None:
        self._parameters = dict(named_parameters(bare_model(runner.model)))
        self._without_gradient = list(self._parameters)
        self._num_updates = 0
        self._closure = False

    def before_step(self, name: str, optimizer, closure: bool) -> None:
        self._num_updates += 1
        self._closure = closure
        self._look()

    def after_step(self, name: str, optimizer, taken) -> None:
        if self._closure:
            self._look()

    def after_train_iter(self, runner, batch_idx: int, data_batch,
                         outputs: Optional[dict]) -> None:
        if (self.is_due(runner.iter + 1)
                and self._num_updates >= _MIN_UPDATES):
            self._hand_over(runner)

    def _look(self) -> None:
        """Find which parameters have a gradient; it is gone afterwards."""
        self._without_gradient = [
            name for name in self._without_gradient
            if self._parameters[name].grad is None
        ]

    def _hand_over(self, runner) -> None:
        trainable = [
            name for name, parameter in self._parameters.items()
            if parameter.requires_grad
        ]
        no_gradient = set(trainable).intersection(self._without_gradient)
        not_owned = self._not_owned(runner, trainable) - no_gradient
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

        self.emit(Record(runner.iter + 1, values))

    def _not_owned(self, runner, trainable: List[str]) -> Set[str]:
        owned = {
            id(parameter)
            for _, optim_wrapper in optim_wrappers(runner.optim_wrapper)
            for group in optim_wrapper.param_groups
            for parameter in group['params']
        }
        return {n for n in trainable if id(self._parameters[n]) not in owned}
