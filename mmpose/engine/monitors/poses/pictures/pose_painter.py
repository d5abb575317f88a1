# Copyright (c) OpenMMLab. All rights reserved.
import re
from typing import List, Optional, Sequence, Set, Tuple

import cv2
import matplotlib
import numpy as np

from .panels import OVERSAMPLING, View, shrink

# The radius of a dot, in pixels of a panel.
_LARGEST, _SMALLEST = 6, 2
# With more keypoints an instance has several body parts.
MANY = 30
# An untrained model may find thousands of instances.
_MAX_INSTANCES = 30
# COCO's colours, used where a data set has the same colour for both sides.
_LEFT, _RIGHT = (0, 255, 0), (255, 128, 0)
_SIDES = dict(l='left', left='left', r='right', right='right')
_RIM, _ERROR = (0, 0, 0), (255, 255, 255)
# cv2 draws fractions of a pixel, in 16ths.
_SHIFT = 4

Color = Tuple[int, int, int]


class PosePainter:
    """Draw instances over a part of an image, in the data set's colours.

    The denser the keypoints, the smaller are dots and lines. A dark rim makes
    both visible on a light image.

    Args:
        meta (dict): The data set's ``metainfo``. If it has another number of
            keypoints, no skeleton is drawn.
        kpt_thr (float): The score below which a keypoint is drawn hollow.
    """

    def __init__(self, meta: dict, kpt_thr: float) -> None:
        self._meta = meta
        self.kpt_thr = max(kpt_thr, 0)

    def draw(self, part: View, keypoints: np.ndarray,
             scores: np.ndarray) -> np.ndarray:
        """Draw instances.

        Args:
            part (View): The part of the image; it stays as it is.
            keypoints (np.ndarray): Their keypoints in the image's pixels,
                shape (N, K, 2). Only the highest-scoring are drawn if there
                are many.
            scores (np.ndarray): The score of each keypoint, or bool: whether
                it is drawn. Shape (N, K).

        Returns:
            np.ndarray: The drawn panel: RGB, uint8 of shape (H, W, 3).
        """
        canvas = part.picture.copy()
        scores = np.asarray(scores)
        shown = scores if scores.dtype == bool else np.ones_like(scores, bool)
        self._draw(canvas, part, keypoints, scores, shown)
        return shrink(canvas)

    def draw_errors(self, part: View, keypoints: np.ndarray,
                    scores: np.ndarray, truth: np.ndarray, visible: np.ndarray,
                    nearest: np.ndarray) -> np.ndarray:
        """Draw instances and a line from each keypoint to its ground truth.

        A line leaves the picture if one of its ends is outside. Of many
        keypoints, those that no instance has are drawn if they score high.

        Args:
            part (View): The part of the image.
            keypoints (np.ndarray): Predicted, shape (M, K, 2).
            scores (np.ndarray): Their scores, shape (M, K).
            truth (np.ndarray): Shape (N, K, 2).
            visible (np.ndarray): Which keypoints of ``truth`` are annotated,
                bool of shape (N, K).
            nearest (np.ndarray): The index of each instance's prediction, -1
                for none, int of shape (N, ).

        Returns:
            np.ndarray: The drawn panel: RGB, uint8 of shape (H, W, 3).
        """
        canvas = part.picture.copy()
        scores = np.asarray(scores)
        shown = np.ones(scores.shape, bool)
        if scores.shape[-1] > MANY and (nearest >= 0).any():
            # DeepFashion2 has keypoints for 13 garments, an instance is one.
            shown = (scores >= self.kpt_thr) | visible.any(0)
        self._draw(canvas, part, keypoints, scores, shown)
        size = canvas.shape[1::-1]
        ends = part.project(np.asarray(truth, float))
        starts = part.project(np.asarray(keypoints, float))
        for instance, index in enumerate(nearest):
            if index < 0:
                continue
            for k in np.flatnonzero(visible[instance]):
                start, end = starts[index, k], ends[instance, k]
                inside = _clip(start, end, size)
                if inside is not None:
                    _line(canvas, *inside, _ERROR, 1)
                if _near(end, size):
                    _dot(canvas, end, _ERROR, 1.5)
        return shrink(canvas)

    def count(self, scores: np.ndarray) -> str:
        """Return how many of the keypoints are not hollow, as 'n of m'."""
        shown = scores[highest_scoring(scores)]
        return f'{int((shown >= self.kpt_thr).sum())} of {shown.size}'

    def _draw(self, canvas: np.ndarray, part: View, keypoints: np.ndarray,
              scores: np.ndarray, shown: np.ndarray) -> None:
        num_keypoints = keypoints.shape[-2]
        colors = keypoint_colors(self._meta, num_keypoints)
        links = skeleton(self._meta, num_keypoints)
        size = canvas.shape[1::-1]
        for i in highest_scoring(scores):
            points = part.project(np.asarray(keypoints[i], float))
            sure = scores[i]
            if scores.dtype != bool:
                sure = sure >= self.kpt_thr
            drawn = np.array([_near(point, size) for point in points], bool)
            drawn &= shown[i]
            radii = _radii(points / OVERSAMPLING, drawn)
            for a, b, color in links:
                if drawn[a] and drawn[b]:
                    width = 0.8 * min(radii[a], radii[b])
                    if not (sure[a] and sure[b]):
                        width = min(width, 1)
                    _line(canvas, points[a], points[b], color or colors[a],
                          width)
            for k in np.flatnonzero(drawn):
                _dot(canvas, points[k], colors[k], radii[k], not sure[k])


