# Copyright (c) OpenMMLab. All rights reserved.
import socket
from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop

from mmpose.engine.monitors import (Every, FailureGuard, NonfiniteStop,
                                    NonfiniteTrainingError)
from mmpose.engine.monitors.core.measurements import (GradientNorms, Losses,
                                                      Nonfinite, Updates)


class Writer:
    """Shows a listener what it is told to."""

    def listen(self, measured, listener, guard):
        assert measured is None and isinstance(guard, FailureGuard)
        self.show = listener
        self.flushed = 0

    def flush(self):
        self.flushed += 1


def fake_runner(iters=0, loop=EpochBasedTrainLoop, name='test_stop'):
    hub = MessageHub(name)
    return SimpleNamespace(
        iter=iters, message_hub=hub, _train_loop=loop.__new__(loop))


def begin(runner, writer, interval=10):
    stop = NonfiniteStop(Every(interval))
    stop.writer = writer
    stop.before_train(runner)
    return stop


HEAD = Nonfinite('head.bias', 1.)


def losses(**steps):
    return Losses(nonfinite=steps)


@pytest.mark.parametrize('measurement, words', [
    (losses(loss=37,
            loss_kpt=37), 'the loss loss_kpt was NaN or infinite at step 37.'),
    (losses(loss_z=37,
            loss_a=38), 'the loss loss_z was NaN or infinite at step 37.'),
    (GradientNorms(1., Nonfinite('backbone.conv1.weight', 0.5)),
     'the gradient of backbone.conv1.weight was NaN or infinite at step 40.'),
    (Updates(nonfinite_before=HEAD, nonfinite_after=HEAD),
     'the weight head.bias was NaN or infinite at step 40.'),
])
def test_it_ends_when_something_was_seen(measurement, words):
    runner, writer = fake_runner(), Writer()
    stop = begin(runner, writer)
    writer.show(30, Losses(1.))
    writer.show(30, GradientNorms(float('inf')))
    stop.before_train_iter(runner, 0, None)
    writer.show(40, measurement)
    # Only the earliest counts.
    writer.show(50, losses(other=48))
    runner.iter = 41
    assert not writer.flushed
    with pytest.raises(NonfiniteTrainingError) as info:
        stop.before_train_iter(runner, 0, None)
    assert str(info.value).startswith(words)
    assert 'stopped after step 41' in str(info.value)
    assert writer.flushed == 1


def test_what_is_nearest_the_cause_is_named():
    """Also if it is written after what it has caused."""
    runner, writer = fake_runner(iters=41), Writer()
    stop = begin(runner, writer)
    writer.show(40, GradientNorms(1., HEAD))

    def flush():
        writer.show(40, losses(loss_kpt=40))

    writer.flush = flush
    with pytest.raises(
            NonfiniteTrainingError, match='the loss loss_kpt .* step 40'):
        stop.before_train_iter(runner, 0, None)


def test_another_training_begins_anew():
    runner, writer = fake_runner(), Writer()
    stop = begin(runner, writer)
    writer.show(40, losses(loss=37))
    stop.writer = writer
    stop.before_train(runner)
    stop.before_train_iter(runner, 0, None)


@pytest.mark.parametrize('loop, saved_at, later', [
    (EpochBasedTrainLoop, 36, False),
    (EpochBasedTrainLoop, 37, True),
    (IterBasedTrainLoop, 35, False),
    (IterBasedTrainLoop, 36, True),
])
def test_a_checkpoint_of_later_is_not_recommended(loop, saved_at, later):
    """By iterations it is saved before the iteration is counted."""
    runner, writer = fake_runner(loop=loop), Writer()
    stop = begin(runner, writer)
    runner.iter = saved_at
    stop.before_save_checkpoint(runner, {})
    runner.message_hub.update_info('last_ckpt', '/there/it_is.pth')
    writer.show(40, losses(loss=37))
    runner.iter = 40
    with pytest.raises(NonfiniteTrainingError, match='/there/it_is.pth') as e:
        stop.before_train_iter(runner, 0, None)
    assert ('take an older one' in str(e.value)) == later


def work(rank, port, directory):
    """A rank of a distributed training that only asks whether to go on."""
    torch.distributed.init_process_group(
        'gloo', init_method=f'tcp://127.0.0.1:{port}', rank=rank, world_size=2)
    runner = fake_runner(name=f'rank_{rank}')
    # What is written and seen is rank 0's.
    writer = Writer() if rank == 0 else None
    stop = begin(runner, writer)
    try:
        for runner.iter in range(60):
            if rank == 0 and runner.iter == 42:
                writer.show(40, losses(loss=37))
            stop.before_train_iter(runner, 0, None)
    except NonfiniteTrainingError as error:
        (directory / str(rank)).write_text(f'{runner.iter} {error}')


def test_all_ranks_end_at_the_same_iteration(tmp_path):
    """One that ends alone would leave the others waiting for it."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    fork = torch.multiprocessing.get_context('fork')
    ranks = [
        fork.Process(target=work, args=(rank, port, tmp_path))
        for rank in range(2)
    ]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(60)
        rank.kill()
    # The next iteration that is logged is 50.
    for rank in ('0', '1'):
        step, message = (tmp_path / rank).read_text().split(' ', 1)
        assert step == '49'
        assert 'the loss loss was NaN or infinite at step 37' in message
