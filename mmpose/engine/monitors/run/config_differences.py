# Copyright (c) OpenMMLab. All rights reserved.
import json
from typing import Dict, Iterator, Optional

import numpy as np

from ..core.monitor import Monitor
from ..core.other_runs.compared_run import (COMPARE, find_saved_instances,
                                            flat_config)
from ..core.registry import MONITORS
from ..writers.record import Record, Text
from .redaction import redact

_MAX_ROWS = 200
_MAX_LETTERS = 300


@MONITORS.register_module()
class ConfigDifferenceMonitor(Monitor):
    """Show how the config differs from that of the compared run.

    ================== ======================================================
    ``compare/config`` A text: a table of the settings that differ from those
                       of the run in ``compare``, without secrets
    ================== ======================================================

    What it tells: What else may be the cause of a difference between the two
    runs, beside what was meant to be changed.

    Args:
        compare (str, optional): The directory of the other run, or its
            ``instances.npz``. Defaults to None: there is none.
        strict (bool): See :class:`Monitor`. Defaults to False.

    Raises:
        ValueError: There is no such file.
    """

    switches = (COMPARE, )
    settings = dict(compare=COMPARE)
    watches_others = True

    def __init__(self,
                 compare: Optional[str] = None,
                 strict: bool = False) -> None:
        super().__init__(strict=strict)
        self._path = compare and find_saved_instances(str(compare))

    def after_val_epoch(self, runner, metrics: Optional[Dict]) -> None:
        path, self._path = self._path, None
        if path is not None:
            # In the writer's thread, since a file is read.
            self.emit(Record(0, lambda: _differences(path, runner.cfg)))


def _differences(path: str, cfg) -> Iterator[Text]:
    with np.load(path) as file:
        before = json.loads(str(file['config']))
    now = flat_config(cfg.to_dict() if cfg else {})
    # Where logs go is different in any two runs.
    names = [
        name for name in dict.fromkeys([*before, *now])
        if before.get(name) != now.get(name) and name != 'work_dir'
    ]
    lines = [
        f'| {name} | {_cell(name, before)} | {_cell(name, now)} |'
        for name in names[:_MAX_ROWS]
    ]
    if len(names) > _MAX_ROWS:
        lines += ['', f'And {len(names) - _MAX_ROWS:,} more.']
    yield Text(
        'compare/config',
        '\n'.join(['| setting | other run | this run |', '|---|---|---|'] +
                  lines) if lines else 'The configs are the same.')


def _cell(name: str, values: Dict[str, str]) -> str:
    if name not in values:
        return ''
    # With its name, which tells whether it is a secret.
    key = name.split('.')[-1]
    text = redact(f'{key}={values[name]!r}')[len(key) + 1:]
    text = text.strip('"\'').replace('|', '\\|').replace('\n', ' ')
    return f'`{text[:_MAX_LETTERS]}`'
