# Copyright (c) OpenMMLab. All rights reserved.
"""The run that validations are compared with."""
import os
import os.path as osp
from pathlib import Path
from typing import Any, Dict

from ..arguments import Argument

# Beside the event file of a run.
FILE = 'instances.npz'


def find_saved_instances(run: str) -> str:
    """Find the predictions that a run has saved.

    Args:
        run (str): The directory of a run, or a file of that kind.

    Returns:
        str: The path of the newest ``instances.npz``.

    Raises:
        ValueError: There is none.
    """
    if osp.isfile(run):
        if run.endswith('.npz'):
            return run
        raise ValueError(
            f'must be the directory of a run or its {FILE}, but got the file '
            f'{run!r}; a checkpoint is to be tested first: `tools/test.py '
            'CONFIG CHECKPOINT --enhanced-tensorboard` writes the file')
    if not osp.isdir(run):
        raise ValueError(f'must be the directory of a run or its {FILE}, but '
                         f'there is no {run!r}')
    found = list(Path(run).rglob(FILE))
    if not found:
        raise ValueError(
            f'must be the directory of a run that has a {FILE}, but there is '
            f'none in {run!r}; a training writes it after each validation and '
            '`tools/test.py` after each test, with log_keypoints and '
            'log_error_kinds')
    return str(max(found, key=lambda path: os.stat(str(path)).st_mtime))


def flat_config(config: Any, name: str = '') -> Dict[str, str]:
    """Return the values of a config by their places in it.

    Args:
        config (Any): A dict of dicts, lists and values.
        name (str): The place of the config in another one. Defaults to ''.

    Returns:
        dict[str, str]: The values as text, by names such as
        'model.backbone.depth'.
    """
    if isinstance(config, dict) and config:
        items = list(config.items())
    elif isinstance(config, (list, tuple)) and any(
            isinstance(value, (dict, list, tuple)) for value in config):
        items = list(enumerate(config))
    else:
        return {name: str(config)}
    values: Dict[str, str] = {}
    for key, value in items:
        values.update(
            flat_config(value, f'{name}.{key}' if name else str(key)))
    return values


def _check(run) -> None:
    if not isinstance(run, (str, Path)):
        raise TypeError(f'must be the directory of a run or its {FILE}, but '
                        f'got {run!r} of type {type(run).__name__}')
    find_saved_instances(str(run))


COMPARE = Argument(
    'compare', None, 'str | None',
    'The directory of another run on the same data, or its '
    '``instances.npz``, that each validation is compared with, see '
    ':class:`Comparison`. None: with none.', _check)
