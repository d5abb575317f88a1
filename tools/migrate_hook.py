# Copyright (c) OpenMMLab. All rights reserved.
"""Bring the hook into the MMPose that you have; ``--help`` says how."""
import sys

from hook_migration.command import main

if __name__ == '__main__':
    sys.exit(main())
