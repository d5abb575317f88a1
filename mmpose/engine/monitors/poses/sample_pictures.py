# Copyright (c) OpenMMLab. All rights reserved.
from typing import Optional, Union

import numpy as np

from .pictures.image_files import ImageFiles
from .pictures.model_inputs import image_prefixes
from .pictures.sample_pictures import SamplePictures as _Pictures
from .pictures.scenes import file_scene
from .pose_samples import PoseSample


class ImageLoader:
    """How images are loaded.

    Args:
        backend_args (dict, optional): See :class:`ImageFiles`. Defaults to
            None.
    """

    def __init__(self, backend_args: Optional[dict] = None) -> None:
        self.backend_args = backend_args


class SamplePictures:
    """Draw samples on their files.

    Args:
        dataset (Dataset): The data set that the samples are of.
        images (ImageLoader | dict, optional): How their images are loaded.
        kpt_thr (float): The score below which a keypoint is drawn hollow.
        whole (bool): Show the whole image where no instance is meant.
        averaged (bool): Whether an EMA model predicts. Defaults to False.
    """

    def __init__(self,
                 dataset,
                 images: Union[ImageLoader, dict, None],
                 kpt_thr: float,
                 whole: bool,
                 averaged: bool = False) -> None:
        self._files = ImageFiles(dataset,
                                 getattr(images, 'backend_args', images))
        self._meta = getattr(dataset, 'metainfo', {})
        self._prefixes = image_prefixes(dataset)
        self._whole = whole
        self._pictures = _Pictures(kpt_thr, averaged=averaged)

    def draw(self,
             sample: PoseSample,
             caption: str,
             person: Optional[int] = None) -> Optional[np.ndarray]:
        """Draw a sample.

        Args:
            sample (PoseSample): The sample.
            caption (str): The measure.
            person (int, optional): Which instance is meant. Defaults to None.

        Returns:
            np.ndarray | None: RGB, uint8 of shape (H, W, 3); None if the image
            cannot be read.
        """
        image = self._files.load(sample.img_path)
        if image is None:
            return None
        scene = file_scene(sample, image, self._prefixes,
                           getattr(sample, 'meta', self._meta), caption,
                           person, self._whole)
        return self._pictures.draw(scene, scene.seen)
