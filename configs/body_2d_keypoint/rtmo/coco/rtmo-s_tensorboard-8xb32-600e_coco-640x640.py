_base_ = [
    './rtmo-s_8xb32-600e_coco-640x640.py',
    '../../../_base_/enhanced_tensorboard/balanced.py'
]
default_hooks = dict(enhanced_tensorboard=_base_.enhanced_tensorboard)
