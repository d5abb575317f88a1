# Copyright (c) OpenMMLab. All rights reserved.
"""Find the experiment trackers that a run has."""
import functools
import sys
from typing import Callable, Dict, Iterable, List, Union

from . import MIRRORS
from .clients import (ClearMLClient, Client, DVCLiveClient, MLflowClient,
                      NeptuneClient, WandbClient)


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
    found: Dict[str, Callable[[], Client]] = {}
    for backend in visualizer._vis_backends.values():
        for name in (cls.__name__ for cls in type(backend).__mro__):
            if name in MIRRORS:
                found[name] = functools.partial(_client_of, name, backend)
    for name, client in _capturing().items():
        if f'{name}VisBackend' not in found:
            found[name] = client
    wanted = list(found) if mirror == 'auto' else list(mirror or ())
    missing = sorted(set(wanted) - set(found))
    if missing:
        raise ValueError(f'mirror names {", ".join(missing)}, but the run has '
                         f'{", ".join(found) or "no tracker"}')
    return [client() for name, client in found.items() if name in wanted]


def _client_of(name: str, backend) -> Client:
    """Return the client of a backend, by the name of its class."""
    of_one_backend = dict(
        WandbVisBackend=WandbClient,
        NeptuneVisBackend=NeptuneClient,
        DVCLiveVisBackend=DVCLiveClient)
    if name in of_one_backend:
        return of_one_backend[name](backend)
    if name == 'MLflowVisBackend':
        return _mlflow_client(backend.experiment, backend)
    if name == 'ClearMLVisBackend':
        logger = backend.experiment.Logger.current_logger()
        return ClearMLClient(logger, backend)
    return Client(backend)


def _capturing() -> Dict[str, Callable[[], Client]]:
    """The trackers that capture what goes through TensorBoard's writer."""
    from torch.utils.tensorboard.writer import FileWriter
    found: Dict[str, Callable[[], Client]] = {}
    clearml = sys.modules.get('clearml')
    if hasattr(FileWriter, 'clearml') and clearml.Task.current_task():
        logger = clearml.Task.current_task().get_logger()
        found['ClearML'] = functools.partial(ClearMLClient, logger)
    mlflow = sys.modules.get('mlflow')
    if mlflow and _is_patched_by('mlflow', FileWriter) and mlflow.active_run():
        found['MLflow'] = functools.partial(_mlflow_client, mlflow)
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
