# A config takes this file into its bases and adds one line, which keeps the
# hooks that are there already:
#   default_hooks = dict(enhanced_tensorboard=_base_.enhanced_tensorboard)
# The hook's full name is found even where mmpose.engine.hooks does not export
# it, as with the package that pip installs.
enhanced_tensorboard = dict(
    type='mmpose.engine.hooks.enhanced_tensorboard_hook.'
    'EnhancedTensorBoardHook',
    preset='fast')
