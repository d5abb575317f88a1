_base_ = [
    './td-hm_hrnet-w32_8xb64-210e_ap10k-256x256.py',
    '../../../_base_/enhanced_tensorboard/balanced.py'
]
default_hooks = dict(enhanced_tensorboard=_base_.enhanced_tensorboard)
