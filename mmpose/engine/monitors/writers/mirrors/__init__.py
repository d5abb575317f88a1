# Copyright (c) OpenMMLab. All rights reserved.
# What a config may name: backends of MMEngine, and trackers that capture
# TensorBoard. Never LocalVisBackend, which would write a file for each image.
MIRRORS = ('WandbVisBackend', 'MLflowVisBackend', 'ClearMLVisBackend',
           'NeptuneVisBackend', 'AimVisBackend', 'DVCLiveVisBackend',
           'ClearML', 'MLflow')
