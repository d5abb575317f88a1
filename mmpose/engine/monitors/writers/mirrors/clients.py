# Copyright (c) OpenMMLab. All rights reserved.
"""How each experiment tracker takes scalars, images, histograms and alerts."""
import re
import time
from typing import Dict

import numpy as np

from ..record import Alert, Histogram, Image, Scalar

# W&B counts its own steps: the x axis of what is mirrored is this one.
_WANDB_STEP = 'tensorboard_step'
_WANDB_LEVELS = dict(error='ERROR', warning='WARN', note='INFO')
_MAX_WANDB_BINS = 512
_MAX_MLFLOW_METRICS = 1000


class Client:
    """Send values to a tracker through a visualization backend of MMEngine.

    Subclasses send histograms and alerts as well, or what the backend cannot
    send from another thread than the training's.

    Args:
        backend (BaseVisBackend): The backend.

    Attributes:
        name (str): The name for the log.
        backend (BaseVisBackend, optional): The backend, where there is one.
        kinds (tuple[type]): The values that it takes; each has a method.
    """
    kinds = (Scalar, Image)

    def __init__(self, backend) -> None:
        self.name = type(backend).__name__
        self.backend = backend

    def scalars(self, values: Dict[str, float], step: int) -> None:
        """Send numbers by their tags."""
        self.backend.add_scalars(dict(values), step=step)

    def image(self, image: Image, step: int) -> None:
        """Send pictures."""
        for i, picture in enumerate(image.pictures):
            self.backend.add_image(f'{image.tag}/{i}', picture, step=step)


class WandbClient(Client):
    """Send to W&B, with an x axis of its own and alerts.

    W&B has one step for all curves and ignores what is logged to an earlier
    one, so that training and validation cannot share it.
    """
    kinds = (Scalar, Image, Histogram, Alert)

    def __init__(self, backend) -> None:
        super().__init__(backend)
        self.name = 'W&B'
        self._wandb = backend.experiment
        self._run = self._wandb.run
        self._defined = set()

    def scalars(self, values: Dict[str, float], step: int) -> None:
        self._log(values, step)

    def image(self, image: Image, step: int) -> None:
        # One by one: W&B takes those of one name to have the same size.
        self._log(
            {
                f'{image.tag}/{i}': self._wandb.Image(picture)
                for i, picture in enumerate(image.pictures)
            }, step)

    def histogram(self, histogram: Histogram, step: int) -> None:
        counts, edges = histogram.counts, histogram.edges
        every = -(-len(counts) // _MAX_WANDB_BINS)
        starts = np.arange(0, len(counts), every)
        bins = (np.add.reduceat(counts,
                                starts), np.append(edges[starts], edges[-1]))
        self._log({histogram.tag: self._wandb.Histogram(np_histogram=bins)},
                  step)

    def alert(self, alert: Alert) -> None:
        if alert.begins:
            self._run.alert(alert.what, f'{alert.evidence} {alert.advice}',
                            _WANDB_LEVELS[alert.severity])

    def _log(self, values: dict, step: int) -> None:
        for tag in values:
            group = tag.partition('/')[0]
            if group not in self._defined:
                self._defined.add(group)
                self._run.define_metric(
                    f'{group}/*' if group != tag else tag,
                    step_metric=_WANDB_STEP)
        self._run.log({**values, _WANDB_STEP: step})


class MLflowClient(Client):
    """Send to a run of MLflow, whose active run is that of one thread.

    Args:
        mlflow (module): The package.
        run_id (str): The run.
        backend (MLflowVisBackend, optional): The backend that ends the run.
            Defaults to None.
    """
    name = 'MLflow'

    def __init__(self, mlflow, run_id: str, backend=None) -> None:
        self.backend = backend
        self._mlflow = mlflow
        self._client = mlflow.tracking.MlflowClient()
        self._run_id = run_id

    def scalars(self, values: Dict[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        metrics = [
            self._mlflow.entities.Metric(_mlflow_key(tag), value, now, step)
            for tag, value in values.items()
        ]
        for i in range(0, len(metrics), _MAX_MLFLOW_METRICS):
            self._client.log_batch(self._run_id,
                                   metrics[i:i + _MAX_MLFLOW_METRICS])

    def image(self, image: Image, step: int) -> None:
        for i, picture in enumerate(image.pictures):
            self._client.log_image(
                self._run_id, picture,
                f'{_mlflow_key(image.tag)}/{i}/step_{step}.png')


class ClearMLClient(Client):
    """Send to a task of ClearML.

    Args:
        logger (clearml.Logger): The logger of the task.
        backend (ClearMLVisBackend, optional): The backend that closes the
            task. Defaults to None.
    """
    name = 'ClearML'

    def __init__(self, logger, backend=None) -> None:
        self.backend = backend
        self._logger = logger

    def scalars(self, values: Dict[str, float], step: int) -> None:
        for tag, value in values.items():
            title, _, series = tag.rpartition('/')
            self._logger.report_scalar(title or series, series, value, step)

    def image(self, image: Image, step: int) -> None:
        for i, picture in enumerate(image.pictures):
            self._logger.report_image(
                image.tag, f'{i}', iteration=step, image=picture)


class NeptuneClient(Client):
    """Send to a run of Neptune, each picture as a series of its own.

    MMEngine's backend has one series for all pictures, of which Neptune keeps
    one a step.
    """

    def scalars(self, values: Dict[str, float], step: int) -> None:
        for tag, value in values.items():
            self.backend.experiment[flat_key(tag)].append(value, step=step)

    def image(self, image: Image, step: int) -> None:
        from neptune.types import File
        for i, picture in enumerate(image.pictures):
            picture = File.as_image(picture.astype(np.float32) / 255)
            self.backend.experiment[flat_key(f'{image.tag}/{i}')].append(
                picture, step=step)


class DVCLiveClient(Client):
    """Write the files of DVCLive.

    ``Live`` has one step, which MMEngine sets in the thread of the training,
    and would overwrite the pictures of earlier steps.
    """

    def scalars(self, values: Dict[str, float], step: int) -> None:
        from dvclive.plots import Metric
        for tag, value in values.items():
            metric = Metric(tag, self.backend.experiment.plots_dir)
            metric.step = step
            metric.dump(value)

    def image(self, image: Image, step: int) -> None:
        from dvclive.plots import Image as LiveImage
        for i, picture in enumerate(image.pictures):
            # A folder of pictures by step has a slider in DVC's viewers.
            LiveImage(f'{image.tag}/{i}/{step}.png',
                      self.backend.experiment.plots_dir).dump(picture)


def _mlflow_key(tag: str) -> str:
    """Return a tag that MLflow accepts.

    It refuses characters such as @, and its file store keeps a metric in a
    file.
    """
    return flat_key(re.sub(r'[^\w\-. /]', '_', tag))


def flat_key(tag: str) -> str:
    """Return a tag with one slash at most.

    So no tag is a folder of others: there is no a/b/c where there is a/b, nor
    time/left_hours where there is MMEngine's time.
    """
    group, slash, name = tag.partition('/')
    if group == 'time' and slash:
        group = 'times'
    return group + slash + name.replace('/', '.')
