# Copyright (c) OpenMMLab. All rights reserved.
import traceback
import warnings
from contextlib import contextmanager
from typing import Iterator, List, Tuple

from torch import Tensor, nn

from ..core.runner_parts import bare_model, needs_all_ranks
from ..core.undisturbed import undisturbed


class Untraceable(Exception):
    """A model cannot be run by itself on one sample; the text says why."""


@contextmanager
def traceable(runner, data_batch) -> Iterator[Tuple[nn.Module, Tensor]]:
    """Let somebody run a model on one sample and follow what it computes.

    Inside the block the model is :func:`undisturbed`. Warnings are dropped:
    PyTorch's tracer has one for each place where a trace could depend on its
    input.

    Args:
        runner (Runner): The runner of the training process.
        data_batch (dict): A batch as the data loader gives it.

    Yields:
        tuple[nn.Module, Tensor]: The model as :class:`TensorPath`, and an
        input for it: the batch's first sample, preprocessed, a batch of one.

    Raises:
        Untraceable: Whatever is raised inside the block.
    """
    if needs_all_ranks(runner.model):
        raise Untraceable('it runs on all processes together only')
    model = bare_model(runner.model)
    hooks = _forward_hooks(model)
    try:
        with undisturbed(model), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield TensorPath(model), _one_input(model, data_batch)
    except Exception as error:
        raise Untraceable(_reason(error)) from error
    finally:
        # MMEngine's analysis leaves its own where the model raises.
        for hooks_of_module, before in hooks:
            for key in set(hooks_of_module) - before:
                del hooks_of_module[key]


class TensorPath(nn.Module):
    """A pose model from its input to the tensors that its head puts out.

    Args:
        model (nn.Module): The model; its attribute ``model``.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Tuple[Tensor]:
        outputs = self.model(inputs, None, mode='tensor')
        return tuple(_tensors(outputs))


def _tensors(value) -> Iterator[Tensor]:
    """All tensors in nested lists, tuples and dicts."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)


def _one_input(model: nn.Module, data_batch) -> Tensor:
    """The first sample as the model gets it, shape (1, ...)."""
    inputs = data_batch['inputs']
    # What the preprocessor does to it, it does to a copy.
    first = inputs[:1].clone() if isinstance(inputs,
                                             Tensor) else [inputs[0].clone()]
    data = dict(inputs=first, data_samples=[])
    inputs = model.data_preprocessor(data, False)['inputs']
    return inputs if isinstance(inputs, Tensor) else inputs[0][None]


def _reason(error: Exception) -> str:
    """What happened and where, in one line: some say no more than that."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    text = str(error).strip()
    return (type(error).__name__ +
            (f': {text.splitlines()[0]}' if text else '') +
            f' (at {place.filename}:{place.lineno})')


def _forward_hooks(model: nn.Module) -> List[tuple]:
    return [(hooks, set(hooks)) for module in model.modules()
            for hooks in (module._forward_pre_hooks, module._forward_hooks)]
