# MMPose's runtime with the hook: a config that takes this file into its bases,
# in the place of default_runtime.py, needs nothing else.
_base_ = ['./default_runtime.py']

default_hooks = dict(
    # The full name is for configs in pure Python, which have no default scope.
    enhanced_tensorboard=dict(
        type='mmpose.engine.hooks.enhanced_tensorboard_hook.'
        'EnhancedTensorBoardHook',
        preset='balanced'))

vis_backends = [
    dict(type='LocalVisBackend'),
    dict(type='TensorboardVisBackend')
]
visualizer = dict(vis_backends=vis_backends)
