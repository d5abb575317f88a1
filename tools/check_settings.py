# Copyright (c) OpenMMLab. All rights reserved.
"""Look for settings of a config that cannot be right, without training.

    python tools/check_settings.py CONFIG [CONFIG ...]

A training does the same at its first iteration, and knows more: how many
iterations an epoch has. Ends with 1 if anything is found but notes.
"""
import argparse
import sys
import warnings
from collections import defaultdict
from typing import Dict, Iterator, List

from mmengine.config import Config
from train import import_hook, import_monitors

_WHERE = ('train', 'val')
_known: Dict[str, dict] = {}


def describe(config: Config, num_processes: int = 1):
    """Return the settings of a config.

    No data is read: the metainfo of the data sets is that of their classes.

    Args:
        config (Config): The config of a training.
        num_processes (int): The number of processes. Defaults to 1.
    """
    read_config = import_monitors('health.settings.read_config')
    config = config.to_dict()
    metas = {}
    for where in _WHERE:
        loader = config.get(f'{where}_dataloader') or {}
        parts = read_config.config_parts(loader.get('dataset') or {})
        metas[where] = [metainfo(part) for part in parts]
    return read_config.read_config(config, metas, num_processes=num_processes)


def metainfo(data_set: dict) -> dict:
    """Return the metainfo of a data set by its config, {} if it has none.

    Raises:
        FileNotFoundError: ``from_file`` is not there.
    """
    from mmpose.datasets.datasets.utils import parse_pose_metainfo
    from mmpose.registry import DATASETS
    meta = data_set.get('metainfo')
    if not isinstance(meta,
                      dict) or not {'from_file', 'keypoint_info'} & set(meta):
        kind = data_set.get('type')
        cls = DATASETS.get(kind) if isinstance(kind, str) else kind
        if cls is not None and 'subset' in data_set:
            # DeepFashion's, which has the keypoints of the last one built.
            return cls(lazy_init=True, subset=data_set['subset']).metainfo
        meta = getattr(cls, 'METAINFO', None)
    if not meta:
        return {}
    if str(meta) not in _known:
        with warnings.catch_warnings():
            # It names the file of MMPose that it takes instead.
            warnings.simplefilter('ignore')
            _known[str(meta)] = parse_pose_metainfo(dict(meta))
    return _known[str(meta)]


def unknown(settings) -> Iterator[str]:
    """Yield what could not be compared."""
    by_name = defaultdict(list)
    for data_set in settings.data_sets:
        if not data_set.meta:
            by_name[data_set.type].append(data_set.where)
    for name, where in by_name.items():
        yield f'metainfo of {name} ({", ".join(dict.fromkeys(where))})'
    if not settings.data_sets:
        yield 'data sets'
    if not settings.head:
        yield 'head'


def report(path: str, num_processes: int = 1) -> List:
    """Print what is found in a config, and what is not known.

    Args:
        path (str): The config.
        num_processes (int): The number of processes. Defaults to 1.

    Returns:
        list[Finding]: Without notes.
    """
    settings = describe(Config.fromfile(path), num_processes)
    findings = import_monitors('health.settings.check').check_settings(
        settings)
    missing = list(unknown(settings))
    plural = '' if len(findings) == 1 else 's'
    print(f'{path}: {len(findings) or "no"} finding{plural}'
          f'{"; unknown: " if missing else ""}{", ".join(missing)}')
    for found in findings:
        print(f'  {found.severity} {found.name}: {found.what}\n'
              f'    Evidence: {found.evidence}\n'
              f'    Suggested action: {found.advice}')
    return [found for found in findings if found.severity != 'note']


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('configs', nargs='+', help='configs of trainings')
    parser.add_argument(
        '--num-processes',
        type=int,
        default=1,
        help='number of processes (GPUs) of the training')
    args = parser.parse_args()
    import_hook()
    from mmpose.utils import register_all_modules
    register_all_modules()
    found = [report(path, args.num_processes) for path in args.configs]
    sys.exit(1 if any(found) else 0)


if __name__ == '__main__':
    main()
