# Copyright (c) OpenMMLab. All rights reserved.
from typing import List, NamedTuple, Optional, Sequence

import numpy as np
import torch
from torch import Tensor, nn


class InputPixels(NamedTuple):
    """An input of the model, kept with a byte for each value.

    Attributes:
        pixels (Tensor): uint8 of shape (C, H, W), on the CPU.
        is_rgb (bool): Whether three channels are red, green and blue; they
            are blue, green and red otherwise.
        scale (Tensor, optional): With ``shift``, shape (C, 1, 1) each: the
            input was ``pixels / scale - shift``. None if it was ``pixels``.
        shift (Tensor, optional): See ``scale``.
    """
    pixels: Tensor
    is_rgb: bool
    scale: Optional[Tensor] = None
    shift: Optional[Tensor] = None

    def as_input(self) -> Tensor:
        """The input again, shape (C, H, W); a float one to half a 255th.

        A copy: a data preprocessor may work in place.
        """
        if self.scale is None:
            return self.pixels.clone()
        return self.pixels / self.scale - self.shift

    def picture(self) -> np.ndarray:
        """The input to look at: RGB, uint8 of shape (H, W, 3).

        Where there are neither one nor three channels, the first three or the
        mean of two.
        """
        channels = self.pixels.numpy()
        if len(channels) == 2:
            channels = channels.mean(0, keepdims=True).astype(np.uint8)
        if len(channels) == 1:
            channels = channels.repeat(3, axis=0)
        channels = channels[:3] if self.is_rgb else channels[2::-1]
        return np.ascontiguousarray(channels.transpose(1, 2, 0))


def input_pixels(inputs: Sequence[Tensor],
                 preprocessor: nn.Module,
                 is_rgb: bool = False) -> List[InputPixels]:
    """Copy inputs of a model, as they are before its data preprocessor.

    uint8 is kept as it is. Of floats the range tells what they are: beyond 10
    pixels from 0 to 255; from 0 to 1 pixels divided by 255; otherwise
    normalised ones, which the preprocessor's mean and standard deviation
    bring back, or, if it has none, their own smallest and largest value.

    Args:
        inputs (Sequence[Tensor]): Images of shape (C, H, W), or a batch of
            them.
        preprocessor (nn.Module): The model's data preprocessor.
        is_rgb (bool): Whether it is given RGB. Defaults to False: BGR, as
            MMPose loads images.

    Returns:
        list[InputPixels]: Copies that share no memory with ``inputs``.

    Raises:
        ValueError: An input is no image.
    """
    for image in inputs:
        if image.ndim != 3 or image.is_complex():
            raise ValueError(
                'An image has shape (C, H, W), but an input of the model is a '
                f'{image.dtype} tensor of shape {tuple(image.shape)}.')
    if all(image.dtype == torch.uint8 for image in inputs):
        return [
            InputPixels(_on_host(image).clone(), is_rgb) for image in inputs
        ]
    low = min(float(image.min()) for image in inputs)
    high = max(float(image.max()) for image in inputs)
    one = torch.ones(1, 1, 1)
    if high > 10:
        scale, shift = one, 0 * one
    elif low >= 0 and high <= 1:
        scale, shift = 255 * one, 0 * one
    elif getattr(preprocessor, '_enable_normalize', False):
        std, mean = _on_host(preprocessor.std), _on_host(preprocessor.mean)
        scale, shift = std.float(), mean.float() / std.float()
        # Normalised ones are as the model is to get them.
        is_rgb = is_rgb != preprocessor._channel_conversion
    else:
        scale = one * 255 / max(high - low, 1e-6)
        shift = one * -low
    return [
        InputPixels(((_on_host(image).float() + shift) *
                     scale).round_().clamp_(0, 255).byte(), is_rgb, scale,
                    shift) for image in inputs
    ]


def _on_host(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu()
