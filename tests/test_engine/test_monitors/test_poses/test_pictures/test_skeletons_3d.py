# Copyright (c) OpenMMLab. All rights reserved.
import threading

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from mmpose.engine.monitors.poses.pictures.skeletons_3d import (_TRUTH_COLOR,
                                                                draw_skeletons,
                                                                skeleton_mesh)
from mmpose.engine.monitors.writers.summaries import to_summary

RED, GREEN, BLUE = np.eye(3, dtype=int) * 255
# From the middle to the right, away from the camera, up.
CROSS = np.array([(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1.)])
LINKS = [(0, 1), (0, 2), (0, 3)]
COLORS = np.array([RED, GREEN, BLUE, RED])
ALL = np.ones(4, bool)
UNDEFINED = np.full((4, 3), np.nan)


def draw(truth=CROSS,
         predicted=CROSS,
         visible=ALL,
         links=LINKS,
         colors=COLORS,
         caption=''):
    return draw_skeletons(truth, predicted, visible, links, colors, caption)


def views(picture):
    """What is seen from the camera and from the side."""
    height, width = picture.shape[:2]
    inner = picture[height // 8:-height // 6]
    return inner[:, :width // 2], inner[:, width // 2:]


def find(view, color):
    """Where a color is: all its (x, y), in pixels to the right and up."""
    y, x = np.nonzero((np.abs(view - np.float32(color)) < 20).all(-1))
    return np.stack((x, -y), axis=1)


def extent(view, color):
    """How wide and how high that is."""
    found = find(view, color)
    return np.ptp(found, axis=0) if len(found) else np.zeros(2)


# The picture


def test_from_the_camera_and_from_the_side():
    """Each direction where it belongs, on the same scale."""
    picture = draw()
    assert picture.dtype == np.uint8 and picture.shape == (640, 640, 3)
    camera, side = views(picture)
    lengths = [
        extent(camera, RED)[0],
        extent(side, GREEN)[0],
        extent(camera, BLUE)[1],
        extent(side, BLUE)[1]
    ]
    assert min(lengths) > 150 and np.ptp(lengths) < 10
    across = [extent(camera, GREEN), extent(side, RED)]
    assert np.max(across) < 20
    for view, color in ((camera, RED), (side, GREEN)):
        assert find(view, color)[:, 0].mean() > find(view, BLUE)[:, 0].mean()
        assert find(view, BLUE)[:, 1].mean() > find(view, color)[:, 1].mean()


@pytest.mark.parametrize('predicted, note', [
    (CROSS, 'grey: ground truth'),
    (CROSS + (9, 0, 0), '4 of 4 predicted joints outside'),
    (CROSS + (0, -9, 0), '4 of 4 predicted joints outside'),
    (CROSS + (0, 0, 9), '4 of 4 predicted joints outside'),
    (np.where(ALL[:, None] & [[1], [0], [0], [0]], np.nan,
              CROSS), '1 of 4 predicted joints outside'),
    (CROSS * [[1], [4], [1], [1]], '1 of 4 predicted joints outside'),
])
def test_what_is_outside_is_said(predicted, note, monkeypatch):
    said = []
    write = Figure.text

    def remember(self, x, y, text, **kwargs):
        said.append(text)
        return write(self, x, y, text, **kwargs)

    monkeypatch.setattr(Figure, 'text', remember)
    draw(predicted=predicted)
    assert said[-1].endswith(note)


@pytest.mark.parametrize('caption', [
    'MPJPE 54.3 mm',
    'step 1,234,567   MPJPE 2,600,659 data set units',
])
def test_a_caption_fits_into_the_picture(caption):
    top = draw(caption=caption)[:60]
    dark = np.nonzero((top < 100).all(-1))[1]
    assert len(dark) and 8 < dark.min() and dark.max() < 631


def test_a_whole_body_is_drawn_thin():
    """Dots of the usual size would hide a hand."""
    sizes = []
    for count in (17, 133):
        truth = np.zeros((count, 3))
        picture = draw(truth, truth + 0.3, np.ones(count, bool), [])
        sizes.append(len(find(views(picture)[0], RED)))
    assert 10 < 4 * sizes[1] < sizes[0]


def test_the_ground_truth_is_grey_and_in_front():
    for view in views(draw()):
        assert extent(view, _TRUTH_COLOR)[0] > 150
        # Halfway up the prediction looks out on both sides.
        half = np.median(find(view, BLUE)[:, 1])
        grey, blue = (
            found[found[:, 1] == half][:, 0]
            for found in (find(view, _TRUTH_COLOR), find(view, BLUE)))
        assert blue.min() < grey.min() and grey.max() < blue.max()


def test_the_scale_is_that_of_the_ground_truth():
    """So the pictures of all steps can be compared."""
    for factor in (0.1, 1, 30):
        for view in views(draw(predicted=factor * CROSS)):
            size = extent(view, _TRUTH_COLOR)
            assert np.abs(size - size.mean()).max() < 5
            assert 150 < size.mean() < 260


def test_an_invisible_joint_is_not_drawn():
    visible = np.array([True, False, True, True])
    camera, side = views(draw(visible=visible))
    assert extent(camera, _TRUTH_COLOR)[0] < 20
    assert extent(side, _TRUTH_COLOR)[0] > 150
    assert extent(camera, RED)[0] > 100, 'it was predicted all the same'


def test_without_a_ground_truth_the_prediction_is_shown():
    for view in views(draw(visible=~ALL)):
        assert not len(find(view, _TRUTH_COLOR))
        assert extent(view, BLUE)[1] > 150


@pytest.mark.parametrize('visible', [ALL, ~ALL])
def test_an_undefined_prediction(visible):
    """As of a training that has diverged."""
    picture = draw(predicted=UNDEFINED, visible=visible)
    for view in views(picture):
        assert (extent(view, _TRUTH_COLOR)[0] > 150) == visible.all()
        assert not any(len(find(view, color)) for color in COLORS)


def test_joints_without_bones():
    points = views(draw(predicted=2 * CROSS, links=[], colors=COLORS[:1]))[0]
    assert len(find(points, RED)) > 100


@pytest.mark.filterwarnings('error')
def test_a_ground_truth_without_a_size():
    points = CROSS[:1], CROSS[:1], ALL[:1], [], COLORS[:1]
    assert len(find(views(draw_skeletons(*points, ''))[0], RED)) > 50
    assert np.ptp(skeleton_mesh('tag', *points).vertices, axis=0).min() > 0


def test_the_caption_fits_in():
    """And is legible where a card shows the picture at half its size."""
    plain, long = (
        draw(caption=text)[:64]
        for text in ('', 'step 100,000   MPJPE 1043.1 mm'))
    assert (plain == 255).all()
    y, x = np.nonzero(long.min(-1) < 128)
    assert np.ptp(y) > 20 and 500 < np.ptp(x) < 620
    assert min(y.min(), x.min(), 63 - y.max(), 639 - x.max()) > 4


def test_drawn_in_another_thread_without_pyplot():
    drawn = []
    thread = threading.Thread(target=lambda: drawn.append(draw()))
    thread.start()
    thread.join()
    assert (drawn[0] == draw()).all()
    assert not pyplot.get_fignums()


# The mesh


def solids(mesh):
    """Vertices, faces and color of each connected part."""
    vertices, faces = mesh.vertices, mesh.faces
    size = len(vertices)
    edges = coo_matrix(
        (np.ones(faces.size), (faces.ravel(), np.roll(faces, 1, 1).ravel())),
        (size, size))
    count, part_of = connected_components(edges, directed=False)
    for part in range(count):
        members = np.flatnonzero(part_of == part)
        color, = np.unique(mesh.colors[members], axis=0)
        yield (vertices[members], vertices[faces[part_of[faces[:,
                                                               0]] == part]],
               tuple(color))


def mesh(truth=CROSS, predicted=CROSS, visible=ALL):
    return skeleton_mesh('tag', truth, predicted, visible, LINKS, COLORS)


def test_every_bone_and_joint_is_a_solid_seen_from_outside():
    found = list(solids(mesh()))
    assert len(found) == 2 * (len(LINKS) + len(CROSS))
    for vertices, faces, _ in found:
        outward = faces.mean(1) - vertices.mean(0)
        normals = np.cross(faces[:, 1] - faces[:, 0],
                           faces[:, 2] - faces[:, 0])
        assert ((outward * normals).sum(1) > 0).all()


def test_bones_go_from_joint_to_joint():
    """TensorBoard has y up and looks against z."""
    directions = dict(zip(map(tuple, COLORS), np.eye(3)))
    directions[tuple(GREEN)] = np.array((0, 0, -1))
    directions[tuple(BLUE)] = np.array((0, 1, 0))
    tubes = [(vertices, color)
             for vertices, _, color in solids(mesh(visible=~ALL))
             if len(vertices) == 12]
    assert {color for _, color in tubes} == {tuple(c) for c in COLORS}
    for vertices, color in tubes:
        start, end = vertices[:6].mean(0), vertices[6:].mean(0)
        np.testing.assert_allclose(start, 0, atol=1e-6)
        np.testing.assert_allclose(end, directions[color], atol=1e-6)
        radii = np.linalg.norm(vertices[:6], axis=1)
        assert np.ptp(radii) < 1e-6 and 0 < radii[0] < 0.05


def test_the_ground_truth_is_grey_and_thinner():
    found = list(solids(mesh(predicted=CROSS + 5)))
    sizes = dict(truth=[], predicted=[])
    for vertices, _, color in found:
        is_truth = color == tuple(_TRUTH_COLOR)
        assert (vertices.max() < 2) == is_truth
        sizes['truth' if is_truth else 'predicted'].append(
            np.ptp(vertices, axis=0).min())
    assert len(sizes['truth']) == len(sizes['predicted'])
    assert max(sizes['truth']) < 0.7 * max(sizes['predicted'])


def test_what_is_undefined_or_has_no_length_is_left_out():
    predicted = CROSS.copy()
    predicted[1] = np.nan
    predicted[2] = predicted[0]
    shown = mesh(predicted=predicted, visible=~ALL)
    assert np.isfinite(shown.vertices).all()
    assert len(list(solids(shown))) == 1 + 3


def test_tensorboard_takes_it():
    shown = mesh()
    assert len(shown.vertices) == len(shown.colors) == 12 * 4 + 24 * 3
    assert shown.colors.dtype == np.uint8
    assert set(shown.faces.ravel()) == set(range(len(shown.vertices)))
    tags = [value.tag for value in to_summary([shown]).value]
    assert tags == ['tag_VERTEX', 'tag_FACE', 'tag_COLOR']
