# Copyright (c) OpenMMLab. All rights reserved.
"""Find the experiment trackers that a run has."""
import functools
import sys
from typing import Callable, Dict, Iterable, List, Optional, Union

from . import MIRRORS
from .clients import ClearMLClient, Client, MLflowClient, WandbClient

# Those of :data:`MIRRORS` that need more than the interface of MMEngine.
_CLIENTS: Dict[str, Callable[..., Client]] = dict(
    WandbVisBackend=WandbClient,
    MLflowVisBackend=lambda backend: _mlflow_client(backend.experiment, backend
                                                    ),
    ClearMLVisBackend=lambda backend: ClearMLClient(
        backend.experiment.Logger.current_logger(), backend))


def find_clients(visualizer, mirror: Union[str, Iterable[str],
                                           None]) -> List[Client]:
    """Return the trackers that are to receive what the hook writes.

    They are visualization backends of the config, and ClearML or MLflow where
    they capture what is written to TensorBoard. They capture it in the thread
    of the training, where the hook writes nothing.

    Args:
        visualizer (Visualizer): The visualizer of the run.
        mirror (str | Iterable[str] | None): 'auto', all that are there; some
            of :data:`MIRRORS`; None: none of them.

    Raises:
        ValueError: A tracker that ``mirror`` names is not there.
    """
    wanted = MIRRORS if mirror == 'auto' else tuple(mirror or ())
    found: Dict[str, Callable[[], Optional[Client]]] = {}
    for backend in visualizer._vis_backends.values():
        for cls in type(backend).__mro__:
            name = cls.__name__
            if name in MIRRORS:
                found[name] = functools.partial(
                    _CLIENTS.get(name, Client), backend)
    for name, client in _capturing().items():
        if f'{name}VisBackend' not in found:
            found[name] = client
    missing = sorted(set(wanted) - set(found)) if mirror != 'auto' else []
    if missing:
        raise ValueError(f'mirror names {", ".join(missing)}, but the run has '
                         f'{", ".join(found) or "no tracker"}')
    return [found[name]() for name in found if name in wanted]


def _capturing() -> Dict[str, Callable[[], Client]]:
    """The trackers that capture what goes through TensorBoard's writer."""
    from torch.utils.tensorboard.writer import FileWriter
    found: Dict[str, Callable[[], Client]] = {}
    clearml = sys.modules.get('clearml')
    if hasattr(FileWriter, 'clearml') and clearml.Task.current_task():
        found['ClearML'] = lambda: ClearMLClient(clearml.Task.current_task().
                                                 get_logger())
    mlflow = sys.modules.get('mlflow')
    if mlflow and _is_patched_by('mlflow', FileWriter) and mlflow.active_run():
        found['MLflow'] = lambda: _mlflow_client(mlflow)
    return found


def _is_patched_by(package: str, file_writer: type) -> bool:
    function = file_writer.add_event
    while function is not None:
        if function.__globals__['__name__'].startswith(package):
            return True
        function = getattr(function, '__wrapped__', None)
    return False


def _mlflow_client(mlflow, backend=None) -> MLflowClient:
    run = mlflow.active_run() or mlflow.start_run()
    return MLflowClient(mlflow, run.info.run_id, backend)
