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

# Of PyTorch's own operations those that run somebody's code.
_FUNCTIONS = ('prim::PythonOp', 'prim::CallFunction')


@MONITORS.register_module()
class GraphMonitor(Monitor):
    """The model as a graph, once, when training begins.

    TensorBoard's Graphs page shows the modules by the names that they have in
    the model, to be opened down to the single layers, with the shapes of what
    flows between them. It is what one sample passes on the way from the input
    to the head's output, without preprocessing, decoding and loss.

    A model that cannot be traced costs one line in the log.

    What it tells: Whether the modules are connected as they were meant to be,
    and where a shape changes.

    Args:
        strict (bool): See :class:`Monitor`. Defaults to False.
    """

    switches = (flag(
        'log_graph', 'Write the graph of the model, see '
        ':class:`GraphMonitor`.',
        presets=dict(fast=False, balanced=False, detailed=True)), )

    def before_train(self, runner) -> None:
        # A run that goes on has its graph.
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
                'EnhancedTensorBoardHook leaves out the graph of the model: '
                f'{error}.',
                logger='current',
                level=logging.INFO)
        else:
            self.writer.add_event(
                Event(wall_time=time.time(), graph_def=graph))


def model_graph(runner, data_batch):
    """What a model computes, as TensorBoard's Graphs page shows it.

    There is a node for each operation that the input has a part in. Where a
    module has just one, as most layers have, the node stands for the module.
    Parameters, constants and the arithmetic of shapes are left out: with them,
    as in ``SummaryWriter.add_graph``, there are several times as many nodes.

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
            # As ``FlopAnalyzer`` does; ``torch.jit.trace`` would run the model
            # three times and keep the trace as long as the process lives.
            trace, _ = torch.jit._get_trace_graph(path, (sample, ))
    return _graph_def(_nodes(trace, calls))


class _Call(NamedTuple):
    """A call of a module.

    Attributes:
        path (str): The module's name in the model, with '/' for '.'.
        place (str): Its place in the graph; no two calls have the same.
        module (nn.Module): The module.
        inner (list): The calls that it has made itself.
    """
    path: str
    place: str
    module: nn.Module
    inner: list


class _Operation(NamedTuple):
    """Something that the input has a part in.

    Attributes:
        kind (str): What it is, as PyTorch names it.
        call (_Call, optional): The innermost call that it happens in.
        inputs (list[int]): The operations that it reads.
        shapes (list[list[int]]): The shapes of its outputs, as far as known.
    """
    kind: str
    call: Optional[_Call]
    inputs: List[int]
    shapes: List[List[int]]


class _Node(NamedTuple):
    """A node of the graph; ``settings``: how its module is set up."""
    name: str
    kind: str
    inputs: List[str]
    shapes: List[List[int]]
    settings: str = ''


@contextmanager
def _noting_calls(model: nn.Module) -> Iterator[List[_Call]]:
    """Make each call of a module a scope in the trace.

    Not by hooks: MMPose's estimators call ``self.head.forward``.
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
    """Give a module a ``forward`` of its own; None: the one of its class."""
    if forward is None:
        del module.forward
    else:
        module.forward = forward


def _untaken(name: str, taken: Set[str]) -> str:
    """The name, with a number if it is taken; then it is taken."""
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
    """The operations in their order, between the input and the output."""
    sample = next(trace.inputs())
    operations = [_Operation('input', None, [], _shapes([sample]))]
    # The operations that a value comes from.
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
    """Whether it makes tensors and not just numbers or lists of them."""
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
    with suppress(Exception):  # Anybody's, and just for show.
        return module.extra_repr()
    return ''


def _graph_def(nodes: List[_Node]):
    """TensorBoard's protobuf of the graph."""
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
