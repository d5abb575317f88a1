# Copyright (c) OpenMMLab. All rights reserved.
"""Draw a data set of people in the format of COCO keypoints.

Nothing is downloaded: every image is computed from the seed, and so are its
annotations, which are exact. The way from a seed to a file has four steps:

1. a *figure* is sampled: body, clothes and pose as points in space;
2. the figures and objects of an image are drawn on one canvas that keeps,
   for each pixel, what is in front there;
3. the annotations are read off that canvas;
4. images and annotations are written in the layout of COCO.

Units are metres and degrees for a figure, pixels for an image; the centre of
an image's first pixel is (0, 0), colors are BGR from 0 to 255.
"""
import argparse
import colorsys
import json
import os
import time
from pathlib import Path

import cv2
import numpy as np

# A data set drawn by another version is drawn again.
VERSION = 1

KEYPOINTS = ('nose', 'left_eye', 'right_eye', 'left_ear', 'right_ear',
             'left_shoulder', 'right_shoulder', 'left_elbow', 'right_elbow',
             'left_wrist', 'right_wrist', 'left_hip', 'right_hip', 'left_knee',
             'right_knee', 'left_ankle', 'right_ankle')
# Joints to link when a person is shown; counted from 1, as COCO does.
SKELETON = ((16, 14), (14, 12), (17, 15), (15, 13), (12, 13), (6, 12), (7, 13),
            (6, 7), (6, 8), (7, 9), (8, 10), (9, 11), (2, 3), (1, 2), (1, 3),
            (2, 4), (3, 5), (4, 6), (5, 7))


def generate_dataset(out,
                     num_train=500,
                     num_val=60,
                     image_size=(256, 192),
                     seed=0):
    """Write a training and a validation split under a folder.

    A split that is already there, drawn with the same arguments, is left
    alone. A split's annotation file is written after its images and in one
    step, so a split that has one is complete.

    Args:
        out (str | Path): The folder; made if needed.
        num_train (int): Number of training images. Defaults to 500.
        num_val (int): Number of validation images. Defaults to 60.
        image_size (tuple): Width and height in pixels, each 64 to 2048 and
            one at most three times the other. Defaults to (256, 192).
        seed (int): Any integer from 0 on. Defaults to 0.

    Returns:
        list[str]: Names of the splits that were drawn.

    Raises:
        ValueError: If an argument is outside of what is allowed.
        FileExistsError: If there is an annotation file in the way that this
            tool did not write.
    """
    for name, number in (('num_train', num_train), ('num_val', num_val)):
        if not 1 <= number <= 1000000:
            raise ValueError(f'{name} must be 1 to 1000000, got {number}')
    if seed < 0:
        raise ValueError(f'seed must be 0 or more, got {seed}')
    _check_image_size(image_size)

    missing = []
    splits = ('train', num_train), ('val', num_val)
    for index, (split, number) in enumerate(splits):
        settings = dict(
            version=VERSION,
            num_images=number,
            image_size=list(image_size),
            seed=seed)
        if not _is_complete(Path(out), split, settings):
            missing.append((index, split, settings))
    for index, split, settings in missing:
        # A stream of random numbers for each image: it stays the same when
        # the number of images changes.
        rngs = (
            np.random.default_rng((seed, index, i))
            for i in range(settings['num_images']))
        _write_split(Path(out), split, settings, rngs)
    return [split for _, split, _ in missing]


def draw_sample(rng, image_size):
    """Draw one image with one to three people.

    Args:
        rng (np.random.Generator): The source of everything that is random.
        image_size (tuple): Width W and height H in pixels, as in
            :func:`generate_dataset`.

    Returns:
        tuple: The image, uint8 of shape (H, W, 3) in BGR, and a list with a
        dict for each person:

        - ``keypoints``: float array of shape (17, 3); x, y in pixels and
          the visibility: 0 outside of the image (x and y are 0 then), 1
          hidden, 2 visible.
        - ``mask``: bool array of shape (H, W), the pixels that show the
          person.

    Raises:
        ValueError: If the image size is outside of what is allowed.
    """
    _check_image_size(image_size)
    # A person that can hardly be seen would make a pointless label, and one
    # without a label would be wrong. Most scenes have none.
    while True:
        figures = _sample_scene(rng, image_size)
        canvas = _Canvas(image_size, light=_sample_light(rng))
        for index, figure in enumerate(figures):
            _draw_figure(canvas, figure, index)
        _draw_obstacle(canvas, rng, figures)
        people = [
            _annotate(canvas, figure, index)
            for index, figure in enumerate(figures)
        ]
        if all(_is_recognizable(person) for person in people):
            break
    background = draw_background(rng, image_size)
    for figure in figures:
        _draw_shadow(background, figure)
    return _develop(rng, canvas.over(background)), people


