# Copyright (c) OpenMMLab. All rights reserved.
"""The input of a model as it comes out of the data preprocessor."""
from typing import List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from torch import Tensor, nn

from mmpose.structures import PoseDataSample
from ...core.runner_parts import data_set_parts
from ...core.side_effects import eval_without_side_effects

# ImageNet's, in the order red, green, blue. The config's own would undo a
# wrong setting, which would then look right.
_MEAN = (123.675, 116.28, 103.53)
_STD = (58.395, 57.12, 57.375)
# If 95 % of the values of a picture are below this, nothing is visible in it.
_DARK = 48


class ModelInput(NamedTuple):
    """An input as the data loader gives it, and its place in the image.

    Attributes:
        tensor (Tensor): In the data loader's dtype, shape (C, H, W), or
            (T, C, H, W) for T frames of a video.
        meta (dict): The ``metainfo`` of its sample, without annotations.
        name (str): The image's path and the id of the annotation.
        origin (np.ndarray): The image's point at the top left of the input,
            (x, y).
        scale (np.ndarray): Pixels of the input for one of the image, along x
            and y.
    """
    tensor: Tensor
    meta: dict
    name: str
    origin: np.ndarray
    scale: np.ndarray

    def project(self, points: np.ndarray) -> np.ndarray:
        """Convert the image's pixels to those of the input.

        Args:
            points (np.ndarray): Shape (..., 2).

        Returns:
            np.ndarray: Shape (..., 2).
        """
        return (np.asarray(points, float) - self.origin) * self.scale

    def copy(self) -> 'ModelInput':
        """Copy the tensor."""
        return self._replace(tensor=copy_input(self.tensor))


def read_input(inputs: Union[Tensor, Sequence], index: int,
               sample: PoseDataSample, prefixes: Sequence[str]) -> ModelInput:
    """Copy an input of a batch to the CPU.

    Args:
        inputs (Tensor | Sequence): ``data_batch['inputs']``.
        index (int): The index of the input.
        sample (PoseDataSample): Its sample. If it does not say which part of
            the image the input is, the input is the whole image.
        prefixes (Sequence[str]): See :func:`image_prefixes`.

    Returns:
        ModelInput: The input.
    """
    tensor = inputs[index]
    if isinstance(tensor, (list, tuple)):  # At several scales.
        tensor = tensor[0]
    origin, scale = np.zeros(2), np.ones(2)
    if 'input_center' in sample and 'input_scale' in sample:
        extent = np.asarray(sample.input_scale, float).reshape(2)
        origin = np.asarray(sample.input_center, float).reshape(2) - extent / 2
        scale = np.asarray(sample.input_size, float) / extent
    meta = {
        name: value
        for name, value in sample.metainfo.items() if name != 'raw_ann_info'
    }
    return ModelInput(
        copy_input(tensor), meta, sample_name(sample, prefixes), origin, scale)


def copy_input(tensor: Tensor) -> Tensor:
    """Copy an input of any dtype and range to the CPU.

    Raises:
        ValueError: It is not an image.
    """
    if tensor.ndim not in (3, 4) or tensor.is_complex():
        raise ValueError(
            'An image has shape (C, H, W), frames (T, C, H, W), but an input '
            f'of the model is a {tensor.dtype} tensor of shape '
            f'{tuple(tensor.shape)}.')
    return tensor.detach().cpu().clone()


def preprocess(model: nn.Module, sample: ModelInput) -> Tensor:
    """Apply the data preprocessor to an input.

    Args:
        model (nn.Module): The model without a wrapper.
        sample (ModelInput): The input.

    Returns:
        Tensor: What the model sees, in the shape of the input.
    """
    data = dict(
        inputs=[copy_input(sample.tensor)],
        data_samples=[PoseDataSample(metainfo=dict(sample.meta))])
    with eval_without_side_effects(model.data_preprocessor):
        return model.data_preprocessor(data, False)['inputs'][0]


