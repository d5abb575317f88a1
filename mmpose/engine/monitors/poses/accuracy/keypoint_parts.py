# Copyright (c) OpenMMLab. All rights reserved.
import re
from typing import Dict, List, Optional, Sequence

MAX_PARTS = 30

# The first landmark of each part, in the published order.
_FACES = {
    # 300-W: https://ibug.doc.ic.ac.uk/resources/300-W/. COCO-WholeBody's
    # faces have the same.
    68: dict(contour=0, eyebrows=17, nose=27, eyes=36, mouth=48),
    # WFLW: https://wywu.github.io/projects/LAB/WFLW.html
    98: dict(contour=0, eyebrows=33, nose=51, eyes=60, mouth=76, pupils=96),
    # LaPa: https://github.com/JDAI-CV/lapa-dataset
    106: dict(contour=0, eyebrows=33, nose=51, eyes=66, mouth=84, pupils=104),
}
_FACE_DATASETS = ('300w', '300vw', 'wflw', 'lapa', 'face')

_FEET = {'toe', 'heel', 'foot'}
_HAND = {
    'hand', 'finger', 'thumb', 'forefinger', 'index', 'middle', 'ring',
    'pinky', 'little'
}
_SIDES = dict(left='left', l='left', right='right', r='right')


def keypoint_parts(names: Sequence[str],
                   dataset_name: Optional[str] = None) -> Dict[str, List[int]]:
    """Divide a set of keypoints into body parts.

    The first of these rules applies that gives from two to :data:`MAX_PARTS`
    parts:

    1. a face of 68, 98 or 106 landmarks: contour, eyebrows, nose, eyes,
       mouth, pupils;
    2. a whole body: body, feet, face, left_hand, right_hand;
    3. the names without their number: ``forelegL2`` is part of ``forelegL``;
    4. the last words of the names: ``medial_left_knee`` is part of ``knee``;
    5. one part ``all``.

    Args:
        names (Sequence[str]): The names of the keypoints, in their order.
        dataset_name (str, optional): The name of the data set. It tells a face
            if the names of the keypoints are only numbered. Defaults to None.

    Returns:
        dict[str, list[int]]: The indices of each part's keypoints, sorted by
        the first of them; each keypoint is in one part.
    """
    if _is_face(names, dataset_name):
        begins = _FACES[len(names)].items()
        return _group([[part for part, begin in begins if begin <= i][-1]
                       for i in range(len(names))])
    rules = [_stem, _last_word]
    if any({'shoulder', 'hip'} & set(_words(name)) for name in names):
        rules.insert(0, _body_part)
    for rule in rules:
        parts = _group([rule(name) for name in names])
        if 1 < len(parts) <= MAX_PARTS:
            return parts
    return {'all': list(range(len(names)))}


def _group(parts: Sequence[str]) -> Dict[str, List[int]]:
    """Return the indices of the keypoints of each part."""
    groups = {}
    for index, part in enumerate(parts):
        groups.setdefault(part, []).append(index)
    return groups


def _is_face(names: Sequence[str], dataset_name: Optional[str]) -> bool:
    stems = {_stem(name) for name in names}
    if len(names) not in _FACES or len(stems) != 1:
        return False
    source = f'{dataset_name or ""} {stems.pop()}'.lower()
    return any(known in source for known in _FACE_DATASETS)


def _stem(name: str) -> str:
    """Remove the number and the word for a keypoint from a name."""
    stem = re.sub(r'[\W_]*\d+$', '', name)
    return re.sub(r'[\W_]*(kpt|keypoint|landmark)$', '', stem) or 'others'


def _last_word(name: str) -> str:
    return _words(_stem(name))[-1]


def _body_part(name: str) -> str:
    words = _words(name)
    if words[0] == 'face':
        return 'face'
    if _FEET & set(words):
        return 'feet'
    side = _SIDES.get(words[0])
    return f'{side}_hand' if side and _HAND & set(words) else 'body'


def _words(name: str) -> List[str]:
    """Return the words of a name in lower case, or the name itself."""
    return re.findall('[a-z]+', name.lower()) or [name]