def highest_scoring(scores: np.ndarray) -> np.ndarray:
    """Return the indices of the instances that are drawn, the best first.

    Args:
        scores (np.ndarray): Shape (N, K).
    """
    means = np.nan_to_num(np.asarray(scores, float)).mean(-1)
    return np.argsort(-means, kind='stable')[:_MAX_INSTANCES]


def keypoint_colors(meta: dict, count: int) -> List[Color]:
    """Return a colour for each keypoint.

    Args:
        meta (dict): The data set's ``metainfo``.
        count (int): The number of keypoints.

    Returns:
        list[Color]: Those of the data set, or evenly spaced hues if it has
        another number. Left is green and right is orange where both have the
        same colour. Where no name tells the sides, the first of two keypoints
        is the right one, as in the jaw of a face; the lower lip goes back from
        left to right.
    """
    colors = meta.get('keypoint_colors')
    if colors is None or len(colors) != count:
        palette = matplotlib.colormaps['hsv'](np.linspace(0, 0.9, count))
        colors = np.round(255 * palette[:, :3])
    colors = [tuple(int(c) for c in color) for color in colors]
    for left, right in _pairs(meta, count):
        if np.abs(np.subtract(colors[left], colors[right])).max() < 60:
            colors[left], colors[right] = _LEFT, _RIGHT
    return colors


def _pairs(meta: dict, count: int) -> List[Tuple[int, int]]:
    """Return the left and the right keypoint of each pair.

    They are told by their names, so that wrong ``flip_indices`` show.
    """
    sides, twins = {}, {}
    for i, name in meta.get('keypoint_id2name', {}).items():
        words = re.findall('[A-Z]?[a-z]+|[A-Z]|[0-9]+', str(name))
        for word in words:
            if word.lower() in _SIDES:
                words.remove(word)
                sides[i] = _SIDES[word.lower()]
                twins.setdefault(tuple(words), {})[sides[i]] = i
                break
    pairs = [(twin['left'], twin['right']) for twin in twins.values()
             if len(twin) == 2 and max(twin.values()) < count]
    partners = meta.get('flip_indices')
    if partners is not None and len(partners) == count:
        back = _ways_back(partners)
        pairs += [(i, j) if i in back else (j, i)
                  for i, j in enumerate(partners)
                  if i < j and not {i, j} & set(sides)]
    return pairs


