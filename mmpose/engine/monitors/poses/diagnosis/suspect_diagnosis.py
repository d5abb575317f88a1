# Copyright (c) OpenMMLab. All rights reserved.
import csv
import functools
import logging
import os.path as osp
from collections import Counter
from typing import Iterator, List, NamedTuple, Optional, Sequence

from mmengine.logging import print_log

from ...core.measurements import Remark
from ...core.whole_file import whole_file
from ...writers.record import IMAGE, Record
from ..accuracy.data_set_accuracy import DataSetAccuracy
from ..pictures.scenes import Scene
from .diagnosis import Diagnosis, Validation
from .instance_scene import instance_scene
from .suspect_labels import Suspect, SuspectLabels

FILE = 'suspect_labels.csv'
_COLUMNS = ('suspicion', 'reason', 'data_set', 'annotation_id', 'image',
            'keypoints', 'detail')
_MAX_ROWS = 1000
_MAX_PICTURES = 8


class SuspectDiagnosis(Diagnosis):
    """Show annotations that may be wrong.

    ====================== =================================================
    ``val/suspect_labels`` Up to eight annotations that contradict the model,
                           the most suspicious first: mirrored, far from where
                           the model stays, or absent where it is sure, see
                           :class:`SuspectLabels`
    ====================== =================================================

    They are suspects, no verdict: look at each before it is changed.
    ``suspect_labels.csv`` beside the event file ranks up to 1000 of the last
    validation with the ids of the annotations, the reasons and the keypoints.
    """

    def __init__(self) -> None:
        self._labels = SuspectLabels()
        self._failed = False
        self._had_any = False

    def records(self, runner, validation: Validation) -> Iterator[Record]:

        @functools.lru_cache(None)
        def found() -> List[_Found]:  # In the writer's thread, once.
            suspects = [
                _Found(part, suspect) for part in validation.parts
                for suspect in self._labels.find(part)
            ]
            return sorted(suspects, key=lambda it: -it.suspect.suspicion)

        yield Record(validation.step,
                     lambda: self._list(found(), validation.folder))
        yield Record(
            validation.step,
            lambda: validation.pictures.images('val/suspect_labels', [
                functools.partial(_scene, *it, validation)
                for it in found()[:_MAX_PICTURES]
            ]),
            kind=IMAGE)

    def _list(self, found: Sequence['_Found'],
              folder: str) -> Iterator[Remark]:
        """Write the file, and yield what the report says."""
        path = osp.join(folder, FILE)
        try:
            if found or osp.exists(path):
                _write(path, found[:_MAX_ROWS])
        except OSError as error:
            # The curves go on without it.
            if not self._failed:
                print_log(
                    f'EnhancedTensorBoardHook cannot write {path}: {error}',
                    'current', logging.WARNING)
            self._failed = True
        if found or self._had_any:
            counts = Counter(it.suspect.reason for it in found)
            reasons = ', '.join(f'{n:,} {why}' for why, n in counts.items())
            yield Remark(
                'suspect_labels',
                found and f'Annotations that may be wrong: {reasons}; see '
                f'val/suspect_labels and {FILE}.' or '')
        self._had_any = bool(found)


class _Found(NamedTuple):
    part: DataSetAccuracy
    suspect: Suspect

    @property
    def path(self) -> Optional[str]:
        """str | None: The file of the image."""
        instances = self.part.instances
        number = int(instances.batch().images[self.suspect.row])
        return instances.images().get(number, (None, None))[0]

    @property
    def keypoints(self) -> List[str]:
        """list[str]: The names of the keypoints in question."""
        return [self.part.names[i] for i in self.suspect.keypoints]


def _write(path: str, found: Sequence[_Found]) -> None:
    with whole_file(path) as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for it in found:
            number = int(it.part.instances.batch().ids[it.suspect.row])
            writer.writerow([
                f'{it.suspect.suspicion:.3f}', it.suspect.reason, it.part.name
                or '', number if number >= 0 else '', it.path or '',
                ' '.join(it.keypoints), it.suspect.detail
            ])


def _scene(part: DataSetAccuracy, suspect: Suspect,
           validation: Validation) -> Optional[Scene]:
    """Return the scene of a suspect, None without its image."""
    it = _Found(part, suspect)
    number = int(part.instances.batch().ids[suspect.row])
    name = f', id {number}' if number >= 0 else ''
    # The picture of a slim instance is narrow.
    more = len(it.keypoints) - 1
    names = ''.join(it.keypoints[:1]) + (f' + {more}' if more > 0 else '')
    return instance_scene(
        part, suspect.row,
        f'{suspect.suspicion:.2f} {suspect.reason}{name}: {names}', validation)
