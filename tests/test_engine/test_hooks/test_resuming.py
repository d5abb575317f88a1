# Copyright (c) OpenMMLab. All rights reserved.
"""Which curves a resumed run goes on with."""
import glob
import os
import time

import pytest
import torch
from mmengine.runner import Runner
from mmengine.runner._flexible_runner import FlexibleRunner
from tensorboard import context
from tensorboard.backend.event_processing.event_accumulator import \
    EventAccumulator
from tensorboard.util import grpc_util
from test_enhanced_tensorboard_hook import hook_of, messages

from mmpose.engine.hooks import EnhancedTensorBoardHook


@pytest.fixture
def interrupt_and_resume(runner_cfg):
    """A function that trains from the last checkpoint in a work directory.

    Ends in the iteration ``at`` with Ctrl-C, if given. There is a checkpoint
    after every second epoch of four iterations. ``by_hand``: it is loaded
    before ``train()`` is called.
    """

    def make(work_dir,
             resume=False,
             at=None,
             kind=Runner,
             by_hand=False,
             max_epochs=5,
             hook=None,
             **kwargs):
        time.sleep(1)  # A Runner's directory is named by the second.
        interrupt = [] if at is None else [dict(type='Interrupt', at=at)]
        runner = kind(**runner_cfg(
            dict(
                grad_norm_interval=1,
                log_val_images=False,
                hard_samples=0,
                **(hook or {})),
            work_dir=str(work_dir),
            resume=resume,
            train_cfg=dict(
                by_epoch=True, max_epochs=max_epochs, val_interval=1),
            default_hooks=dict(
                logger=dict(type='LoggerHook', interval=1),
                checkpoint=dict(type='CheckpointHook', interval=2)),
            custom_hooks=interrupt,
            **kwargs))
        if by_hand:
            runner.load_or_resume()
        if at is None:
            runner.train()
        else:
            with pytest.raises(KeyboardInterrupt):
                runner.train()
            hook_of(runner)._writer.close()
        return runner

    return make


def runs_in(work_dir):
    """The directories of event files, as TensorBoard's runs."""
    return {
        os.path.dirname(path)
        for path in glob.glob(f'{work_dir}/**/*tfevents*', recursive=True)
    }


def test_a_test_in_between_does_not_take_the_curves(interrupt_and_resume,
                                                    runner_cfg, tmp_path):
    """Nor another training; a second time it is still the first run's."""
    dead = interrupt_and_resume(tmp_path, at=14)  # In the fourth epoch.
    time.sleep(1)
    Runner(**runner_cfg(dict(), work_dir=str(tmp_path))).test()
    other = interrupt_and_resume(tmp_path, at=2)
    again = interrupt_and_resume(tmp_path, True, at=18)
    resumed = interrupt_and_resume(tmp_path, True)
    log_dir = f'{dead.log_dir}/vis_data'
    runs = runs_in(tmp_path)
    assert len(runs) == 3 and {log_dir, f'{other.log_dir}/vis_data'} < runs
    for runner in (again, resumed):
        assert f'curves in {log_dir}' in ''.join(messages(runner, 'INFO'))
    events = EventAccumulator(log_dir).Reload()
    for tag in ('train/gradient_norm/global', 'loss'):
        assert [e.step for e in events.Scalars(tag)] == list(range(1, 21))


@pytest.mark.parametrize('how', [
    dict(kind=FlexibleRunner),
    dict(by_hand=True),
])
def test_a_checkpoint_that_is_loaded_before_the_run(interrupt_and_resume,
                                                    tmp_path, how):
    """Defect: its run was forgotten when the new one began."""
    dead = interrupt_and_resume(tmp_path, at=10, **{**how, 'by_hand': False})
    interrupt_and_resume(tmp_path, True, at=18, **how)
    interrupt_and_resume(tmp_path, True, **how)
    log_dir = f'{dead.log_dir}/vis_data'
    assert runs_in(tmp_path) == {log_dir}
    events = EventAccumulator(log_dir).Reload()
    for tag in ('train/gradient_norm/global', 'loss'):
        assert [e.step for e in events.Scalars(tag)] == list(range(1, 21))


def test_a_second_run_of_a_runner_resumes_nothing(interrupt_and_resume,
                                                  runner_cfg, tmp_path):
    interrupt_and_resume(tmp_path, at=10)
    time.sleep(1)
    runner = Runner(**runner_cfg(dict(), work_dir=str(tmp_path), resume=True))
    runner.test()
    runner.train()
    assert runner.iter == 12
    assert 'goes on with' not in ''.join(messages(runner, 'INFO'))