def _check_image_size(image_size):
    """Raise ValueError for a size that scenes do not fit."""
    width, height = image_size
    if not (64 <= min(image_size) and max(image_size) <= 2048
            and max(image_size) <= 3 * min(image_size)):
        raise ValueError('image_size must be a width and a height of 64 to '
                         '2048, one at most three times the other, got '
                         f'{width} {height}')


# Pixels in depth between two people: more than the largest one needs.
LAYER = 10000
# A joint is seen if no more than this, in metres, is in front of it.
MAX_FLESH = 0.15

# Poses. A limb's direction is given by two angles: it hangs straight down at
# (0, 0), the first swings it forward, the second outward.
# Upper arm forward, outward; forearm forward, outward.
ARMS = dict(
    hang=((-15, 15), (4, 18), (0, 35), (-5, 15)),
    swing_front=((15, 40), (3, 12), (40, 80), (-5, 10)),
    swing_back=((-45, -20), (5, 15), (-20, 20), (0, 10)),
    up=((-10, 15), (135, 170), (-10, 15), (140, 190)),
    side=((-10, 10), (70, 105), (-10, 10), (60, 120)),
    wave=((-5, 15), (60, 110), (-5, 20), (140, 195)),
    akimbo=((-25, -5), (38, 55), (10, 30), (-50, -30)),
    reach=((60, 100), (0, 25), (70, 110), (-10, 15)),
    lap=((10, 35), (5, 15), (60, 85), (-25, 0)),
    face=((25, 45), (10, 30), (125, 150), (-25, 0)),
)
# Thigh forward, outward; shin forward, outward.
LEGS = dict(
    straight=((-6, 8), (2, 9), (-10, 0), (0, 7)),
    stride=((18, 40), (0, 6), (-5, 20), (0, 5)),
    trail=((-30, -10), (0, 6), (-60, -25), (0, 5)),
    wide=((-5, 8), (18, 35), (-10, 3), (15, 32)),
    sit=((70, 92), (4, 20), (-12, 12), (-3, 8)),
    squat=((75, 110), (12, 30), (-55, -25), (5, 15)),
    lift=((60, 90), (0, 15), (-20, 5), (0, 8)),
    kneel=((-5, 10), (2, 10), (-95, -80), (0, 5)),
)
# Trunk forward, to the left; left arm, right arm; left leg, right leg.
POSES = dict(
    stand=((-3, 6), (-4, 4), 'hang akimbo lap face', 'hang akimbo lap face',
           'straight', 'straight'),
    walk=((0, 8), (-3, 3), 'swing_front', 'swing_back', 'trail', 'stride'),
    cheer=((-5, 5), (-5, 5), 'up wave', 'up wave', 'straight wide',
           'straight wide'),
    wave=((-3, 5), (-5, 5), 'wave up reach', 'hang akimbo', 'straight',
          'straight'),
    star=((-3, 5), (-5, 5), 'side up', 'side', 'wide', 'wide'),
    tilt=((-3, 8), (12, 28), 'hang akimbo', 'up akimbo', 'wide', 'straight'),
    bend=((35, 75), (-8, 8), 'hang reach', 'hang lap', 'straight stride',
          'straight'),
    sit=((-8, 15), (-6, 6), 'lap face hang', 'lap reach wave', 'sit', 'sit'),
    squat=((20, 45), (-5, 5), 'reach lap', 'reach hang', 'squat', 'squat'),
    kneel=((-3, 15), (-5, 5), 'lap hang', 'hang wave', 'lift', 'kneel'),
)


