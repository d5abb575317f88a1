# Copyright (c) OpenMMLab. All rights reserved.
from typing import Dict, List, Optional

from mmengine.logging import print_log

from ...core.measurements import LearningRates, UnusedParameters, Updates
from ...core.registry import DETECTORS
from ..chains import StoppedLearning
from ..detector import Detector, Streaks, dotted, started_at
from ..report import NOTE, WARNING, Finding


@DETECTORS.register_module()
class NoGradientDetector(Detector):
    """``no_gradient/<module>``: a module that the loss never reaches.

    With ``find_unused_parameters=True`` in the config such modules are
    intended: they are named in the log, once.
    """

    findings = ('no_gradient', )
    wants = (UnusedParameters, )
    chain = StoppedLearning
    priority = 'ABOVE_NORMAL'

    def before_train(self, runner) -> None:
        self._on_purpose = bool(runner.cfg.get('find_unused_parameters'))
        self._told = False

    def see(self, step: int, unused: UnusedParameters) -> List[Finding]:
        modules = unused.no_gradient
        if self._on_purpose:
            if modules and not self._told:
                self._tell(modules)
            return []
        return [
            Finding(
                f'no_gradient/{place}',
                f'No gradient ever arrives at {dotted(place)}.',
                f'{number:.0f} of its parameters require one and had none in '
                f'any update up to step {step:,}.',
                'If it is to learn, see that the loss depends on its output, '
                'with no detach() or no_grad() in between. If not, set '
                'requires_grad=False or remove it: distributed training '
                'stops at parameters that are not used.')
            for place, number in modules.items()
        ]

    def _tell(self, modules: Dict[str, int]) -> None:
        self._told = True
        print_log(
            'EnhancedTensorBoardHook: no gradient arrives at '
            f'{", ".join(map(dotted, modules))}. That is no finding where the '
            'config has find_unused_parameters=True.',
            logger='current')


@DETECTORS.register_module()
class UnchangedWeightsDetector(Detector):
    """``unchanged_weights/<module>``: a module that does not learn.

    It is a note if the module's learning rate is 0, which is a setting.
    """

    findings = ('unchanged_weights', )
    wants = (LearningRates, Updates, UnusedParameters)
    chain = StoppedLearning

    def before_train(self, runner) -> None:
        self._streaks = Streaks()
        self._started_at = started_at(runner)
        self._lr_is_known = False
        self._unchanged: List[Finding] = []
        self._not_in_optimizer: List[Finding] = []

    def see(self, step: int, measurement) -> Optional[List[Finding]]:
        if isinstance(measurement, LearningRates):
            self._lr_is_known = True
            return None
        if isinstance(measurement, UnusedParameters):
            self._not_in_optimizer = [
                _does_not_learn(
                    step, place, number, 'no optimizer has its weights',
                    'see that the optimizer is given all parameters, and '
                    'those that the model trains with')
                for place, number in measurement.not_in_optimizer.items()
            ]
        elif not measurement.is_skipped:
            self._unchanged = self._see_update(step, measurement)
        return self._unchanged + self._not_in_optimizer

    def _see_update(self, step: int, update: Updates) -> List[Finding]:
        unchanged, stopped = dict(update.unchanged), update.stopped
        if 'model' in stopped and self._lr_is_known:
            # A learning rate of 0 everywhere is a finding of its own.
            unchanged.pop('model', None)
        return [
            _does_not_learn(step, place, unchanged[place],
                            'its learning rate is 0',
                            'look for an lr_mult of 0 in paramwise_cfg', NOTE)
            if place in stopped else _does_not_learn(
                step, place, unchanged[place],
                'the updates do not change its weights',
                'look for weights in float16, which small updates are lost in')
            for place in self._streaks.update(
                place for place in unchanged
                if step >= self._started_at or place in stopped)
        ]


def _does_not_learn(step: int,
                    place: str,
                    number: int,
                    why: str,
                    advice: str,
                    severity: str = WARNING) -> Finding:
    return Finding(
        f'unchanged_weights/{place}',
        f'{dotted(place)} does not learn: {why}.',
        f'{number:.0f} of its parameters are exactly as before, after the '
        f'update of step {step:,}, and have a gradient.',
        f'If it is to learn, {advice}. If not, requires_grad=False saves '
        'its gradients.', severity)


@DETECTORS.register_module()
class FrozenHeadDetector(Detector):
    """``frozen_head``: the head is frozen while other parts are trained."""

    findings = ('frozen_head', )
    wants = (UnusedParameters, )

    def see(self, step: int, unused: UnusedParameters) -> List[Finding]:
        return [
            Finding(
                'frozen_head',
                'The head is frozen, while other parts of the model are '
                'trained.', f'At step {step:,} none of its '
                f'{unused.frozen_head} parameters requires a gradient.',
                'If it is to learn, look for what sets requires_grad=False '
                'on the head or on the whole model: a hook, or the code that '
                'builds it.')
        ] if unused.frozen_head else []
