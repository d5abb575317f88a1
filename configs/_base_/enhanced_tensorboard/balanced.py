# A config takes this file into its bases and adds one line, which keeps the
# hooks that are there already:
#   default_hooks = dict(enhanced_tensorboard=_base_.enhanced_tensorboard)
enhanced_tensorboard = dict(type='EnhancedTensorBoardHook', preset='balanced')
