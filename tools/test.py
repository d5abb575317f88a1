# Copyright (c) OpenMMLab. All rights reserved.
"""MMPose's own test script, with what the hook shows of a validation.

    python tools/test.py CONFIG CHECKPOINT --enhanced-tensorboard [PRESET] \
        [--compare RUN]

runs the ``test.py`` of the MMPose that is installed, with all its options.
The test data is shown as the validation data is in a training: pictures, hard
samples, accuracy by keypoint, kinds of error. The step is the epoch or the
iteration of the checkpoint. CHECKPOINT may be a folder: all its
``epoch_*.pth`` or ``iter_*.pth`` are tested, in their order.

RUN is the directory of another training or test on the same data: the pages
``compare/...`` show what differs, by keypoint and by instance.
"""
import argparse
import functools
import os
import re
import runpy
import sys
from pathlib import Path
from typing import List, Optional, Tuple

from train import (add_hook_to_every_runner, change_every_config,
                   complete_environment, find_script, import_monitors,
                   is_the_hook, restore_command, split_args, train_on_cpu)


def main() -> None:
    preset, mmpose_args = split_args(sys.argv[1:])
    compared, mmpose_args = split_compare(mmpose_args)
    script = find_script('test.py', __file__)
    change_every_config(functools.partial(restore_command, sys.argv[:]))
    change_every_config(complete_environment)
    change_every_config(train_on_cpu)
    if preset is not None or compared:
        add_hook_to_every_runner(preset or '')
        compare_with(compared)
        test_as_validation()
    sys.argv[1:] = mmpose_args
    runpy.run_path(script, run_name='__main__')


def split_compare(args: List[str]) -> Tuple[Optional[str], List[str]]:
    """Take ``--compare RUN`` out of the command line.

    Args:
        args (list[str]): The command line without the script.

    Returns:
        tuple[str | None, list[str]]: RUN, and the other options.
    """
    parser = argparse.ArgumentParser(
        add_help=False, allow_abbrev=False, usage=argparse.SUPPRESS)
    parser.add_argument(
        '--compare',
        metavar='RUN',
        help='the directory of another training or test on the same data, or '
        'its instances.npz, to compare with')
    own, rest = parser.parse_known_args(args)
    if {'-h', '--help'} & set(rest):
        print(parser.format_help())
    return own.compare, rest


def compare_with(run: Optional[str]) -> None:
    """Let the hook of every config compare with a run.

    Args:
        run (str, optional): The run; None changes nothing.
    """
    if run is None:
        return
    compared_run = import_monitors('core.other_runs.compared_run')
    try:
        # The test may write into the same work directory.
        path = compared_run.find_saved_instances(run)
    except ValueError as error:
        sys.exit(f'--compare {error}.')

    def compare(cfg) -> None:
        hooks = [
            *(cfg.get('custom_hooks') or []),
            *(cfg.get('default_hooks') or {}).values()
        ]
        for hook in filter(is_the_hook, hooks):
            hook['compare'] = path

    change_every_config(compare)


def test_as_validation() -> None:
    """Let every Runner test all checkpoints of a folder, with the hook."""
    from mmengine.runner import Runner

    checkpoint_step = import_monitors('core.runner_parts').CHECKPOINT_STEP
    test = Runner.test

    @functools.wraps(test)
    def test_checkpoints(runner):
        paths = list_checkpoints(runner._load_from)
        # Where the monitors look for the data set and the evaluator.
        runner._test_loop = runner._val_loop = runner.build_test_loop(
            runner._test_loop)
        for hook in filter(is_the_hook, runner.hooks):
            hook.after_test_iter = hook.after_val_iter
            hook.after_test_epoch = hook.after_val_epoch
        runner.register_hook(step_hook(checkpoint_step))
        for path in paths:
            runner._load_from, runner._has_loaded = path, False
            metrics = test(runner)
        failed = [
            diagnosis.failed for hook in filter(is_the_hook, runner.hooks)
            for monitor in hook.monitors
            for diagnosis in getattr(monitor, 'diagnoses', ())
            if getattr(diagnosis, 'failed', None)
        ]
        if failed:
            sys.exit(f'--compare: {failed[0]}.')
        return metrics

    Runner.test = test_checkpoints


def step_hook(name: str):
    """Make a hook that notes the step of the checkpoint that is loaded.

    It also writes which curves share a chart, and the overview of the data.

    Args:
        name (str): The name of the step in the message hub.

    Returns:
        mmengine.hooks.Hook: The hook.
    """
    from mmengine.hooks import Hook

    class CheckpointStepHook(Hook):

        def __init__(self) -> None:
            self._began = False

        def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
            meta = checkpoint.get('meta') or {}
            loop = (runner.cfg or {}).get('train_cfg') or {}
            by_epoch = loop.get('by_epoch', 'Iter'
                                not in f'{loop.get("type")}')
            unit = 'epoch' if by_epoch else 'iter'
            runner.message_hub.update_info(name, int(meta.get(unit) or 0))
            if not self._began:
                self._began = True
                for hook in filter(is_the_hook, runner.hooks):
                    write_layout(hook, runner)
                    write_overview(hook, runner)

    return CheckpointStepHook()


def write_layout(hook, runner) -> None:
    """Write the charts of what a test shows.

    Args:
        hook (EnhancedTensorBoardHook): The hook.
        runner (Runner): The runner.
    """
    monitors = import_monitors()
    handles = import_monitors('core.optimizer_probe').handles
    # The others have nothing to measure without a training.
    shown = [
        monitor for monitor in hook.monitors
        if handles(monitor, 'after_val_epoch')
        and not handles(monitor, 'before_train')
    ]
    layout = monitors.scalar_layout(shown, runner, trains=False)
    if layout.categories:
        shown[0].emit(monitors.Record(0, lambda: [layout]))


def write_overview(hook, runner) -> None:
    """Write what is annotated in the test data.

    Args:
        hook (EnhancedTensorBoardHook): The hook.
        runner (Runner): The runner.
    """
    overview = import_monitors().DataOverviewMonitor
    for monitor in hook.monitors:
        if isinstance(monitor, overview):
            monitor.notify('before_train', runner)


def list_checkpoints(checkpoint: str) -> List[str]:
    """Return a checkpoint, or those of a folder.

    Args:
        checkpoint (str): A file, a folder or an address.

    Returns:
        list[str]: By their numbers, those of iterations after those of epochs.
    """
    if not os.path.isdir(checkpoint):
        return [checkpoint]
    found = sorted(
        (match.group(1), int(match.group(2)), str(path))
        for path in Path(checkpoint).iterdir()
        for match in [re.fullmatch(r'(epoch|iter)_(\d+)\.pth', path.name)]
        if match)
    if not found:
        sys.exit(f'There is no epoch_*.pth or iter_*.pth in {checkpoint}.')
    return [path for _, _, path in found]


if __name__ == '__main__':
    main()
