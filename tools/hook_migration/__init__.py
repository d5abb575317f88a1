# Copyright (c) OpenMMLab. All rights reserved.
"""Bring the hook into an MMPose, and take it out again.

Runs on Python alone; only reading and editing users' configs needs more.
"""
__version__ = '1.0.0'
