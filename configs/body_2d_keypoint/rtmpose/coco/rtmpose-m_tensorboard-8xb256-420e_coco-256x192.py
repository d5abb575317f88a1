_base_ = [
    './rtmpose-m_8xb256-420e_coco-256x192.py',
    '../../../_base_/enhanced_tensorboard/balanced.py'
]
default_hooks = dict(enhanced_tensorboard=_base_.enhanced_tensorboard)
