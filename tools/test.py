# Copyright (c) OpenMMLab. All rights reserved.
"""MMPose's own test script, with what the hook shows of a validation.

    python tools/test.py CONFIG CHECKPOINT --enhanced-tensorboard [PRESET]

runs the ``test.py`` of the MMPose that is installed, with all its options.
The test data is shown as the validation data is in a training: pictures, hard
samples, accuracy by keypoint, kinds of error. The step is the epoch or the
iteration of the checkpoint. CHECKPOINT may be a folder: all its
``epoch_*.pth`` or ``iter_*.pth`` are tested, in their order.
"""
import functools
import os
import re
import runpy
import sys
from pathlib import Path
from typing import List

from train import (add_hook_to_every_runner, change_every_config, find_script,
                   is_the_hook, split_args, train_on_cpu)


def main() -> None:
    preset, mmpose_args = split_args(sys.argv[1:])
    script = find_script('test.py', __file__)
    change_every_config(train_on_cpu)
    if preset is not None:
        add_hook_to_every_runner(preset)
        test_as_validation()
    sys.argv[1:] = mmpose_args
    runpy.run_path(script, run_name='__main__')


def test_as_validation() -> None:
    """Let every Runner test all checkpoints of a folder, with the hook."""
    from mmengine.runner import Runner

    from mmpose.engine.monitors.core.runner_parts import CHECKPOINT_STEP

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
        runner.register_hook(step_hook(CHECKPOINT_STEP))
        for path in paths:
            runner._load_from, runner._has_loaded = path, False
            metrics = test(runner)
        return metrics

    Runner.test = test_checkpoints


def step_hook(name: str):
    """Make a hook that notes the step of the checkpoint that is loaded.

    Args:
        name (str): The name of the step in the message hub.

    Returns:
        mmengine.hooks.Hook: The hook.
    """
    from mmengine.hooks import Hook

    class CheckpointStepHook(Hook):

        def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
            meta = checkpoint.get('meta') or {}
            loop = (runner.cfg or {}).get('train_cfg') or {}
            by_epoch = loop.get('by_epoch', 'Iter'
                                not in f'{loop.get("type")}')
            unit = 'epoch' if by_epoch else 'iter'
            runner.message_hub.update_info(name, int(meta.get(unit) or 0))

    return CheckpointStepHook()


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
