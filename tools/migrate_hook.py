# Copyright (c) OpenMMLab. All rights reserved.
"""Bring the hook into the MMPose that you have; ``--help`` says how."""
import sys

# Before anything is imported that an older Python cannot read.
if sys.version_info < (3, 8):
    sys.exit(
        'The hook needs Python 3.8 or newer, and this is Python %d.%d: %s' %
        (sys.version_info[0], sys.version_info[1], sys.executable))

from hook_migration.command import main  # noqa: E402

if __name__ == '__main__':
    sys.exit(main())
