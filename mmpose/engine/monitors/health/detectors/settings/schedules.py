# Copyright (c) OpenMMLab. All rights reserved.
from typing import Iterator, Optional, Sequence

from ....core.registry import DETECTORS
from ...report import NOTE, Finding
from ...settings.check import SettingsDetector
from ...settings.description import Length, Schedule, Settings

# The arguments that say how long it is.
_LENGTHS = dict(
    CosineAnnealingLR='begin, end and T_max',
    CosineRestartLR='periods',
    OneCycleLR='total_steps')


@DETECTORS.register_module()
class ScheduleDetector(SettingsDetector):
    """Compare the schedules of the learning rate with the training's length.

    ======================= ===============================================
    ``warm_up_too_long``    The training ends before the warm-up does
    ``milestone_too_late``  The learning rate is lowered after the end
    ``schedule_cut_off``    A decay ends after the training (a note)
    ``schedule_by_epoch``   A schedule counts epochs, the training iterations
    ======================= ===============================================
    """

    findings = ('warm_up_too_long', 'milestone_too_late', 'schedule_cut_off',
                'schedule_by_epoch')

    def check(self, settings: Settings) -> Iterator[Finding]:
        found = {}
        length = settings.length
        if length.epochs is None and length.iterations is not None:
            yield from _by_epoch(settings.schedules, length.iterations)
        for schedule in settings.schedules:
            total = _total(schedule, settings.length)
            if total is not None:
                for finding in _judge(schedule, total, settings.length):
                    found.setdefault(finding.name, finding)
        yield from found.values()


def _total(schedule: Schedule, length: Length) -> Optional[int]:
    """Return the length of the training in the unit of a schedule."""
    if not schedule.by_epoch:
        return length.iterations
    return length.epochs


def _judge(schedule: Schedule, total: int,
           length: Length) -> Iterator[Finding]:
    unit = 'epoch' if schedule.by_epoch else 'iteration'
    ends = f'the training ends after {_number(total, unit)}'
    if schedule.start_factor is not None:
        if schedule.end is not None and schedule.end > total:
            yield _warm_up(schedule, total, unit, ends, length)
        return
    late = [m for m in schedule.milestones if m >= total]
    if late:
        yield Finding(
            'milestone_too_late', f'The training ends before {len(late)} of '
            f'{len(schedule.milestones)} milestones of {schedule.type}: the '
            'learning rate is not lowered there.',
            f'Milestones at {unit} {", ".join(map(str, late))}; {ends}.',
            ('Set step_size to about a third of the training'
             if schedule.type == 'StepLR' else
             'Move the milestones to about 80 % and 95 % of the training') +
            f'{_unit_hint(schedule, length)}.')
    elif schedule.end is not None and schedule.end > total:
        begins = ('It never begins' if schedule.begin >= total else
                  'The learning rate does not reach its end')
        yield Finding(
            'schedule_cut_off',
            f'{schedule.type} goes on after the end of the training.',
            f'{begins}: it lasts from {unit} {schedule.begin:,} to '
            f'{schedule.end:,}; {ends}.',
            f'Give {_LENGTHS.get(schedule.type, "begin and end")} the length '
            f'of the training{_unit_hint(schedule, length)}.', NOTE)


def _by_epoch(schedules: Sequence[Schedule],
              iterations: int) -> Iterator[Finding]:
    """Yield what never makes a step, since no epoch ends."""
    unmoved = [
        schedule for schedule in schedules
        # That of a metric makes a step at a validation.
        if schedule.by_epoch and not schedule.converted
        and schedule.type != 'ReduceOnPlateauLR'
    ]
    if not unmoved:
        return
    factors = [
        f' It stays at {schedule.start_factor:.3g} of its value.'
        for schedule in unmoved if schedule.start_factor is not None
    ]
    yield Finding(
        'schedule_by_epoch',
        'The training counts iterations, and schedules of the learning rate '
        f'count epochs: they never change it.{"".join(factors[:1])}',
        f'{", ".join(dict.fromkeys(s.type for s in unmoved))} with '
        f'by_epoch=True, which is the default; the training has '
        f'{_number(iterations, "iteration")} and no epochs.',
        'Set by_epoch=False, and give begin, end, milestones and T_max in '
        'iterations.')


def _warm_up(schedule: Schedule, total: int, unit: str, ends: str,
             length: Length) -> Finding:
    reached, start = schedule.start_factor, schedule.start_factor
    part = max(total - schedule.begin, 0) / (schedule.end - schedule.begin)
    if schedule.type.startswith('Linear'):
        reached += part * (1 - start)
    elif schedule.type.startswith('Quadratic'):
        reached = part**2
    return Finding(
        'warm_up_too_long', 'The training ends before the warm-up does: the '
        f'learning rate reaches {reached:.0%} of its value.',
        f'{schedule.type} ends at {unit} {schedule.end:,}; {ends}.',
        f'Set end of {schedule.type} to about a twentieth of the training, '
        f'{_number(max(total // 20, 1), unit)}{_unit_hint(schedule, length)}.')


def _unit_hint(schedule: Schedule, length: Length) -> str:
    """Say that the other unit may be meant, if it would be right."""
    other = length.iterations if schedule.by_epoch else length.epochs
    last = max((schedule.end or 0, *schedule.milestones))
    if schedule.by_epoch and other is not None and last <= other:
        return ('. It counts epochs; if iterations are meant, set '
                'by_epoch=False')
    return ''


def _number(count: int, unit: str) -> str:
    return f'{count:,} {unit}{"s" if count != 1 else ""}'
