# Copyright (c) OpenMMLab. All rights reserved.
from typing import Iterator, Optional

from .description import Schedule

# The default of ``end`` in MMEngine stands for: never.
_NEVER = 10**9
# Of these, what is not a warm-up goes on until ``end`` or for ``T_max``.
_DECAYS = ('Cosine', 'Poly', 'OneCycle', 'Linear', 'Exponential')


def read_schedules(config) -> Iterator[Schedule]:
    """Describe the schedulers of the learning rate.

    Args:
        config (dict | list | None): ``param_scheduler`` of a config; a dict of
            lists where there are several optimizers.
    """
    if isinstance(config, dict):
        values = [config] if 'type' in config else list(config.values())
    else:
        values = list(config) if isinstance(config, (list, tuple)) else []
    for value in values:
        if isinstance(value, (list, tuple)):
            yield from read_schedules(value)
        elif isinstance(value, dict):
            schedule = _read(value)
            if schedule is not None:
                yield schedule


def _read(config: dict) -> Optional[Schedule]:
    kind = config.get('type', '')
    kind = getattr(kind, '__name__', str(kind)).rpartition('.')[2]
    if not kind.endswith('LR'):
        return None
    begin = int(config.get('begin') or 0)
    end = config.get('end')
    end = None if end is None or end >= _NEVER else int(end)
    milestones = config.get('milestones') or ()
    if kind == 'StepLR':  # The first of many.
        milestones = [config['step_size']]
    milestones = tuple(
        # They count from the beginning of the schedule.
        begin + int(milestone) for milestone in milestones
        if end is None or begin + milestone < end)
    start_factor = _start_factor(kind, config)
    if start_factor is None and not kind.startswith(_DECAYS):
        end = None
    elif start_factor is None and _wave(config):
        of_wave = begin + _wave(config)
        end = of_wave if end is None else min(end, of_wave)
    return Schedule(kind, begin, end, milestones,
                    bool(config.get('by_epoch', True)), start_factor,
                    bool(config.get('convert_to_iter_based')))


def _wave(config: dict) -> int:
    """Return after how long a schedule is at its end, 0 if it has none."""
    return int(
        config.get('T_max') or config.get('total_steps')
        or sum(config.get('periods') or ()))


def _start_factor(kind: str, config: dict) -> Optional[float]:
    """Return the factor at the beginning of a warm-up, None if it is none."""
    if kind.startswith('QuadraticWarmup'):
        return 0.
    if kind.startswith('Linear'):
        start = config.get('start_factor', 1 / 3)
        return start if start < config.get('end_factor', 1.) else None
    if kind.startswith('Constant') and not config.get('begin'):
        factor = config.get('factor', 1 / 3)
        return factor if factor < 1 else None
    return None
