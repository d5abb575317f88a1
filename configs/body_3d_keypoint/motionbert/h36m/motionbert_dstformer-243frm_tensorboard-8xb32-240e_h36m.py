_base_ = [
    './motionbert_dstformer-243frm_8xb32-240e_h36m.py',
    '../../../_base_/enhanced_tensorboard/balanced.py'
]
default_hooks = dict(enhanced_tensorboard=_base_.enhanced_tensorboard)
