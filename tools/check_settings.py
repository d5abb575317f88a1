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
_NEEDED = ('dataset_name', 'keypoint_info', 'skeleton_info', 'joint_weights',
           'sigmas')
_known: Dict[str, dict] = {}


class WrongMetainfo(ValueError):
    """Raised where MMPose cannot read a metainfo, and says why.

    MMPose's own error is an assertion, or the name of a keypoint.

    Args:
        kind (str | type): The class of the data set.
        meta (dict): The metainfo, or the file that has it.
    """

    def __init__(self, kind, meta: dict) -> None:
        where = f'metainfo of {getattr(kind, "__name__", kind)}'
        if 'from_file' in meta:
            where += f' ({meta["from_file"]})'
            meta = Config.fromfile(meta['from_file']).get('dataset_info', {})
        missing = [name for name in _NEEDED if name not in meta]
        names = {one['name'] for one in meta.get('keypoint_info', {}).values()}
        used = [
            one.get('swap') for one in meta.get('keypoint_info', {}).values()
        ]
        for link in meta.get('skeleton_info', {}).values():
            used += link['link']
        unknown = list(dict.fromkeys(n for n in used if n and n not in names))
        super().__init__(
            f'{where} lacks {", ".join(missing)}' if missing else
            f'{where} names {", ".join(unknown) or "something"} in a swap or '
            'a link, which is none of its keypoints')


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
        WrongMetainfo: MMPose cannot read it.
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
            try:
                _known[str(meta)] = parse_pose_metainfo(dict(meta))
            except (AssertionError, KeyError) as error:
                raise WrongMetainfo(data_set.get('type'), meta) from error
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
        list[Finding]: Without notes; or the error of a metainfo.
    """
    try:
        settings = describe(Config.fromfile(path), num_processes)
    except WrongMetainfo as error:
        print(f'{path}: {error}.')
        return [error]
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
