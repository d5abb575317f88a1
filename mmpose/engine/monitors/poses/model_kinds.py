# Copyright (c) OpenMMLab. All rights reserved.
"""The kinds of pose estimators.

``mmpose.models`` is imported inside the functions, since it takes seconds.
"""
from torch import nn


def lifts_poses(model: nn.Module) -> bool:
    """Return whether a model lifts 2D poses to 3D.

    Args:
        model (nn.Module): The model without a wrapper.
    """
    from mmpose.models.pose_estimators import PoseLifter
    return isinstance(model, PoseLifter)


def is_bottom_up(model: nn.Module) -> bool:
    """Return whether a model predicts all instances of an image at once.

    Args:
        model (nn.Module): The model without a wrapper.
    """
    from mmpose.models.pose_estimators import BottomupPoseEstimator
    return isinstance(model, BottomupPoseEstimator)


def is_top_down(model: nn.Module) -> bool:
    """Return whether a model predicts the instance in a box.

    Args:
        model (nn.Module): The model without a wrapper.
    """
    from mmpose.models.pose_estimators import TopdownPoseEstimator
    return isinstance(model, TopdownPoseEstimator)
