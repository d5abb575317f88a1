# Copyright (c) OpenMMLab. All rights reserved.
"""Run a pipeline several times for the same samples, in another process.

MMPose's transforms draw from NumPy's global generator, so that they must not
run beside a training in the same process.
"""
import os
import pickle
import random
import signal
import subprocess
import sys
from contextlib import suppress
from importlib import import_module
from typing import List, NamedTuple, Optional, Sequence

import cv2
import numpy as np

from ..pictures.image_files import ImageFiles
from ..pictures.model_inputs import image_name, image_path
from ..pictures.panels import view
from ..pictures.pose_painter import PosePainter
from ..pictures.pose_targets import read_labels
from .few_samples import FewSamples
from .sheet import draw_panel, sheet

# The longest time that the process may take, in seconds.
_TIMEOUT = 300
_SCRIPT = f'from {__name__} import main; main()'


class Job(NamedTuple):
    """What to draw.

    Attributes:
        samples (FewSamples): The samples.
        count (int): How many of them to draw.
        draws (int): How often each.
        codec (BaseKeypointCodec, optional): The codec of the model.
        prefixes (list[str]): See :func:`image_prefixes`.
        when (str): The step, for the captions.
        imports (list[str]): The modules that the config imports, which may
            register what a pipeline needs. Defaults to ().
    """
    samples: FewSamples
    count: int
    draws: int
    codec: Optional[object]
    prefixes: List[str]
    when: str
    imports: Sequence[str] = ()


class DrawingProcess:
    """Draw a job in a process of its own, with its own random numbers.

    It has no access to a GPU and gives way to the training. The calling
    thread waits for it.

    Args:
        job (bytes): A pickled :class:`Job`.
    """

    def __init__(self, job: bytes) -> None:
        self._job = job
        self._process: Optional[subprocess.Popen] = None
        self._ended = False

    def run(self) -> List[np.ndarray]:
        """Return the pictures, RGB, uint8 of shape (H, W, 3).

        Raises:
            RuntimeError: They could not be drawn.
        """
        env = dict(
            os.environ,
            PYTHONPATH=os.pathsep.join(filter(None, sys.path)),
            CUDA_VISIBLE_DEVICES='',
            OMP_NUM_THREADS='1')
        self._process = subprocess.Popen(
            [sys.executable, '-W', 'ignore', '-c', _SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
            # So that Ctrl-C is for the training alone.
            start_new_session=True)
        if self._ended:
            self.end()
        try:
            pictures, errors = self._process.communicate(self._job, _TIMEOUT)
        except subprocess.TimeoutExpired:
            self.end()
            self._process.communicate()
            raise RuntimeError(
                f'it takes more than {_TIMEOUT} seconds') from None
        if self._ended:
            raise RuntimeError('the training has ended before, or has '
                               'switched its pipeline')
        if self._process.returncode:
            lines = errors.decode('utf-8', 'replace').strip().splitlines()
            raise RuntimeError(lines[-1] if lines else 'its process ended with'
                               f' code {self._process.returncode}')
        return pickle.loads(pictures)

    def end(self) -> None:
        """End the process."""
        self._ended = True
        if self._process is not None:
            self._process.kill()


def main() -> None:
    """Read a job from the standard input and write its pictures."""
    # What a library prints must not be among the pictures.
    output = os.fdopen(os.dup(1), 'wb')
    os.dup2(2, 1)
    if hasattr(os, 'nice'):
        os.nice(19)
    if hasattr(signal, 'alarm'):  # The training may have been killed.
        signal.alarm(_TIMEOUT)
    job = pickle.load(sys.stdin.buffer)
    pickle.dump(draw(job), output)
    output.close()


def draw(job: Job) -> List[np.ndarray]:
    """Draw a job in this process, whose generators it changes.

    Returns:
        list[np.ndarray]: A picture of each sample, RGB, uint8 of shape
        (H, W, 3).

    Raises:
        Exception: That of the last draw if all have failed.
    """
    random.seed(0)
    np.random.seed(0)
    _seed_torch()
    for module in job.imports:
        with suppress(ImportError):  # As a config may allow it.
            import_module(module)
    painter = PosePainter(job.samples.meta, kpt_thr=0)
    pictures, drawn, failed = [], 0, None
    for index in range(min(job.count, len(job.samples))):
        panels = _annotated_panel(job, index)
        for number in range(1, job.draws + 1):
            try:
                packed = job.samples[index]
            except Exception as error:  # One bad draw costs that one.
                failed = error
                continue
            # The pipeline may drop a sample, or pack something else.
            if not packed or 'inputs' not in packed:
                continue
            drawn += 1
            panels.append(
                draw_panel(packed['inputs'].numpy(),
                           read_labels(packed['data_samples']), job.codec,
                           painter, f'draw {number}'))
        info = job.samples.sources[index].info
        name = image_name(image_path(info), job.prefixes)
        if not isinstance(info.get('id'), (list, tuple)):
            name += f'  id {info.get("id")}'
        if panels:
            pictures.append(sheet(panels, job.when, name))
    if failed is not None and not drawn:
        raise failed
    return pictures


def _annotated_panel(job: Job, index: int) -> list:
    """Draw what is annotated on the image file, if that can be read."""
    source, sample = job.samples.sources[index], job.samples.annotated(index)
    if sample is None or not len(sample.keypoints):
        return []
    image = ImageFiles(source).load(sample.path)
    if image is None:
        return []
    low, high = sample.boxes[:, :2].min(0), sample.boxes[:, 2:].max(0)
    margin = .15 * max(high - low)
    part = view(image, [*(low - margin), *(high + margin)])
    picture = PosePainter(
        source.meta, kpt_thr=0).draw(part, sample.keypoints, sample.annotated)
    return [(f'annotated, {sample.annotated.sum()} keypoints', picture)]


def _seed_torch() -> None:
    import torch
    torch.manual_seed(0)
    # The cores are the training's.
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
