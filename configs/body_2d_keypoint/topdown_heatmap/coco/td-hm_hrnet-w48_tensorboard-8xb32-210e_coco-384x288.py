_base_ = [
    './td-hm_hrnet-w48_8xb32-210e_coco-384x288.py',
    '../../../_base_/enhanced_tensorboard/balanced.py'
]
default_hooks = dict(enhanced_tensorboard=_base_.enhanced_tensorboard)
