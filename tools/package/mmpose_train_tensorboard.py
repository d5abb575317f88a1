# Copyright (c) OpenMMLab. All rights reserved.
r"""The command ``mmpose-train``: MMPose's train script, with the hook.

    mmpose-train CONFIG --enhanced-tensorboard [PRESET]
    torchrun --nproc_per_node=8 -m mmpose_train_tensorboard CONFIG \
        --launcher pytorch --enhanced-tensorboard

It is ``tools/train.py`` of the checkout. The package is not imported before
the command line is read: that imports MMPose.
"""
import os
import runpy
from importlib.util import find_spec


def main():
    """Run the command."""
    package = os.path.dirname(find_spec('mmpose_enhanced_tensorboard').origin)
    runpy.run_path(os.path.join(package, 'train.py'), run_name='__main__')


if __name__ == '__main__':
    main()
