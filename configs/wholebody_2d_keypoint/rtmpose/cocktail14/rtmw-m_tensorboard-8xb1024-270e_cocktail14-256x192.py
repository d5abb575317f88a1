_base_ = [
    './rtmw-m_8xb1024-270e_cocktail14-256x192.py',
    '../../../_base_/enhanced_tensorboard/balanced.py'
]
default_hooks = dict(enhanced_tensorboard=_base_.enhanced_tensorboard)
