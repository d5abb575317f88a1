# Copyright (c) OpenMMLab. All rights reserved.
"""The arguments of the hook that belong to no monitor."""
from .arguments import Argument, choice, flag, number, one_of_types


def _is_disk_quota(quota: dict) -> bool:
    lowest = dict(max_bytes=1, min_free_bytes=0)
    return all(
        name in lowest and (
            value is None and name == 'max_bytes' or isinstance(value, int)
            and not isinstance(value, bool) and value >= lowest[name])
        for name, value in quota.items())


RUN_ARGUMENTS = (
    choice('preset', "Values for the arguments that are None. None: "
           "'balanced'.", None, ('fast', 'balanced', 'detailed')),
    Argument(
        'monitors', None, 'list[dict] | None',
        "Further monitors, as ``dict(type='MyMonitor', interval=50)``; of one "
        'that is there already, other values for its arguments, or '
        '``enabled=False``.',
        one_of_types((list, tuple), 'a list of dicts with a type, or None')),
    Argument(
        'continue_run', 'auto', 'bool | str',
        "Whether a resumed training goes on with the curves of the run that "
        "it resumes. 'auto': unless that run had come to its end and has "
        'logged steps after the checkpoint, which would be hidden; True: '
        'always; False: never.',
        one_of_types((bool, str), "True, False or 'auto'", lambda v: v in
                     (True, False, 'auto'))),
    flag(
        'async_write', 'Write in a thread of its own, so that the training '
        'never waits for the disk.'),
    number(
        'flush_secs', 'The longest time that something logged is not yet on '
        'disk, in seconds.', 30, 'a number above 0 and at most 86400',
        lambda v: 0 < v <= 86400),
    Argument(
        'disk_quota', None, 'dict | None',
        'Arguments of :class:`DiskQuota`, from when on images, histograms, '
        'layer scalars and at last all scalars are dropped: ``max_bytes`` for '
        "the run's event files (None: no limit) and ``min_free_bytes`` for "
        'the disk. None: ``dict(max_bytes=None, '
        'min_free_bytes=1073741824)``.',
        one_of_types((dict, ), 'None or a dict of max_bytes (an integer of '
                     'at least 1 or None) and min_free_bytes (an integer of '
                     'at least 0)', _is_disk_quota)),
    number(
        'overhead_budget', "The fraction of the training's time that the hook "
        'may take of its thread, 0.01 say. The intervals of the costliest '
        'monitors are stretched to hold it, see :class:`OverheadBudget`. '
        'None: they are as given.', None, 'a number between 0 and 1 or None',
        lambda v: 0 < v < 1),
    flag(
        'strict',
        'Raise what goes wrong in the hook. Meant for tests.',
        default=False),
)