def _sample_figure(rng):
    """Sample a person.

    Returns:
        dict: ``joints``: points (3,) by name, the keypoints among them, x to
        the right in the image, y up, z to the viewer, the pelvis at the
        origin; ``head``: axes of the head as columns (3, 3): to the person's
        left, up, forward; ``girth``: relative thickness; ``wear``: colors
        and choices of clothes; ``seated``: whether the pose needs a seat.
    """
    name = str(rng.choice(list(POSES)))
    lean, tilt, *arms, left_leg, right_leg = POSES[name]
    lean, tilt = rng.uniform(*lean), rng.uniform(*tilt)
    legs = [left_leg, right_leg]
    if rng.random() < 0.5:
        arms, legs, tilt = arms[::-1], legs[::-1], -tilt

    trunk = _turn('z', -tilt) @ _turn('x', lean) @ _turn(
        'y', rng.uniform(-12, 12))
    head = trunk @ _turn('y', rng.uniform(-22, 22)) @ _turn(
        'x',
        rng.uniform(-12, 12) - 0.6 * lean)
    size, shoulders, hips, limbs = rng.uniform(0.92, 1.08, 4)
    joints = dict(pelvis=np.zeros(3), neck=trunk @ (0, 0.52, 0))
    joints['head'] = joints['neck'] + head @ (0, 0.19, 0.02)
    for side, sign, arm, leg in (('left', 1, arms[0], legs[0]),
                                 ('right', -1, arms[1], legs[1])):
        hip = np.array((sign * 0.095 * hips, 0, 0))
        shoulder = trunk @ (sign * 0.185 * shoulders, 0.46, 0)
        upper, fore = _sample_limb(rng, ARMS, arm, sign)
        thigh, shin = _sample_limb(rng, LEGS, leg, sign)
        elbow = shoulder + 0.28 * limbs * upper
        wrist = elbow + 0.25 * limbs * fore
        knee = hip + 0.42 * limbs * thigh
        ankle = knee + 0.42 * limbs * shin
        # A foot is at a right angle to the shin and points a bit outward.
        toes = np.array((0.25 * sign, shin[2], -shin[1]))
        for joint, point in dict(
                shoulder=shoulder,
                elbow=elbow,
                wrist=wrist,
                hand=wrist + 0.08 * fore,
                hip=hip,
                knee=knee,
                ankle=ankle,
                toes=ankle + 0.15 * toes,
                ear=joints['head'] + head @ (sign * 0.118, 0, 0),
                eye=joints['head'] + head @ (sign * 0.046, 0.02, 0.108),
        ).items():
            joints[f'{side}_{joint}'] = point
    joints['nose'] = joints['head'] + head @ (0, -0.025, 0.122)

    view = _turn('x', rng.uniform(0, 12)) @ _turn('y', _sample_heading(rng))
    return dict(
        joints={name: size * (view @ joint)
                for name, joint in joints.items()},
        head=size * (view @ head),
        girth=size * rng.uniform(1, 1.25),
        wear=_sample_wear(rng),
        seated=name == 'sit')


def _turn(axis, degrees):
    """The rotation matrix (3, 3) about a named axis."""
    vector = np.zeros(3)
    vector['xyz'.index(axis)] = np.deg2rad(degrees)
    return cv2.Rodrigues(vector)[0]


def _sample_limb(rng, table, names, sign):
    """Sample the directions, unit vectors (3,), of a limb's two bones."""
    angles = np.deg2rad(
        [rng.uniform(*span) for span in table[rng.choice(names.split())]])
    return [
        np.array((sign * np.sin(outward), -np.cos(outward) * np.cos(forward),
                  np.cos(outward) * np.sin(forward)))
        for forward, outward in (angles[:2], angles[2:])
    ]


def _sample_heading(rng):
    """Degrees to turn a person who looks at the viewer."""
    kind = rng.random()
    if kind < 0.6:
        return rng.normal(0, 20)
    if kind < 0.88:
        return rng.normal(180, 20)
    return rng.choice((-1, 1)) * rng.uniform(45, 80)


