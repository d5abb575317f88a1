# Copyright (c) OpenMMLab. All rights reserved.
import random
from contextlib import ExitStack, contextmanager
from typing import Iterator

import numpy as np
import torch
from torch import nn


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Let a model predict in the middle of its training, unnoticed.

    Inside the block every module is in evaluation mode and no gradient is
    recorded. After it every module's ``training`` flag, every buffer and all
    random number generators are as they were before, also after an error.

    Not :func:`torch.inference_mode`: what a module keeps for later, a grid of
    anchors say, could not be used in training any more.

    Args:
        model (nn.Module): The model. ``model.eval()`` is not called, since a
            module may override ``train()``, to freeze a stage say.
    """
    with ExitStack() as restore:
        for module in model.modules():
            restore.callback(setattr, module, 'training', module.training)
        for buffer in model.buffers():
            restore.callback(buffer.copy_, buffer.clone())
        restore.callback(random.setstate, random.getstate())
        restore.callback(np.random.set_state, np.random.get_state())
        devices = {p.device for p in model.parameters() if p.is_cuda}
        # Entered last, left first: restoring a buffer needs no gradient.
        restore.enter_context(
            torch.random.fork_rng([device.index for device in devices]))
        restore.enter_context(torch.no_grad())
        for module in model.modules():
            module.training = False
        yield
