_base_ = [
    './rtmpose-m_8xb64-60e_wflw-256x256.py',
    '../../../_base_/enhanced_tensorboard/balanced.py'
]
default_hooks = dict(enhanced_tensorboard=_base_.enhanced_tensorboard)