class VisibleInput(NamedTuple):
    """A model's input as a picture.

    Attributes:
        fixed (Tensor | np.ndarray): The input with ImageNet's normalization
            undone, its first three channels as red, green and blue: uint8 of
            shape (3, H, W).
        stretched (Tensor | np.ndarray): The same with the contrast stretched
            to the range of the input's values.
        outside (Tensor | np.ndarray): The fraction of values outside of the
            range of a normalized image, shape ().
    """
    fixed: Tensor
    stretched: Tensor
    outside: Tensor

    def pictures(self) -> List[Tuple[str, np.ndarray]]:
        """Return the pictures to show; the last one is to be drawn on.

        Returns:
            list[tuple[str, np.ndarray]]: Title and picture, RGB, uint8 of
            shape (H, W, 3). It is the input without a title; or, if nothing is
            visible in it, the input with a title that says why, and the
            stretched one.
        """
        fixed, stretched = (
            np.ascontiguousarray(np.moveaxis(p, 0, -1))
            for p in (self.fixed, self.stretched))
        if self.outside > 0.5:
            return [(f'input, {float(self.outside):.0%} out of range', fixed),
                    ('stretched', stretched)]
        if np.quantile(fixed, 0.95) < _DARK:
            return [('input, very dark', fixed), ('stretched', stretched)]
        return [('', fixed)]


@torch.no_grad()
def make_visible(inputs: Tensor) -> VisibleInput:
    """Make an input visible, on its device.

    Args:
        inputs (Tensor): The output of the data preprocessor, shape (C, H, W).
            Of one or two channels the mean is shown, of more than three the
            first three. Of frames, shape (T, C, H, W), the first is shown,
            which is the annotated one.

    Returns:
        VisibleInput: Its tensors are on the device; no copy is waited for.
    """
    image = inputs[0] if inputs.ndim == 4 else inputs
    values = torch.nan_to_num(image.detach().float())
    channels = 3 if len(values) >= 3 else 1
    values = values[:3] if channels == 3 else values.mean(0, keepdim=True)
    mean, std = (
        values.new_tensor(constants).view(3, 1, 1)
        for constants in (_MEAN, _STD))
    if channels == 1:
        mean, std = mean.mean(), std.mean()
    pixels = values * std + mean
    outside = ((pixels < -4) | (pixels > 259)).float().mean()
    # A part of the pixels is enough for the contrast.
    some = pixels[:, ::4, ::4].flatten()
    low, high = torch.quantile(some, some.new_tensor([0.01, 0.99]))
    stretched = (pixels - low) / (high - low).clamp(min=1e-6) * 255
    return VisibleInput(
        *(p.round().clamp(0, 255).byte().expand(3, -1, -1)
          for p in (pixels, stretched)), outside)


def image_prefixes(dataset) -> List[str]:
    """Return the folders with the images of a data set.

    Args:
        dataset (Dataset): The data set, also one that combines several.
    """
    prefixes = []
    for part in data_set_parts(dataset):
        prefix = getattr(part, 'data_prefix', None)
        if isinstance(prefix, dict):
            prefixes += [p for p in prefix.values() if isinstance(p, str)]
        elif isinstance(prefix, str):
            prefixes.append(prefix)
    # The innermost first.
    return sorted(filter(None, prefixes), key=len, reverse=True)


def sample_name(sample: PoseDataSample, prefixes: Sequence[str] = ()) -> str:
    """Return a name by which a sample is found: its image and annotation id.

    Args:
        sample (PoseDataSample): The sample.
        prefixes (Sequence[str]): See :func:`image_prefixes`.
    """
    path = image_name(image_path(sample), prefixes)
    return '  '.join(filter(None, [path, _annotation(sample)]))


def image_path(sample: Union[PoseDataSample, dict]) -> Optional[str]:
    """Return the file of a sample's image, None where it has none.

    Args:
        sample (PoseDataSample | dict): The sample, or what its data set holds
            of it. In a video, its first frame is the annotated one.
    """
    path = sample.get('img_path')
    if isinstance(path, (list, tuple)):
        path = path[0] if path else None
    return path


def image_name(path: Optional[str], prefixes: Sequence[str] = ()) -> str:
    """Return a name by which an image is found.

    Args:
        path (str, optional): Its file.
        prefixes (Sequence[str]): See :func:`image_prefixes`.

    Returns:
        str: The path relative to its prefix, or the last three parts of a path
        without one.
    """
    path = str(path or '').replace('\\', '/')
    for prefix in prefixes:
        prefix = prefix.replace('\\', '/').rstrip('/') + '/'
        if path.startswith(prefix):
            return path[len(prefix):]
    return '/'.join(path.split('/')[-3:])


def _annotation(sample: PoseDataSample) -> Optional[str]:
    info = sample.get('raw_ann_info')
    if isinstance(info, dict) and 'id' in info:
        return f'id {info["id"]}'
    index = sample.get('id')
    # Several instances have a list.
    if isinstance(info, (list, tuple)) or index is None or np.ndim(index):
        return None
    return f'sample {index}'
