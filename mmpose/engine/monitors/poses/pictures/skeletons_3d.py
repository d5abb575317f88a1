# Copyright (c) OpenMMLab. All rights reserved.
from typing import List, Sequence, Tuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from ...writers.record import Mesh

# Twice the size on TensorBoard's cards: legible there, sharp when enlarged.
_PIXELS = 640
_DPI = 100
# The axes of a pose that point to the right and to the top.
_VIEWS = (('camera view', [0, 2]), ('side view', [1, 2]))
# The heights of the caption and the legend and the gap between the views, as
# fractions of the picture.
_TOP, _BOTTOM, _GAP = 0.1, 0.08, 0.015
# The fraction of a view that the ground truth fills.
_FILLED = 0.8
# With more joints, bones and joints are drawn thinner.
_DENSE = 40
_TRUTH_COLOR = np.array((90, 90, 90))


def draw_skeletons(truth: np.ndarray, predicted: np.ndarray,
                   visible: np.ndarray, links: Sequence[Tuple[int, int]],
                   colors: np.ndarray, caption: str) -> np.ndarray:
    """Draw a prediction and the ground truth over it, from two sides.

    The scale is the same in both views. It fits the ground truth, so that a
    pose is shown in the same place at all steps. A prediction that is far off
    is cut, and a line below says how many of its joints are outside.

    Args:
        truth (np.ndarray): The K joints of the ground truth, which is grey,
            shape (K, 3): right, away from the camera, up.
        predicted (np.ndarray): The predicted joints, shape (K, 3).
        visible (np.ndarray): Which joints the ground truth has, bool of shape
            (K, ).
        links (Sequence[tuple[int, int]]): The joints at the ends of each of L
            bones.
        colors (np.ndarray): The RGB of each predicted bone and, last, of a
            joint without a bone, 0 to 255, shape (L + 1, 3).
        caption (str): The line above the views.

    Returns:
        np.ndarray: The picture, RGB, uint8 of shape (640, 640, 3).
    """
    links = np.reshape(links, (-1, 2)).astype(int)
    grey = np.broadcast_to(_TRUTH_COLOR, colors.shape)
    truth = np.where(visible[:, None], truth, np.nan)
    height = 1 - _TOP - _BOTTOM
    width = (1 - _GAP) / 2
    middle, half = _window(truth, predicted, width / height)
    thin = min(1, _DENSE / len(truth))
    figure = Figure(figsize=(_PIXELS / _DPI, ) * 2, dpi=_DPI)
    canvas = FigureCanvasAgg(figure)
    text = dict(ha='center', va='center')
    figure.text(0.5, 1 - _TOP / 2, caption, size=_size(caption, 24), **text)
    note = 'grey: ground truth'
    limits = half * np.array((width / height, width / height, 1))
    # NaN is outside, too.
    num_seen = (np.abs(predicted - middle) <= limits).all(1).sum()
    if num_seen < len(predicted):
        outside = len(predicted) - num_seen
        note += f'; {outside} of {len(predicted)} predicted joints outside'
    figure.text(0.5, _BOTTOM / 2, note, size=_size(note, 18), **text)
    for left, (name, axes) in zip((0, 1 - width), _VIEWS):
        x, y = middle[axes]
        view = figure.add_axes([left, _BOTTOM, width, height])
        view.set(facecolor='0.85', xticks=[], yticks=[])
        view.spines[:].set_visible(False)
        view.set_xlim(x - half * width / height, x + half * width / height)
        view.set_ylim(y - half, y + half)
        _draw(view, predicted[:, axes], links, colors, width=7 * thin)
        _draw(view, truth[:, axes], links, grey, width=2.5 * thin)
        view.text(0.5, 0.04, name, size=18, transform=view.transAxes, **text)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _size(text: str, size: float) -> float:
    """Return the size, or the largest with which the text fits."""
    return min(size, 720 / max(len(text), 1))