def _sample_wear(rng):
    """Sample what a person looks like apart from pose and body."""
    skin = rng.uniform(0.9, 1.08) * rng.choice(
        ((168, 200, 240), (135, 175, 225), (100, 145, 200), (70, 105, 160),
         (45, 70, 110)))
    hair = rng.choice(((25, 25, 30), (30, 50, 80), (70, 130, 190),
                       (35, 60, 140), (150, 150, 155)))
    shirt, trousers, shoes = (_sample_color(rng) for _ in range(3))
    return dict(
        skin=skin,
        hair=hair * rng.uniform(0.8, 1.2),
        shirt=shirt,
        stripes=_sample_color(rng) if rng.random() < 0.3 else shirt,
        trousers=0.8 * trousers,
        shoes=0.7 * shoes,
        sleeve=shirt if rng.random() < 0.5 else skin,
        leg=0.8 * trousers if rng.random() < 0.7 else skin,
        long_hair=rng.random() < 0.35)


def _sample_color(rng):
    """Sample a color of cloth or paint, (3,)."""
    rgb = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0, 0.85),
                              rng.uniform(0.25, 1))
    return 255 * np.array(rgb[::-1])


def _sample_scene(rng, image_size):
    """Sample figures with a place in the image, from far to near.

    Adds to each figure: ``scale`` in pixels per metre, ``origin``: x and y of
    the pelvis in pixels, ``ground``: y in pixels of what it stands on.
    """
    width, height = image_size
    extent = min(height, 1.3 * width)
    number = int(rng.choice((1, 2, 3), p=(0.4, 0.42, 0.18)))
    closeness = np.sort(rng.uniform(0, 1, number))
    # Now and then the camera is so close that legs are out of the image.
    zoom = rng.uniform(1.3, 1.7) if rng.random() < 0.2 else 1
    columns = rng.permutation(number)
    figures = []
    for near, column in zip(closeness, columns):
        figure = _sample_figure(rng)
        lowest = min(point[1] for point in figure['joints'].values()) - 0.04
        scale = zoom * extent * (0.34 + 0.19 * near) * rng.uniform(0.92, 1.08)
        ground = zoom * height * (0.74 + 0.23 * near)
        x = width * ((column + 0.5) / number + rng.normal(0, 0.09))
        figure.update(
            scale=scale,
            layer=LAYER * (number - len(figures)),
            ground=ground,
            origin=np.array((x, ground + scale * lowest)))
        figures.append(figure)
    return figures


