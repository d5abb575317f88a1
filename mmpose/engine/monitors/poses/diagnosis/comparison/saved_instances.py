# Copyright (c) OpenMMLab. All rights reserved.
"""The predictions of a validation, as a small file."""
import hashlib
import json
import os.path as osp
import zipfile
from typing import Dict, List, NamedTuple, Optional, Sequence

import numpy as np

from ....core.whole_file import whole_file
from ...accuracy.data_set_accuracy import DataSetAccuracy
from ...accuracy.instances import InstanceBatch

_VERSION = 1
# Of so many keypoints the predictions are saved: 61,000 instances of COCO.
_MAX_KEYPOINTS = 2**20
_ARRAYS = ('ids', 'truth', 'found', 'scores', 'predicted')


class SavedPart(NamedTuple):
    """The predictions for the N instances of a data set with K keypoints.

    Attributes:
        name (str, optional): The data set, None if it is the only one.
        keypoints (list[str]): The names of the keypoints.
        ids (np.ndarray): The ids of the annotations, -1 where unknown, int64
            of shape (N, ).
        truth (np.ndarray): See :func:`truth_numbers`, int64 of shape (N, ).
        found (np.ndarray): Whether there is a prediction, bool of shape
            (N, ).
        scores (np.ndarray): The scores of the keypoints in 255ths, those
            above 1 as 1, uint8 of shape (N, K).
        predicted (np.ndarray): Predictions in pixels, float32 of shape
            (N, K, 2).
    """
    name: Optional[str]
    keypoints: List[str]
    ids: np.ndarray
    truth: np.ndarray
    found: np.ndarray
    scores: np.ndarray
    predicted: np.ndarray


class SavedInstances(NamedTuple):
    """The predictions of a validation.

    Attributes:
        run (str): The name of the run.
        when (str): The epoch or iteration.
        parts (list[SavedPart]): The data sets.
    """
    run: str
    when: str
    parts: List[SavedPart]


def saved_part(part: DataSetAccuracy) -> SavedPart:
    """Return what is saved of a data set.

    Of a very large one, the same instances are chosen in every run.

    Args:
        part (DataSetAccuracy): The data set, with its instances.
    """
    batch = part.instances.batch()
    truth = truth_numbers(batch)
    limit = max(_MAX_KEYPOINTS // len(part.names), 1)
    if len(truth) > limit:
        kept = np.sort(np.argsort(truth, kind='stable')[:limit])
        batch, truth = batch.take(kept), truth[kept]
    scores = np.nan_to_num(batch.keypoint_scores).clip(0, 1)
    return SavedPart(part.name, part.names, batch.ids, truth, batch.found,
                     np.round(255 * scores).astype(np.uint8), batch.predicted)


def truth_numbers(batch: InstanceBatch) -> np.ndarray:
    """Return a number of each instance's ground truth.

    It is the same in every process, int64 of shape (N, ).
    """
    # A tenth of a pixel is no other ground truth.
    points = np.round(batch.truth * 10)
    points[~batch.visible] = -1
    digests = b''.join(
        hashlib.blake2b(row.tobytes(), digest_size=8).digest()
        for row in points.astype(np.int32))
    return np.frombuffer(digests, '<i8').astype(np.int64)


def save(path: str, when: str, parts: Sequence[SavedPart],
         config: Dict[str, str]) -> None:
    """Write the file; a reader sees a complete one at any time.

    The 6,352 instances of COCO take 0.9 MB.

    Args:
        path (str): The file.
        when (str): The epoch or iteration.
        parts (Sequence[SavedPart]): The data sets.
        config (dict[str, str]): See :func:`flat_config`.

    Raises:
        OSError: It cannot be written.
    """
    header = dict(
        version=_VERSION,
        when=when,
        parts=[dict(name=p.name, keypoints=p.keypoints) for p in parts])
    arrays = {
        f'{name}_{i}': getattr(part, name)
        for i, part in enumerate(parts) for name in _ARRAYS
    }
    with whole_file(path, binary=True) as file:
        np.savez_compressed(
            file,
            header=json.dumps(header),
            config=json.dumps(config),
            **arrays)


def load(path: str) -> SavedInstances:
    """Read the file.

    Args:
        path (str): The file.

    Raises:
        ValueError: It is not such a file.
    """
    try:
        with np.load(path) as file:
            header = json.loads(str(file['header']))
            if header['version'] != _VERSION:
                raise ValueError(f'it is of version {header["version"]}')
            return SavedInstances(
                _run_of(path), header['when'], [
                    SavedPart(
                        **part, **
                        {name: file[f'{name}_{i}']
                         for name in _ARRAYS})
                    for i, part in enumerate(header['parts'])
                ])
    except (AttributeError, EOFError, KeyError, OSError, TypeError, ValueError,
            zipfile.BadZipFile) as error:
        raise ValueError(
            f'{path} is not what a validation of this version has saved: '
            f'{type(error).__name__}: {error}') from None


def _run_of(path: str) -> str:
    """Return the name of the run that has saved a file."""
    folders = osp.realpath(path).split(osp.sep)[:-1]
    # WORK_DIR/TIME/vis_data, as MMEngine makes them.
    if len(folders) > 2 and folders[-1] == 'vis_data':
        return '/'.join(folders[-3:-1])
    return folders[-1] or path
