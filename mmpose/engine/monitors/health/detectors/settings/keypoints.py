# Copyright (c) OpenMMLab. All rights reserved.
from collections import Counter
from typing import Callable, Iterable, Iterator, List, NamedTuple, Tuple

import numpy as np

from ....core.registry import DETECTORS
from ....core.runner_parts import keypoint_names, other_side
from ...chains import FromSettings
from ...report import Finding
from ...settings.check import SettingsDetector
from ...settings.description import DataSet, Settings

# How many keypoints or data sets a finding names.
_MAX_NAMED = 3
# That of a hip is 0.107, and MMPose's largest 0.179. With this one, a keypoint
# that is as far away as the instance is large still has a similarity of 0.6.
_LARGEST_SIGMA = 0.5


class Flip(NamedTuple):
    """A keypoint, what a flip exchanges it with, and what would be right."""
    name: str
    flipped: str
    right: str


@DETECTORS.register_module()
class KeypointInfoDetector(SettingsDetector):
    """Judge the keypoints in the metainfo of the data sets.

    =================== ===================================================
    ``flip_indices``    A ``swap`` is not mutual, or contradicts the names
    ``keypoint_names``  A name is there twice, or is of one side only
    ``skeleton_links``  A link is not between two keypoints
    =================== ===================================================
    """

    findings = ('flip_indices', 'keypoint_names', 'skeleton_links')
    chain = FromSettings

    def check(self, settings: Settings) -> Iterator[Finding]:
        data_sets = settings.data_sets
        for data_set, twice in _of_each(data_sets, _names_twice):
            yield Finding(
                'keypoint_names',
                f'Keypoints of {data_set.name} have the same name.',
                f'{_listed(twice)}, of {data_set.meta["num_keypoints"]} '
                'keypoints.',
                'Give each keypoint a name of its own in keypoint_info: '
                'swaps and links refer to the last one of a name.')
            return
        for data_set, links in _of_each(data_sets, _wrong_links):
            yield Finding(
                'skeleton_links',
                f'Links of {data_set.name} are not between two of its '
                'keypoints.',
                f'{_listed(links)}, of {data_set.meta["num_keypoints"]} '
                'keypoints.', 'Correct skeleton_info of its metainfo.')
        if settings.flips is False:
            return
        for data_set, flips in _of_each(data_sets, wrong_flips):
            yield _flip_finding(data_set, flips)
        for data_set, alone in _of_each(data_sets, _without_partner):
            yield Finding(
                'keypoint_names',
                f'Keypoints of {data_set.name} have no partner on the other '
                'side.', f'{_listed(alone)}: there is no '
                f'{_listed(map(other_side, alone))}.',
                "Look for a wrong 'name' in keypoint_info: a flip leaves them "
                'on their side.')


@DETECTORS.register_module()
class SigmaDetector(SettingsDetector):
    """``sigmas``: those of a validation's data set cannot be right.

    Where the validation computes OKS, as COCO's AP does.
    """

    findings = ('sigmas', )

    def check(self, settings: Settings) -> Iterator[Finding]:
        if not settings.evaluates_oks:
            return
        evaluated = [d for d in settings.data_sets if d.where == 'val']
        for data_set, (wrong, ) in _of_each(evaluated, _wrong_sigmas):
            yield Finding(
                'sigmas', f'The sigmas of {data_set.name} cannot be right, '
                'so that AP, which is made of them, is not either.', wrong,
                "Give 'sigmas' in its metainfo one number above 0 for each "
                'keypoint, about 0.025 for an eye and 0.1 for a hip; the more '
                'annotators differ, the larger.')


def wrong_flips(data_set: DataSet) -> List[Flip]:
    """Return what ``flip_indices`` exchange against the names of a data set.

    Args:
        data_set (DataSet): A data set.

    Returns:
        list[Flip]: By the names where they say which keypoints are a pair,
        else what is not exchanged back.
    """
    flipped = list(data_set.meta.get('flip_indices') or ())
    names = keypoint_names(data_set.meta, len(flipped))
    wrong = []
    for i, (name, index) in enumerate(zip(names, flipped)):
        other = other_side(name)
        if other != name and other in names:
            if names[index] != other:
                wrong.append(Flip(name, names[index], other))
        elif flipped[index] != i:
            wrong.append(Flip(names[index], names[flipped[index]], name))
    return wrong


def _of_each(data_sets: Iterable[DataSet],
             check: Callable) -> Iterator[Tuple[DataSet, list]]:
    """Yield the first data set in which something is wrong, and what."""
    for data_set in data_sets:
        wrong = list(check(data_set)) if _is_known(data_set) else []
        if wrong:
            yield data_set, wrong
            return


def _is_known(data_set: DataSet) -> bool:
    return bool(data_set.meta.get('num_keypoints'))


def _names(data_set: DataSet) -> List[str]:
    return keypoint_names(data_set.meta, data_set.meta['num_keypoints'])


def _flip_finding(data_set: DataSet, flips: List[Flip]) -> Finding:
    name, flipped, right = flips[0]
    is_itself = 'itself' if name == flipped else flipped
    return Finding(
        'flip_indices',
        f'A flip exchanges {name} with {is_itself}, not with {right}: left '
        'and right are mixed up in flipped images.',
        f'flip_indices of {data_set.name} say so of {len(flips)} '
        f'keypoint{"s" if len(flips) > 1 else ""}: '
        f'{_listed(flip.name for flip in flips)}.',
        "Correct the 'swap' of these keypoints in keypoint_info of the data "
        "set's metainfo.")


def _names_twice(data_set: DataSet) -> Iterator[str]:
    counts = Counter(_names(data_set))
    return (name for name, count in counts.items() if count > 1)


def _without_partner(data_set: DataSet) -> Iterator[str]:
    names = _names(data_set)
    others = {name: other_side(name) for name in names}
    sided = [name for name in names if others[name] != name]
    # Where no keypoint has one, the words mean something else.
    if any(others[name] in names for name in sided):
        yield from (name for name in sided if others[name] not in names)


def _wrong_links(data_set: DataSet) -> Iterator[str]:
    count = data_set.meta['num_keypoints']
    for link in data_set.meta.get('skeleton_links') or ():
        ends = [int(end) for end in link]
        if len(ends) != 2 or ends[0] == ends[1] or not all(0 <= end < count
                                                           for end in ends):
            yield f'{tuple(ends)}'


def _wrong_sigmas(data_set: DataSet) -> Iterator[str]:
    sigmas = data_set.meta.get('sigmas')
    sigmas = np.asarray([] if sigmas is None else sigmas, float)
    names = _names(data_set)
    if not len(sigmas):
        yield 'It has none.'
    elif len(sigmas) != len(names):
        yield (f'It has {len(sigmas)} sigmas and {len(names)} keypoints.')
    elif not (np.isfinite(sigmas) & (sigmas > 0)).all():
        wrong = np.flatnonzero(~(np.isfinite(sigmas) & (sigmas > 0)))
        yield (f'{len(wrong)} of {len(sigmas)} are not above 0: '
               f'{_listed(f"{names[i]} {sigmas[i]:g}" for i in wrong)}.')
    elif len(sigmas) > 2 and np.ptp(sigmas) == 0:
        yield f'All {len(sigmas)} are {sigmas[0]:g}.'
    elif sigmas.max() > _LARGEST_SIGMA:
        yield (f'The largest, of {names[sigmas.argmax()]}, is '
               f'{sigmas.max():g}: anywhere on the instance counts as right.')


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = len(names) - _MAX_NAMED
    return ', '.join(
        names[:_MAX_NAMED]) + (f' and {more} more' if more > 0 else '')