def skeleton_mesh(tag: str, truth: np.ndarray, predicted: np.ndarray,
                  visible: np.ndarray, links: Sequence[Tuple[int, int]],
                  colors: np.ndarray) -> Mesh:
    """Make a surface of a prediction and the ground truth, to rotate in 3D.

    Bones are tubes, joints octahedra. The arguments are those of
    :func:`draw_skeletons`.

    Args:
        tag (str): The name of the mesh.
        truth (np.ndarray): Shape (K, 3).
        predicted (np.ndarray): Shape (K, 3).
        visible (np.ndarray): Shape (K, ).
        links (Sequence[tuple[int, int]]): Of length L.
        colors (np.ndarray): Shape (L + 1, 3).

    Returns:
        Mesh: At most ``12 * K + 24 * L`` vertices: right, up, towards the
        viewer, as TensorBoard shows them.
    """
    links = np.reshape(links, (-1, 2)).astype(int)
    grey = np.broadcast_to(_TRUTH_COLOR, colors.shape)
    truth = np.where(visible[:, None], truth, np.nan)
    _, half = _window(truth, predicted)
    parts = [
        *_solids(predicted, links, colors, 0.02 * half),
        *_solids(truth, links, grey, 0.01 * half)
    ]
    vertices, faces, rgb = (list(column) for column in zip(*parts))
    first = np.cumsum([0, *map(len, vertices)])
    return Mesh(
        tag,
        # A reflection would show the surface from inside.
        np.concatenate(vertices)[:, [0, 2, 1]] * np.float32((1, 1, -1)),
        np.repeat(rgb, np.diff(first), axis=0).astype(np.uint8),
        np.concatenate([f + start for f, start in zip(faces, first)]))


def _window(truth: np.ndarray,
            predicted: np.ndarray,
            aspect: float = 1) -> Tuple[np.ndarray, float]:
    """Return the middle, shape (3, ), and half the height of the view.

    Only finite joints count; those of the prediction if the ground truth has
    none.
    """
    points = next(
        (pose for pose in (_defined(truth), _defined(predicted)) if len(pose)),
        np.zeros((1, 3)))
    low, high = points.min(0), points.max(0)
    width = (high - low)[:2].max()
    half = max(width / aspect, high[2] - low[2]) / 2 / _FILLED
    return (low + high) / 2, half or 1


def _defined(pose: np.ndarray) -> np.ndarray:
    return pose[np.isfinite(pose).all(1)]


def _joint_colors(num_joints: int, links: np.ndarray,
                  colors: np.ndarray) -> np.ndarray:
    """Return the color of each joint's last bone, shape (K, 3)."""
    of_joints = np.repeat(colors[-1:], num_joints, axis=0)
    for ends, color in zip(links, colors):
        of_joints[ends] = color
    return of_joints


def _draw(view, points: np.ndarray, links: np.ndarray, colors: np.ndarray,
          width: float) -> None:
    """Draw a skeleton in 2D without joints that are not finite."""
    view.add_collection(
        LineCollection(
            points[links],
            colors=colors[:-1] / 255,
            linewidths=width,
            capstyle='round'))
    view.scatter(
        *points.T,
        s=(1.6 * width)**2,
        c=_joint_colors(len(points), links, colors) / 255,
        linewidths=0,
        zorder=2)


_Solid = Tuple[np.ndarray, np.ndarray, np.ndarray]


def _solids(pose: np.ndarray, links: np.ndarray, colors: np.ndarray,
            radius: float) -> List[_Solid]:
    """Return vertices, faces and color of each bone and joint that is
    finite."""
    solids = [(_tube(*pose[ends], radius), _TUBE_FACES, color)
              for ends, color in zip(links, colors)]
    solids += [
        (joint + 2 * radius * _OCTAHEDRON, _OCTAHEDRON_FACES, color)
        for joint, color in zip(pose, _joint_colors(len(pose), links, colors))
    ]
    return [solid for solid in solids if np.isfinite(solid[0]).all()]


# Counterclockwise as seen from outside: TensorBoard shows that side only.
_SIDE = np.arange(6)
_NEXT = (_SIDE + 1) % 6
_TUBE_FACES = np.concatenate([
    np.stack([_SIDE, _NEXT, _NEXT + 6], axis=1),
    np.stack([_SIDE, _NEXT + 6, _SIDE + 6], axis=1)
])
_OCTAHEDRON = np.concatenate([np.eye(3), -np.eye(3)])
_OCTAHEDRON_FACES = np.array([(0, 1, 2), (1, 3, 2), (3, 4, 2), (4, 0, 2),
                              (1, 0, 5), (3, 1, 5), (4, 3, 5), (0, 4, 5)])


def _tube(start: np.ndarray, end: np.ndarray, radius: float) -> np.ndarray:
    """Return the corners of a hexagonal prism, shape (12, 3); the first six
    are at the start."""
    along = end - start
    across = np.cross(along, np.eye(3)[np.abs(along).argmin()])
    third = np.cross(along, across)
    angle = _SIDE[:, None] * (np.pi / 3)
    # A bone of length 0 has no direction; it becomes NaN and is not drawn.
    with np.errstate(invalid='ignore'):
        ring = radius * (
            np.cos(angle) * across / np.linalg.norm(across) +
            np.sin(angle) * third / np.linalg.norm(third))
    return np.concatenate([start + ring, end + ring])
