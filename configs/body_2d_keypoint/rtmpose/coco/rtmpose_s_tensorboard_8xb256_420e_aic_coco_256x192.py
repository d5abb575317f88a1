# In pure Python, over a config of MMPose that is. It is in a clone only.
from mmengine.config import read_base

with read_base():
    from .....mmpose.configs.body_2d_keypoint.rtmpose.coco.rtmpose_s_8xb256_420e_aic_coco_256x192 import *  # noqa

from mmpose.engine.hooks import EnhancedTensorBoardHook

default_hooks.update(  # noqa: F405
    enhanced_tensorboard=dict(type=EnhancedTensorBoardHook, preset='balanced'))
