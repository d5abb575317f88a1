# Copyright (c) OpenMMLab. All rights reserved.
import pytest


@pytest.fixture
def runner_cfg(runner_cfg):
    """The same, without the figures on why keypoints are wrong.

    Drawing them is half of what a training of three epochs takes. A test of
    them, or of a preset, says so.
    """

    def make(hook=None, **kwargs) -> dict:
        if hook is not None and 'preset' not in hook:
            hook = {'log_error_kinds': False, **hook}
        return runner_cfg(hook, **kwargs)

    return make
