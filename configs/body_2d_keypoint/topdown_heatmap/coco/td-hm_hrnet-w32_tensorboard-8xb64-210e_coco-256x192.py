_base_ = [
    './td-hm_hrnet-w32_8xb64-210e_coco-256x192.py',
    '../../../_base_/enhanced_tensorboard/balanced.py'
]
default_hooks = dict(enhanced_tensorboard=_base_.enhanced_tensorboard)
