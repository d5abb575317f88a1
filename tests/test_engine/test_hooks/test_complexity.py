# Copyright (c) OpenMMLab. All rights reserved.
from types import SimpleNamespace

import pytest
import torch
from mmengine.analysis import get_model_complexity_info
from test_enhanced_tensorboard_hook import messages, scalars

from mmpose.engine.monitors.core.layer_groups import (layer_groups,
                                                      named_parameters)
from mmpose.engine.monitors.run import complexity
from mmpose.engine.monitors.run.complexity import (Flops, count_flops,
                                                   flops_by_group)
from mmpose.engine.monitors.run.tracing import traceable

# What takes long and is not looked at here is left out.
HOOK = dict(
    log_train_images=False,
    log_val_images=False,
    log_keypoints=False,
    hard_samples=0)
ONE_EPOCH = dict(train_cfg=dict(by_epoch=True, max_epochs=1, val_interval=1))


def table_of(events):
    """The rows of the table by their first cells, and what stands below."""
    text = events.Tensors('model/complexity/text_summary')
    assert [t.step for t in text] == [0]
    text = text[0].tensor_proto.string_val[0].decode()
    table, _, rest = text.partition('\n\n')
    rows = [line.strip('| ').split(' | ') for line in table.splitlines()]
    assert {len(row) for row in rows} == {5}
    return {row[0].strip(): row[1:] for row in rows[2:]}, rest


def numbers(column):
    return [float(cell.replace(',', '').rstrip('%')) for cell in column]


@pytest.mark.parametrize('max_layers', [20, -1, 0])
def test_the_flops_of_the_model(train, read_events, max_layers):
    runner = train(dict(HOOK, max_layers_to_log=max_layers), **ONE_EPOCH)
    logged = ''.join(messages(runner, 'WARNING'))
    assert 'nsupported' not in logged and 'never called' not in logged
    events = read_events(runner)
    total = get_model_complexity_info(TensorPathOf(runner.model),
                                      (3, 64, 64))['flops']
    assert scalars(events, 'model/flops') == {0: total}

    rows, below = table_of(events)
    *groups, last = rows
    assert last == '**total**'
    named = dict(named_parameters(runner.model))
    assert [g for g in groups
            if g != 'other'] == list(layer_groups(named, max_layers))
    sums = numbers(rows[last])
    assert sums == [
        sum(p.numel() for p in named.values()), 100,
        pytest.approx(total / 1e6, abs=0.01), 100
    ]
    if groups:
        columns = zip(*(numbers(rows[group]) for group in groups))
        for column, whole in zip(columns, sums):
            # Rounded in each row.
            assert sum(column) == pytest.approx(whole, abs=0.06 * len(groups))
    if max_layers == 20:
        # 32 x 32 places, 8 filters of 7 x 7 on 3 channels.
        flops = 32 * 32 * 8 * 7 * 7 * 3
        assert rows['backbone/conv1'] == [
            '1,176', f'{1176 / sums[0]:.1%}', f'{flops / 1e6:.2f}',
            f'{flops / total:.1%}'
        ]
    assert 'shape (3, 64, 64)' in below
    # Residual additions.
    assert 'Not counted: aten::add_ (8), ' in below


class TensorPathOf(torch.nn.Module):
    """What MMEngine is asked for here, without the code under test."""

    def __init__(self, model):
        super().__init__()
        self.model = model.eval()

    def forward(self, inputs):
        return self.model(inputs, None, mode='tensor')


def test_a_group_does_not_count_what_is_in_another_group():
    flops = Flops(
        {
            '': 100.,
            'backbone': 90.,
            'backbone/layer1': 50.,
            'backbone/layer1/0': 30.,
            'head': 7.,
        }, {}, (3, 8, 8))
    groups = {
        'model': ['token'],
        'backbone': ['backbone.position'],
        'backbone/layer1': ['backbone.layer1.1.weight'],
        'backbone/layer1/0': ['backbone.layer1.0.weight'],
        'head': ['head.weight'],
    }
    assert flops_by_group(flops, groups) == {
        'model': 100 - 90 - 7,
        'backbone': 90 - 50,
        'backbone/layer1': 50 - 30,
        'backbone/layer1/0': 30,
        'head': 7,
    }
    parameters = ['head.weight', 'head.bias', 'backbone.layer1.0.weight']
    assert flops_by_group(flops,
                          {p.replace('.', '/'): [p]
                           for p in parameters}) == {
                               'head/weight': 7,
                               'head/bias': 0,
                               'backbone/layer1/0/weight': 30
                           }


def test_names_without_what_wrappers_put_into_them():
    """Or the groups would find no FLOPs."""
    model, wrapped = torch.nn.Module(), torch.nn.Module()
    model.backbone = torch.nn.Module()
    model.backbone._checkpoint_wrapped_module = wrapped
    wrapped.conv = torch.nn.Conv2d(3, 2, 1)
    model.data_preprocessor = lambda data, training: data
    model.forward = lambda x, data_samples, mode: wrapped.conv(x)
    runner = SimpleNamespace(model=model)
    batch = dict(inputs=[torch.zeros(3, 4, 4)])
    with traceable(runner, batch) as (path, sample):
        flops = count_flops(path, sample)
    assert flops.by_module['backbone/conv'] == 3 * 2 * 16
    assert flops.shape == (3, 4, 4)


def test_what_is_in_no_group():
    flops = Flops({'': 10e6, 'head': 7e6}, {}, (3, 8, 8))
    flops, text = complexity._values(flops, {'head.weight': 5},
                                     {'head': ['head.weight']})
    assert flops == ('model/flops', 10e6)
    assert '| head | 5 | 100.0% | 7.00 | 70.0% |\n' \
        '| other | 0 | 0.0% | 3.00 | 30.0% |\n' in text.text
    assert 'Not counted' not in text.text
