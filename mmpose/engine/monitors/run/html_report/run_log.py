# Copyright (c) OpenMMLab. All rights reserved.
import csv
from typing import Dict, List, NamedTuple, Tuple

from ...writers.tfrecord import events_in

_IMAGES = 'images'
_TEXT = '/text_summary'


class Point(NamedTuple):
    """A value of a curve.

    Attributes:
        step (int): The step.
        wall_time (float): Seconds since the epoch.
        value (float): The value.
    """
    step: int
    wall_time: float
    value: float


class RunLog:
    """Hold what a run has logged.

    Args:
        log_dir (str): The directory of its event files.

    Attributes:
        scalars (dict[str, list[Point]]): The curves by their tags. Where a
            resumed run has taken back steps, the later values.
        texts (dict[str, str]): The last text of each tag, in Markdown.
        pictures (dict[str, tuple[int, list[bytes]]]): The step and the encoded
            pictures, JPEG or PNG, that each tag has last.
        began (float): When it began, in seconds since the epoch.
        ended (float): The time of the last event.
        finished (bool): Whether the training has come to its end.

    Raises:
        FileNotFoundError: There is no event file.
    """

    def __init__(self, log_dir: str) -> None:
        from tensorboard.compat.proto.event_pb2 import SessionLog
        self.scalars: Dict[str, List[Point]] = {}
        self.texts: Dict[str, str] = {}
        self.pictures: Dict[str, Tuple[int, List[bytes]]] = {}
        self.began = self.ended = 0.
        self.finished = False
        for event in events_in(log_dir, with_pictures=True):
            self.began = self.began or event.wall_time
            self.ended = max(self.ended, event.wall_time)
            if event.HasField('session_log'):
                status = event.session_log.status
                self.finished = status == SessionLog.STOP
                if status == SessionLog.START:
                    self._take_back(event.step)
            for value in event.summary.value:
                self._add(event, value)
        if not self.began:
            raise FileNotFoundError(f'There is no event file in {log_dir}.')

    def write_csv(self, path: str) -> None:
        """Write all scalars: tag, step, wall_time, value.

        Args:
            path (str): The file.
        """
        with open(path, 'w', newline='') as file:
            rows = csv.writer(file)
            rows.writerow(('tag', *Point._fields))
            for tag, points in sorted(self.scalars.items()):
                rows.writerows((tag, *point) for point in points)

    def _take_back(self, step: int) -> None:
        # A validation stands at its epoch, before the iteration. TensorBoard
        # takes back what has a later step, too.
        for tag, points in self.scalars.items():
            self.scalars[tag] = [p for p in points if p.step < step]

    def _add(self, event, value) -> None:
        kind = value.metadata.plugin_data.plugin_name
        strings = value.tensor.string_val
        if value.HasField('simple_value'):
            self.scalars.setdefault(value.tag, []).append(
                Point(event.step, event.wall_time, value.simple_value))
        elif kind == _IMAGES and len(strings) > 2:
            # Before the pictures come width and height.
            self.pictures[value.tag] = event.step, list(strings[2:])
        elif value.tag.endswith(_TEXT) and strings:
            tag = value.tag[:-len(_TEXT)]
            self.texts[tag] = strings[0].decode(errors='replace')
