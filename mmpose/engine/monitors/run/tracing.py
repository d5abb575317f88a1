# Copyright (c) OpenMMLab. All rights reserved.
import traceback
import warnings
from contextlib import contextmanager
from typing import Iterator, List, Tuple

from torch import Tensor, nn

from ..core.runner_parts import bare_model, needs_all_ranks
from ..core.side_effects import eval_without_side_effects


class Untraceable(Exception):
    """Say why a model cannot be run on one sample by itself."""


@contextmanager
def traceable(runner, data_batch) -> Iterator[Tuple[nn.Module, Tensor]]:
    """Prepare a model and a sample for tracing.

    Inside the block the model is in evaluation mode, and after it as before.
    Warnings are ignored: PyTorch's tracer emits one wherever a trace may
    depend on its input.

    Args:
        runner (Runner): The runner of the training process.
        data_batch (dict): A batch as the data loader gives it.

    Yields:
        tuple[nn.Module, Tensor]: The model as :class:`TensorPath`, and its
        input: a batch of the first sample, preprocessed.

    Raises:
        Untraceable: Any exception is raised inside the block.
    """
    if needs_all_ranks(runner.model):
        raise Untraceable('it takes all processes to run it')
    model = bare_model(runner.model)
    hooks = _forward_hooks(model)
    try:
        with eval_without_side_effects(model), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield TensorPath(model), _one_input(model, data_batch)
    except Exception as error:
        raise Untraceable(_reason(error)) from error
    finally:
        # MMEngine's analysis leaves its hooks behind if the model raises.
        for hooks_of_module, before in hooks:
            for key in set(hooks_of_module) - before:
                del hooks_of_module[key]


class TensorPath(nn.Module):
    """Run a pose model from its input to the output tensors of its head.

    Args:
        model (nn.Module): The model.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Tuple[Tensor]:
        outputs = self.model(inputs, None, mode='tensor')
        return tuple(_tensors(outputs))


def _tensors(value) -> Iterator[Tensor]:
    """Iterate over the tensors in nested lists, tuples and dicts."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)


def _one_input(model: nn.Module, data_batch) -> Tensor:
    """Return the first sample, preprocessed, of shape (1, ...)."""
    inputs = data_batch['inputs']
    # The preprocessor may change its input in place.
    first = inputs[:1].clone() if isinstance(inputs,
                                             Tensor) else [inputs[0].clone()]
    data = dict(inputs=first, data_samples=[])
    inputs = model.data_preprocessor(data, False)['inputs']
    return inputs if isinstance(inputs, Tensor) else inputs[0][None]


def _reason(error: Exception) -> str:
    """Describe an error and its place in one line."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    text = str(error).strip()
    return (type(error).__name__ +
            (f': {text.splitlines()[0]}' if text else '') +
            f' (at {place.filename}:{place.lineno})')


def _forward_hooks(model: nn.Module) -> List[tuple]:
    return [(hooks, set(hooks)) for module in model.modules()
            for hooks in (module._forward_pre_hooks, module._forward_hooks)]
