_base_ = [
    './image-pose-lift_tcn_8xb64-200e_h36m.py',
    '../../../_base_/enhanced_tensorboard/balanced.py'
]
default_hooks = dict(enhanced_tensorboard=_base_.enhanced_tensorboard)
