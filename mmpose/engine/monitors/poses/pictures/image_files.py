# Copyright (c) OpenMMLab. All rights reserved.
import logging
from typing import Callable, Optional

import numpy as np
from mmengine.logging import print_log

from ...core.runner_parts import data_set_parts


class ImageFiles:
    """Load the images of instances that the model was given no input for.

    A detector may have found no box for them. The images are loaded by the
    transform of the data set.

    Args:
        dataset (Dataset): The data set.
        backend_args (dict, optional): Arguments of a transform to use instead,
            see :func:`mmengine.fileio.get`. Defaults to None.
    """

    def __init__(self, dataset, backend_args: Optional[dict] = None) -> None:
        self._dataset = dataset
        self._backend_args = backend_args
        self._named_one = False
        self._transform: Optional[Callable[[dict], dict]] = None

    def _load(self, path: Optional[str]) -> np.ndarray:
        if self._transform is None:
            self._transform = self._find_transform()
        try:
            return np.asarray(self._transform(dict(img_path=path))['img'])
        except Exception:
            # It may load the frames of a video, from a list of paths.
            from mmpose.datasets.transforms import LoadImage
            return LoadImage.transform(self._transform,
                                       dict(img_path=path))['img']

    def _find_transform(self) -> Callable[[dict], dict]:
        from mmpose.datasets.transforms import LoadImage
        if self._backend_args:
            return LoadImage(backend_args=self._backend_args)
        for part in data_set_parts(self._dataset):
            pipeline = getattr(part, 'pipeline', None)
            for transform in getattr(pipeline, 'transforms', ()):
                if isinstance(transform, LoadImage):
                    return transform
        return LoadImage()

    def load(self, path: Optional[str]) -> Optional[np.ndarray]:
        """Load an image.

        Args:
            path (str, optional): Its file.

        Returns:
            np.ndarray | None: RGB, uint8 of shape (H, W, 3). None if the file
            cannot be read; the first such file is named in the log.
        """
        try:
            image = np.atleast_3d(self._load(path))
            if image.dtype != np.uint8:
                low, high = np.percentile(image, (1, 99))
                image = (image - low) / max(high - low, 1e-6) * 255
                image = image.clip(0, 255).astype(np.uint8)
            if image.shape[2] < 3:
                image = image[..., :1].repeat(3, 2)
            return np.ascontiguousarray(image[..., 2::-1])
        except Exception as error:
            if not self._named_one:
                self._named_one = True
                print_log(
                    'EnhancedTensorBoardHook skips the picture of '
                    f'{path!r}: {type(error).__name__}: {error}. Other images '
                    'that cannot be read are skipped without a message.',
                    logger='current',
                    level=logging.WARNING)
            return None