@pytest.mark.parametrize('meta, hub, names', [
    (None, None, []),
    ('epoch 3', 'hub', []),
    (['epoch'], dict(runtime_info=['iter']), []),
    (dict(experiment_name=3), dict(runtime_info=dict(iter=3)), []),
    (dict(experiment_name='a'), dict(), ['a']),
    ('epoch 3', dict(runtime_info=dict(experiment_name='b')), ['b']),
    (dict(experiment_name='a'), dict(runtime_info=dict(experiment_name='b')),
     ['a', 'b']),
])
def test_the_runs_named_in_a_checkpoint(meta, hub, names):
    """Which may be anybody's."""
    hook = EnhancedTensorBoardHook(strict=True)
    hook.after_load_checkpoint(None, dict(meta=meta, message_hub=hub))
    assert hook._resumed_run._names == names
    hook.after_load_checkpoint(None, dict())
    assert hook._resumed_run._names == []


@pytest.mark.parametrize('meta', ['epoch 3', ['epoch', 3]])
def test_a_checkpoint_with_another_meta_can_be_loaded(runner_cfg, tmp_path,
                                                      meta):
    """P2."""
    runner = Runner(**runner_cfg(
        dict(strict=False), load_from=str(tmp_path / 'checkpoint.pth')))
    torch.save(
        dict(meta=meta, state_dict=runner.model.state_dict()),
        tmp_path / 'checkpoint.pth')
    runner.train()
    assert runner.iter == 12


def test_what_fails_with_a_checkpoint_does_not_stop_the_training():
    """P2."""
    hook = EnhancedTensorBoardHook()
    hook.after_load_checkpoint(None, ['no checkpoint'])
    assert hook._guard.failures == 1


def test_a_checkpoint_of_another_work_directory(interrupt_and_resume,
                                                tmp_path):
    """Its curves stay there; those of here go on here, however often."""
    first = interrupt_and_resume(tmp_path / 'a', at=10)
    moved = interrupt_and_resume(
        tmp_path / 'b', True, at=18, load_from=f'{first.work_dir}/epoch_2.pth')
    interrupt_and_resume(tmp_path / 'b', True)
    interrupt_and_resume(tmp_path / 'b', True, max_epochs=6)
    assert runs_in(tmp_path) == {
        f'{runner.log_dir}/vis_data'
        for runner in (first, moved)
    }


def test_a_validation_beyond_the_checkpoint_is_shown_once(
        interrupt_and_resume, tmp_path):
    """In TensorBoard itself: by the new run."""
    server_ingester = pytest.importorskip('tensorboard.data.server_ingester')
    try:
        binary = server_ingester.get_server_binary()
    except server_ingester.NoDataServerError:
        pytest.skip('TensorBoard has no data server here')
    interrupt_and_resume(tmp_path, at=14)  # Validated at 3, saved at 2.
    interrupt_and_resume(tmp_path, True)
    server = server_ingester.SubprocessServerDataIngester(
        binary,
        str(tmp_path),
        reload_interval=0,
        channel_creds_type=grpc_util.ChannelCredsType.LOCAL)
    server.start()
    until = time.monotonic() + 30
    steps = []
    while 5 not in steps and time.monotonic() < until:  # It is reading.
        time.sleep(0.1)
        runs = server.data_provider.read_scalars(
            context.RequestContext(),
            experiment_id='',
            plugin_name='scalars',
            downsample=1000)
        tags = next(iter(runs.values()), {})
        steps = [datum.step for datum in tags.get('val/PCK', ())]
    assert len(runs) == 1 and steps == [1, 2, 3, 4, 5]
    assert [d.step for d in tags['loss']] == list(range(1, 21))
    for tag in ('val/PCK', 'loss'):
        times = [d.wall_time for d in tags[tag]]
        assert times == sorted(times)


@pytest.mark.parametrize('policy, continues', [('auto', False), (True, True),
                                               (False, False)])
def test_a_finished_run_keeps_its_later_curve(interrupt_and_resume, tmp_path,
                                              policy, continues):
    """Somebody trains on from an earlier checkpoint, to compare."""
    finished = interrupt_and_resume(tmp_path, max_epochs=4)
    earlier = interrupt_and_resume(
        tmp_path,
        True,
        max_epochs=3,
        load_from=f'{tmp_path}/epoch_2.pth',
        hook=dict(continue_run=policy))
    steps = [
        list(steps_of(runner)) for runner in (finished, earlier)
        if runs_of(runner)
    ]
    if continues:
        assert steps == [list(range(1, 13))]
    else:
        assert steps == [list(range(1, 17)), list(range(9, 13))]
        said = any('gets new curves' in m for m in messages(earlier, 'INFO'))
        assert said == (policy == 'auto')


def test_a_finished_run_is_trained_on(interrupt_and_resume, tmp_path):
    """Nothing is hidden by it, so its curves go on; a second time as well."""
    first = interrupt_and_resume(tmp_path, max_epochs=2)
    interrupt_and_resume(tmp_path, True, max_epochs=4)
    interrupt_and_resume(tmp_path, True, max_epochs=6)
    assert list(steps_of(first)) == list(range(1, 25))


def runs_of(runner):
    return glob.glob(f'{runner.log_dir}/vis_data/*tfevents*')


def steps_of(runner):
    events = EventAccumulator(
        f'{runner.log_dir}/vis_data', size_guidance=dict(scalars=0)).Reload()
    return [e.step for e in events.Scalars('train/gradient_norm/global')]