class _Canvas:
    """Draws solid things and keeps the nearest one at each point.

    It takes ``RATE`` x ``RATE`` samples per pixel, so that edges come out
    smooth. What a pixel shows is asked for at the sample in its centre.

    Args:
        image_size (tuple): Width W and height H in pixels.
        light (np.ndarray): Unit vector (3,) to the light; x to the right, y
            down, z away from the viewer, as for all points drawn.
    """

    RATE = 3  # odd, for one sample to be in the centre

    def __init__(self, image_size, light):
        width, height = (self.RATE * side for side in image_size)
        self.light = light
        self.depth = np.full((height, width), np.inf, np.float32)
        self.shade = np.zeros((height, width), np.float32)
        self.label = np.zeros((height, width), np.uint16)
        # By label: the color, the person (-1: none), the keypoints shown.
        self.colors, self.persons, self.shown = [(0, 0, 0)], [-1], ['']

    def draw_limb(self, ends, radii, color, person=-1, shown=''):
        """Draw a ball that moves along a line while its radius changes.

        Args:
            ends (Sequence): Two points (3,) in pixels.
            radii (Sequence): The radius in pixels at each end.
            color (np.ndarray): The color (3,).
            person (int): Whom it belongs to. Defaults to -1, nobody.
            shown (str): Names of the keypoints that can be seen on it.
                Defaults to ''.
        """
        start, end = np.float32(ends) * self.RATE + self.RATE // 2
        r0, r1 = np.float32(radii) * self.RATE
        low = np.minimum(start - r0, end - r1)[:2]
        high = np.maximum(start + r0, end + r1)[:2] + 2
        (x0, y0), (x1, y1) = np.clip((low, high), 0,
                                     self.depth.shape[::-1]).astype(int)
        view = slice(y0, y1), slice(x0, x1)
        xs = np.arange(x0, x1, dtype=np.float32)[None] - start[0]
        ys = np.arange(y0, y1, dtype=np.float32)[:, None] - start[1]

        self.colors.append(color)
        self.persons.append(person)
        self.shown.append(shown)
        ax, ay, az = end - start
        length2 = max(ax**2 + ay**2, 1e-6)
        along = np.clip((xs * ax + ys * ay) / length2, 0, 1)
        # A limb that points at the viewer shows the ball at its end.
        for t in (along, 0, 1) if az**2 > length2 else (along, ):
            dx, dy, radius = xs - t * ax, ys - t * ay, r0 + t * (r1 - r0)
            rise2 = radius**2 - dx**2 - dy**2
            rise = np.sqrt(np.maximum(rise2, 0))
            depth = start[2] + t * az - rise
            facing = (dx * self.light[0] + dy * self.light[1] -
                      rise * self.light[2]) / radius
            near = (rise2 > 0) & (depth < self.depth[view])
            np.copyto(self.depth[view], depth, where=near)
            np.copyto(self.shade[view], 0.62 + 0.42 * facing, where=near)
            np.copyto(self.label[view], len(self.colors) - 1, where=near)

    def read(self):
        """Labels and depths in pixels, both of shape (H, W)."""
        centres = slice(self.RATE // 2, None, self.RATE)
        depth = self.depth[centres, centres] / self.RATE
        return self.label[centres, centres], depth

    def over(self, background):
        """The canvas in front of a background, float (H, W, 3)."""
        colors, total = np.float32(self.colors), np.zeros_like(background)
        for y, x in np.ndindex(self.RATE, self.RATE):
            samples = slice(y, None, self.RATE), slice(x, None, self.RATE)
            label = self.label[samples]
            color = np.take(colors, label, axis=0)
            color *= self.shade[samples][..., None]
            total += np.where(label[..., None] > 0, color, background)
        return total / self.RATE**2


def _project(figure, point):
    """A point of a figure, (3,), as x, y and depth in pixels."""
    x, y = figure['origin'] + figure['scale'] * point[:2] * (1, -1)
    return np.array((x, y, figure['layer'] - figure['scale'] * point[2]))


def _draw_figure(canvas, figure, person):
    """Draw a figure as the person of that number."""
    joints, head, wear = figure['joints'], figure['head'], figure['wear']
    skin, shirt, trousers = wear['skin'], wear['shirt'], wear['trousers']
    scale = figure['scale']

    def draw(ends, radii, color, shown=''):
        # An end is a point, the name of one, or a place in the head.
        points = [
            joints[end] if isinstance(end, str) else joints['head'] +
            head @ end if isinstance(end, tuple) else end for end in ends
        ]
        canvas.draw_limb([_project(figure, point) for point in points],
                         scale * figure['girth'] * np.array(radii), color,
                         person, shown)

    trunk = 'left_shoulder right_shoulder left_hip right_hip'
    for i, t in enumerate(np.linspace(0, 1, 10)):
        ends = [
            (1 - t) * joints[f'{side}_shoulder'] + t * joints[f'{side}_hip']
            for side in ('left', 'right')
        ]
        cloth = trousers if t == 1 else wear['stripes'] if i % 4 > 1 else shirt
        draw(ends, np.full(2, .07 + .03 * t), cloth, trunk)
    draw(('neck', 'head'), (.05, .05), skin)
    draw(((0, -.04, .02), (0, .03, 0)), (.085, .112), skin)
    draw(((.03, -.07, .093), (-.03, -.07, .093)), (.01, .01), (70, 60, 160))
    draw(((0, .01, .105), 'nose'), (.012, .02), .85 * skin, 'nose')
    draw(((0, .05, -.03), (0, .05, -.03)), (.122, .122), wear['hair'])
    if wear['long_hair']:
        draw(((0, 0, -.05), (0, -.2, -.06)), (.108, .08), wear['hair'])
    for side, sign in (('left', 1), ('right', -1)):
        shoulder, elbow, wrist, hand, hip, knee, ankle, toes, ear, eye = (
            f'{side}_{name}' for name in
            ('shoulder elbow wrist hand hip knee ankle toes ear eye').split())
        draw((shoulder, elbow), (.068, .05), shirt, f'{shoulder} {elbow}')
        draw((elbow, wrist), (.047, .034), wear['sleeve'], f'{elbow} {wrist}')
        draw((wrist, hand), (.036, .042), skin, wrist)
        draw((hip, knee), (.092, .064), trousers, f'{hip} {knee}')
        draw((knee, ankle), (.06, .042), wear['leg'], f'{knee} {ankle}')
        draw((ankle, toes), (.048, .042), wear['shoes'], ankle)
        draw((ear, ear), (.028, .028), .92 * skin, ear)
        draw((eye, eye), (.022, .022), np.full(3, 225), eye)
        pupil = (sign * .044, .02, .118)
        draw((pupil, pupil), (.015, .015), np.full(3, 35), eye)
    if figure['seated']:
        x, y, depth = _project(figure, joints['pelvis'])
        radius = .17 * scale
        depth += radius
        canvas.draw_limb(((x, y + 1.5 * radius, depth),
                          (x, max(figure['ground'], y + 1.6 * radius), depth)),
                         (radius, radius), .7 * wear['stripes'])


def _draw_obstacle(canvas, rng, figures):
    """Draw at most one thing that may hide a part of somebody."""
    kind = rng.choice(('none', 'none', 'none', 'pole', 'barrel', 'bush'))
    figure = figures[rng.integers(len(figures))]
    scale, ground = figure['scale'], figure['ground']
    depth = figure['layer'] - LAYER / 2
    x = figure['origin'][0] + scale * rng.uniform(-0.5, 0.5)
    color = _sample_color(rng)
    if kind == 'bush':
        for _ in range(14):
            dx, dy, radius = scale * rng.uniform((-.4, 0, .08), (.4, .5, .16))
            leaf = (x + dx, ground - dy, depth)
            canvas.draw_limb((leaf, leaf), (radius, radius),
                             rng.uniform((20, 70, 20), (60, 140, 70)))
    elif kind != 'none':
        low, high = dict(
            pole=((.03, .8), (.06, 3)), barrel=((.15, .1), (.3, .5)))[kind]
        radius, length = scale * rng.uniform(low, high)
        canvas.draw_limb(((x, ground - radius, depth),
                          (x, ground - radius - length, depth)),
                         (radius, radius), color)


def _annotate(canvas, figure, person):
    """Read a person's annotation off a canvas, see :func:`draw_sample`."""
    labels, depths = canvas.read()
    mask = np.array(canvas.persons)[labels] == person
    height, width = labels.shape
    keypoints = np.zeros((len(KEYPOINTS), 3))
    for row, name in zip(keypoints, KEYPOINTS):
        x, y, depth = np.round(_project(figure, figure['joints'][name]), 2)
        if 0 <= x <= width - 1 and 0 <= y <= height - 1:
            pixel = int(y + 0.5), int(x + 0.5)
            # A joint far behind the surface is on the body's other side.
            visible = (
                mask[pixel] and name in canvas.shown[labels[pixel]].split()
                and depth - depths[pixel] < MAX_FLESH * figure['scale'])
            row[:] = x, y, 2 if visible else 1
    return dict(keypoints=keypoints, mask=mask)


def _is_recognizable(person):
    """Whether enough of a person can be seen to be worth a label."""
    return np.count_nonzero(person['keypoints'][:, 2] == 2) >= 6


def _sample_light(rng):
    """Sample the direction to the light, a unit vector (3,)."""
    light = np.array((rng.uniform(-0.8, 0.8), rng.uniform(-0.9, 0), -1))
    return light / np.linalg.norm(light)


def draw_background(rng, image_size):
    """Draw a place without people, float (H, W, 3)."""
    width, height = image_size
    image = np.zeros((height, width, 3), np.float32)
    paint = rng.choice((_paint_room, _paint_street, _paint_meadow))
    paint(rng, image, int(height * rng.uniform(0.4, 0.62)))
    if rng.random() < 0.2:
        for _ in range(12):
            ends = np.int32(rng.random((2, 2)) * image_size)
            cv2.line(image, tuple(ends[0]), tuple(ends[1]), _sample_color(rng),
                     int(rng.integers(2, 12)))
    # Spots of all sizes, from uneven light down to texture.
    for cells, strength in ((3, 12), (12, 6), (60, 5)):
        spots = np.float32(rng.normal(0, strength, (cells, cells)))
        image += cv2.resize(
            spots, image_size, interpolation=cv2.INTER_CUBIC)[..., None]
    return image


def _fade(rows, top, bottom):
    """Fill rows of an image with a transition between two colors."""
    t = np.linspace(0, 1, len(rows))[:, None, None]
    rows[:] = (1 - t) * top + t * bottom


def _paint_room(rng, image, horizon):
    """Paint a wall with pictures and a floor of boards."""
    height, width = image.shape[:2]
    wall, floor = _sample_color(rng), _sample_color(rng)
    _fade(image[horizon:], 0.6 * floor, 0.85 * floor)
    for x in range(-3 * width, 4 * width, width // 6):
        cv2.line(image, (width // 2, 0), (x, 2 * height), 0.55 * floor, 1,
                 cv2.LINE_AA)
    _fade(image[:horizon], wall, 0.8 * wall)
    for _ in range(rng.integers(1, 4)):
        x, y, w, h = np.int32(
            rng.uniform((0, 0, .1, .1),
                        (.9, .2, .3, .5)) * (width, horizon, width, horizon))
        cv2.rectangle(image, (x, y), (x + w, y + h), _sample_color(rng), -1)
        cv2.rectangle(image, (x, y), (x + w, y + h), 0.5 * wall, 2)
    cv2.line(image, (0, horizon), (width, horizon), 0.4 * wall, 2)


def _paint_street(rng, image, horizon):
    """Paint houses behind a pavement and a road."""
    height, width = image.shape[:2]
    _fade(image[:horizon], (230, 190, 140), (240, 225, 210))
    x, step = 0, height // 12
    while x < width:
        w, top = np.int32(rng.uniform((.15, 0), (.35, .6)) * (width, horizon))
        wall = _sample_color(rng)
        cv2.rectangle(image, (x, top), (x + w, horizon), wall, -1)
        for wx in range(x + step // 2, x + w - step // 2, step):
            for wy in range(top + step // 2, horizon - step, step):
                corner = (wx + step // 2, wy + step // 2)
                cv2.rectangle(image, (wx, wy), corner,
                              wall * rng.uniform(0.3, 0.8), -1)
        x += w
    curb = (2 * horizon + height) // 3
    _fade(image[horizon:curb], np.full(3, 150), np.full(3, 170))
    _fade(image[curb:], np.full(3, 80), np.full(3, 110))


def _paint_meadow(rng, image, horizon):
    """Paint grass and trees before hills and the sky."""
    height, width = image.shape[:2]
    _fade(image[:horizon], (235, 170, 100), (245, 225, 200))
    grass = rng.uniform((30, 110, 60), (70, 170, 130))
    for _ in range(rng.integers(1, 4)):
        x, half = np.int32(width * rng.uniform((0, .2), (1, .6)))
        cv2.ellipse(image, (x, horizon), (half, height // 6), 0, 180, 360,
                    grass * rng.uniform(0.6, 0.95), -1, cv2.LINE_AA)
    for _ in range(rng.integers(0, 5)):
        x, size = width * rng.random(), height * rng.uniform(0.05, 0.12)
        top = np.array((x, horizon - 2.2 * size))
        cv2.line(image, (int(x), horizon), tuple(np.int32(top)), (40, 60, 80),
                 max(int(size / 4), 1))
        for _ in range(6):
            centre = tuple(np.int32(top + rng.normal(0, 0.5 * size, 2)))
            leaves = rng.uniform((20, 60, 20), (60, 120, 60))
            cv2.circle(image, centre, int(0.6 * size), leaves, -1, cv2.LINE_AA)
    _fade(image[horizon:], 0.8 * grass, grass)
    image[horizon:] += rng.normal(0, 12, (height - horizon, width, 1))


def _draw_shadow(background, figure):
    """Darken the ground below a figure."""
    shade = np.ones(background.shape[:2], np.float32)
    radius = max(int(0.4 * figure['scale']), 4)
    cv2.ellipse(shade, (int(figure['origin'][0]), int(figure['ground'])),
                (radius, radius // 4), 0, 0, 360, 0.55, -1)
    background *= cv2.blur(shade, (radius // 2, radius // 4))[..., None]


def _develop(rng, image):
    """Turn a float image into what a camera would make of it, uint8."""
    image = image * rng.uniform(0.75, 1.15) * rng.uniform(0.93, 1.07, 3)
    if rng.random() < 0.25:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 0.9))
    image += rng.normal(0, rng.uniform(0, 6), image.shape)
    return np.uint8(np.clip(np.round(image), 0, 255))


def _is_complete(out, split, settings):
    """Whether a split was written with these settings before."""
    path = out / 'annotations' / f'person_keypoints_{split}.json'
    if not path.exists():
        return False
    try:
        content = json.loads(path.read_text())
        found = content['info']['synthetic_coco']
    except (ValueError, KeyError, TypeError):
        raise FileExistsError(
            f'{path} is not by this tool; choose another folder') from None
    return found == settings and all(
        (out / split / image['file_name']).exists()
        for image in content['images'])


def _write_split(out, split, settings, rngs):
    """Draw and write the images of a split, then its annotation file."""
    path = out / 'annotations' / f'person_keypoints_{split}.json'
    path.parent.mkdir(parents=True, exist_ok=True)
    (out / split).mkdir(exist_ok=True)
    if path.exists():
        path.unlink()

    start, images, annotations = time.time(), [], []
    width, height = settings['image_size']
    for image_id, rng in enumerate(rngs, 1):
        image, people = draw_sample(rng, (width, height))
        name = f'{image_id:012d}.jpg'
        (out / split / name).write_bytes(cv2.imencode('.jpg', image)[1])
        images.append(
            dict(
                id=image_id,
                file_name=name,
                width=width,
                height=height,
                license=1))
        for person in people:
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image_id,
                    **_to_coco(person)))
        if image_id % 100 == 0 or image_id == settings['num_images']:
            print(f'{split}: {image_id}/{settings["num_images"]} images, '
                  f'{time.time() - start:.0f} s')
    content = dict(
        info=dict(
            description='Drawn people with COCO keypoints',
            synthetic_coco=settings),
        licenses=[dict(id=1, name='No restrictions: drawn by a program')],
        images=images,
        annotations=annotations,
        categories=[
            dict(
                id=1,
                name='person',
                supercategory='person',
                keypoints=KEYPOINTS,
                skeleton=SKELETON)
        ])
    partial = path.with_name(f'{path.name}.{os.getpid()}.tmp')
    partial.write_text(json.dumps(content))
    os.replace(partial, path)


def _to_coco(person):
    """The COCO annotation of a person from :func:`draw_sample`.

    The box and the area are exactly those of the mask's pixels. The outline is
    within a pixel, and without holes, which COCO's polygons cannot have.
    """
    mask = np.uint8(person['mask'])
    outlines = cv2.findContours(mask, cv2.RETR_EXTERNAL,
                                cv2.CHAIN_APPROX_NONE)[0]
    polygons = [cv2.approxPolyDP(line, 0.7, True) for line in outlines]
    return dict(
        category_id=1,
        iscrowd=0,
        bbox=list(cv2.boundingRect(mask)),
        area=int(mask.sum()),
        segmentation=[
            polygon.ravel().tolist() for polygon in polygons
            if len(polygon) > 2
        ],
        keypoints=[
            int(value) if value == int(value) else value
            for value in person['keypoints'].ravel().tolist()
        ],
        num_keypoints=int(np.count_nonzero(person['keypoints'][:, 2])))


def main():
    parser = argparse.ArgumentParser(
        description='Draw a data set of people in the format of COCO '
        'keypoints. Does nothing if it is already there.')
    parser.add_argument(
        '--out', default='data/synthetic_coco', help='folder to write to')
    parser.add_argument(
        '--num-train', type=int, default=500, help='training images')
    parser.add_argument(
        '--num-val', type=int, default=60, help='validation images')
    parser.add_argument(
        '--image-size',
        type=int,
        nargs=2,
        default=(256, 192),
        metavar=('W', 'H'),
        help='width and height in pixels')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    try:
        drawn = generate_dataset(args.out, args.num_train, args.num_val,
                                 args.image_size, args.seed)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(f'{args.out}: ' +
          (f'wrote {", ".join(drawn)}' if drawn else 'already there'))


if __name__ == '__main__':
    main()
