# A config takes this file into its bases and adds one line, which keeps the
# hooks that are there already:
#   default_hooks = dict(enhanced_tensorboard=_base_.enhanced_tensorboard)
# The hook has its full name for configs in pure Python, which have no default
# scope.
enhanced_tensorboard = dict(
    type='mmpose.engine.hooks.enhanced_tensorboard_hook.'
    'EnhancedTensorBoardHook',
    preset='detailed')
