# Copyright (c) OpenMMLab. All rights reserved.
"""The command ``mmpose-migrate-hook``.

It works on an MMPose from outside, also on one that cannot be imported. So it
must not import ``mmpose_enhanced_tensorboard``, whose import imports MMPose.
"""
import os
import sys
from importlib.util import find_spec


def main():
    """Run the command.

    Returns:
        int: The exit code.
    """
    package = os.path.dirname(find_spec('mmpose_enhanced_tensorboard').origin)
    # At the end: nothing of Python's own is to be found there instead.
    sys.path.append(package)
    from hook_migration import command
    return command.main()


if __name__ == '__main__':
    sys.exit(main())
