# Copyright (c) OpenMMLab. All rights reserved.
"""Bring the hook into an MMPose, and take it out again.

Runs on Python alone; only reading and editing users' configs needs more.
"""
# The one place of the version; CHANGELOG.md says how a release is made.
__version__ = '2.0.0'