def _ways_back(partners: Sequence[int]) -> Set[int]:
    """Return the keypoints on the lower half of closed contours.

    A half is a row of keypoints that is symmetric to its middle. The one that
    follows it and has two keypoints less, without the corners, closes it: 48
    to 54 and 55 to 59 are the lips' outer contour in the faces of 300W.
    """
    count, back, last = len(partners), set(), range(0)
    for middle in range(count):
        reach = 0
        while (reach <= middle < count - reach
               and partners[middle - reach] == middle + reach):
            reach += 1
        row = range(middle - reach + 1, middle + reach)
        if row and row.start == last.stop and len(row) == len(last) - 2:
            back.update(row)
        if row:
            last = row
    return back


def skeleton(meta: dict,
             count: int) -> Sequence[Tuple[int, int, Optional[Color]]]:
    """Return the links of a data set's skeleton, with their colours.

    Args:
        meta (dict): The data set's ``metainfo``.
        count (int): The number of keypoints. If the data set has another
            number, there are no links.
    """
    links = meta.get('skeleton_links', ())
    named = meta.get('num_keypoints', count)
    if named != count or any(max(link) >= count for link in links):
        return []
    colors = meta.get('skeleton_link_colors')
    if colors is None or len(colors) != len(links):
        colors = [None] * len(links)
    return [(a, b, None if color is None else tuple(int(c) for c in color))
            for (a, b), color in zip(links, colors)]


def _near(point: np.ndarray, size: Tuple[int, int]) -> bool:
    """Return whether a point is in the picture.

    OpenCV cannot draw points far outside, nor NaN.
    """
    return bool(((point > -1) & (point < size)).all())


def _clip(start: np.ndarray, end: np.ndarray,
          size: Tuple[int, int]) -> Optional[np.ndarray]:
    """Return the part of a line inside the picture, None for none."""
    way = end - start
    if not np.isfinite(way).all():
        return None
    way[way == 0] = 1e-9
    hits = np.sort([(-1 - start) / way, (size - start) / way], axis=0)
    first, last = max(hits[0].max(), 0), min(hits[1].min(), 1)
    if first >= last:
        return None
    return start + np.array([[first], [last]]) * way


def _radii(points: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Return the radius of each dot: a third of the way to the next one."""
    radii = np.full(len(points), float(_LARGEST))
    if drawn.sum() > 1:
        there = points[drawn]
        apart = np.linalg.norm(there[:, None] - there, axis=-1)
        np.fill_diagonal(apart, np.inf)
        smallest = _SMALLEST if len(points) <= MANY else _SMALLEST * 0.6
        radii[drawn] = np.clip(0.3 * apart.min(1), smallest, _LARGEST)
    return radii


def _fixed(values) -> tuple:
    return tuple(int(v) for v in np.round(np.multiply(values, 1 << _SHIFT)))


def _line(canvas: np.ndarray, start: np.ndarray, end: np.ndarray, color: Color,
          width: float) -> None:
    for pen, wide in ((_RIM, 2 * width + 2), (color, 2 * width)):
        cv2.line(canvas, _fixed(start), _fixed(end), pen,
                 max(round(wide * OVERSAMPLING / 2), 1), cv2.LINE_AA, _SHIFT)


def _dot(canvas: np.ndarray,
         point: np.ndarray,
         color: Color,
         radius: float,
         hollow: bool = False) -> None:
    radius *= OVERSAMPLING
    if hollow:
        thick = max(round(radius / 3), 1)
        for pen, wide in ((_RIM, thick + 2), (color, thick)):
            cv2.circle(canvas, _fixed(point), *_fixed([radius]), pen, wide,
                       cv2.LINE_AA, _SHIFT)
        return
    for pen, wide in ((_RIM, radius + 1.5), (color, radius)):
        cv2.circle(canvas, _fixed(point), *_fixed([wide]), pen, -1,
                   cv2.LINE_AA, _SHIFT)
