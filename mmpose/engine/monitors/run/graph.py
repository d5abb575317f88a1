# Copyright (c) OpenMMLab. All rights reserved.
import itertools
import logging
import time
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from typing import Callable, Iterator, List, NamedTuple, Optional, Set

import torch
from mmengine.logging import print_log
from torch import nn

from ..core.arguments import flag
from ..core.layer_groups import bare_name
from ..core.monitor import Monitor
from ..core.registry import MONITORS
from .tracing import Untraceable, traceable

# The primitive operations of PyTorch that run other code.
_FUNCTIONS = ('prim::PythonOp', 'prim::CallFunction')


@MONITORS.register_module()
class GraphMonitor(Monitor):
    """Log the graph of the model, once, when training begins.

    TensorBoard's Graphs page shows the modules by their names in the model,
    which expand down to single layers, and the shapes of the tensors between
    them. The graph is that of one sample, from the input to the head's output,
    without preprocessing, decoding and loss.

    If the model cannot be traced, a line in the log says why.

    What it tells: Whether the modules are connected as intended, and where a
    shape changes.

    Args:
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    switches = (flag(
        'log_graph', 'Write the graph of the model, see '
        ':class:`GraphMonitor`.',
        presets=dict(fast=False, balanced=False, detailed=True)), )

    def before_train(self, runner) -> None:
        # A run that is continued has a graph already.
        self._done = self.writer.continues

    def before_train_iter(self, runner, batch_idx: int, data_batch) -> None:
        if self._done:
            return
        self._done = True
        from tensorboard.compat.proto.event_pb2 import Event
        try:
            graph = model_graph(runner, data_batch).SerializeToString()
        except Untraceable as error:
            print_log(
                'EnhancedTensorBoardHook skips the graph of the model: '
                f'{error}.',
                logger='current',
                level=logging.INFO)
        else:
            self.writer.add_event(
                Event(wall_time=time.time(), graph_def=graph))


def model_graph(runner, data_batch):
    """Return the graph of a model for TensorBoard's Graphs page.

    There is a node for each operation that depends on the input. A module
    with a single operation, like most layers, is one node. Parameters,
    constants and the arithmetic of shapes are not shown.

    ``SummaryWriter.add_graph`` has four times as many nodes and ten times as
    many bytes (HRNet-W32: 3771 and 2.0 MB; here 1060 and 0.2 MB), runs the
    model three times, and shows the layers of a head outside of it, since
    MMPose's estimators call ``self.head.forward``.

    Args:
        runner (Runner): The runner of the training process.
        data_batch (dict): A batch as the data loader gives it.

    Returns:
        tensorboard.compat.proto.graph_pb2.GraphDef: The graph.

    Raises:
        Untraceable: The model cannot be traced.
    """
    with traceable(runner, data_batch) as (path, sample):
        with _noting_calls(path.model) as calls:
            # As in ``FlopAnalyzer``. ``torch.jit.trace`` would run the model
            # three times and keep the trace until the process ends.
            trace, _ = torch.jit._get_trace_graph(path, (sample, ))
    return _graph_def(_nodes(trace, calls))


class _Call(NamedTuple):
    """Describe a call of a module.

    Attributes:
        path (str): The module's name in the model, with '/' instead of '.'.
        place (str): Its unique name in the graph.
        module (nn.Module): The module.
        inner (list): The calls that it makes directly.
    """
    path: str
    place: str
    module: nn.Module
    inner: list


class _Operation(NamedTuple):
    """Describe an operation that depends on the input.

    Attributes:
        kind (str): Its name in PyTorch.
        call (_Call, optional): The innermost call that contains it.
        inputs (list[int]): The indices of the operations that it reads.
        shapes (list[list[int]]): The shapes of its outputs where known.
    """
    kind: str
    call: Optional[_Call]
    inputs: List[int]
    shapes: List[List[int]]


class _Node(NamedTuple):
    """Describe a node; ``settings`` are those of its module."""
    name: str
    kind: str
    inputs: List[str]
    shapes: List[List[int]]
    settings: str = ''


@contextmanager
def _noting_calls(model: nn.Module) -> Iterator[List[_Call]]:
    """Make each call of a module a scope in the trace.

    Forward hooks would miss the head: MMPose's estimators call
    ``self.head.forward``.
    """
    calls: List[_Call] = []
    stack: List[_Call] = []
    taken: Set[str] = set()

    def noting(path: str, module: nn.Module, forward: Callable) -> Callable:

        def forward_noted(*args, **kwargs):
            state = torch._C._get_tracing_state()
            if state is None:
                return forward(*args, **kwargs)
            place = path
            if stack and path.startswith(stack[-1].path + '/'):
                place = stack[-1].place + path[len(stack[-1].path):]
            call = _Call(path, _untaken(place, taken), module, [])
            if stack:
                stack[-1].inner.append(call)
            state.push_scope(str(len(calls)))
            calls.append(call)
            stack.append(call)
            try:
                return forward(*args, **kwargs)
            finally:
                stack.pop()
                state.pop_scope()

        return forward_noted

    with ExitStack() as restore:
        for name, module in model.named_modules():
            if not name or isinstance(module, torch.jit.ScriptModule):
                continue
            restore.callback(_set_forward, module, vars(module).get('forward'))
            path = bare_name(name).replace('.', '/')
            _set_forward(module, noting(path, module, module.forward))
        yield calls


def _set_forward(module: nn.Module, forward: Optional[Callable]) -> None:
    """Set the ``forward`` of a module; None: that of its class."""
    if forward is None:
        del module.forward
    else:
        module.forward = forward


def _untaken(name: str, taken: Set[str]) -> str:
    """Make a name unique by a number, and add it to those taken."""
    numbers = itertools.count(1)
    untaken = name
    while untaken in taken:
        untaken = f'{name}_{next(numbers)}'
    taken.add(untaken)
    return untaken


def _nodes(trace, calls: List[_Call]) -> List[_Node]:
    operations = _operations(trace, calls)
    in_call = Counter(id(operation.call) for operation in operations)
    taken = {call.place for call in calls}
    nodes: List[_Node] = []
    for kind, call, inputs, shapes in operations:
        settings = ''
        if call is None:
            name = _untaken(kind, taken)
        elif call.inner or in_call[id(call)] > 1:
            name = _untaken(f'{call.place}/{kind}', taken)
        else:
            name = call.place
            kind, settings = type(call.module).__name__, _settings(call.module)
        nodes.append(
            _Node(name, kind, [nodes[i].name for i in inputs], shapes,
                  settings))
    return nodes


def _operations(trace, calls: List[_Call]) -> List[_Operation]:
    """Return the operations in order, with the input and the output."""
    sample = next(trace.inputs())
    operations = [_Operation('input', None, [], _shapes([sample]))]
    # For each value the operations that it comes from.
    sources = {sample.debugName(): [0]}

    def read_by(values) -> List[int]:
        of_all = (sources.get(value.debugName(), []) for value in values)
        return sorted(set(itertools.chain.from_iterable(of_all)))

    for node in trace.nodes():
        inputs = read_by(node.inputs())
        if inputs and _is_shown(node):
            scope = node.scopeName().split('/')[-1]
            call = calls[int(scope)] if scope.isdigit() else None
            operations.append(
                _Operation(_kind(node), call, inputs, _shapes(node.outputs())))
            inputs = [len(operations) - 1]
        elif node.kind() == 'aten::size':
            inputs = []
        for value in node.outputs():
            sources[value.debugName()] = inputs

    inputs = read_by(trace.outputs())
    shapes = [shape for i in inputs for shape in operations[i].shapes]
    return [*operations, _Operation('output', None, inputs, shapes)]


def _is_shown(node) -> bool:
    """Return whether an operation returns tensors, not just numbers."""
    if node.kind().startswith('prim::') and node.kind() not in _FUNCTIONS:
        return False
    return any(map(_is_array, (value.type() for value in node.outputs())))


def _is_array(kind) -> bool:
    if kind.kind() == 'ListType':
        return _is_array(kind.getElementType())
    return kind.kind() == 'TensorType' and kind.dim() != 0


def _kind(node) -> str:
    if node.kind() == 'prim::PythonOp':
        return node.pyname()
    return node.kind().split('::')[-1].strip('_')


def _shapes(values) -> List[List[int]]:
    return [
        value.type().sizes() for value in values
        if value.type().kind() == 'TensorType' and value.type().sizes()
    ]


def _settings(module: nn.Module) -> str:
    with suppress(Exception):  # It may be the user's code.
        return module.extra_repr()
    return ''


def _graph_def(nodes: List[_Node]):
    """Return the graph as TensorBoard's protobuf."""
    from tensorboard.compat.proto.attr_value_pb2 import AttrValue
    from tensorboard.compat.proto.graph_pb2 import GraphDef
    from tensorboard.compat.proto.node_def_pb2 import NodeDef
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
    from tensorboard.compat.proto.versions_pb2 import VersionDef

    def shape(sizes: List[int]):
        return TensorShapeProto(
            dim=[TensorShapeProto.Dim(size=size) for size in sizes])

    graph = GraphDef(versions=VersionDef(producer=22))
    for node in nodes:
        shapes = AttrValue.ListValue(shape=map(shape, node.shapes))
        attributes = dict(_output_shapes=AttrValue(list=shapes))
        if node.settings:
            attributes['settings'] = AttrValue(s=node.settings.encode())
        graph.node.append(
            NodeDef(
                name=node.name,
                op=node.kind,
                input=node.inputs,
                attr=attributes))
    return graph
