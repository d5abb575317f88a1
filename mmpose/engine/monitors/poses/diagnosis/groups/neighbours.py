# Copyright (c) OpenMMLab. All rights reserved.
from typing import Optional, Tuple

import numpy as np


def image_pairs(images: np.ndarray,
                chosen: Optional[np.ndarray] = None
                ) -> Tuple[np.ndarray, np.ndarray]:
    """Return the pairs of different instances of an image.

    Args:
        images (np.ndarray): The number of each instance's image, ascending,
            shape (N, ).
        chosen (np.ndarray, optional): Which instances come first in a pair,
            bool of shape (N, ). Defaults to None: all of them.

    Returns:
        tuple[np.ndarray, np.ndarray]: The indices of the first ones,
        ascending, and of the others, both of shape (P, ).
    """
    _, begins, sizes = np.unique(images, return_index=True, return_counts=True)
    # Each instance, and all of its image.
    begins, sizes = np.repeat(begins, sizes), np.repeat(sizes, sizes)
    is_first = sizes > 1
    if chosen is not None:
        is_first &= chosen
    first = np.flatnonzero(is_first)
    sizes = sizes[first]
    second = np.arange(sizes.sum()) - np.repeat(
        np.cumsum(sizes) - sizes - begins[first], sizes)
    first = np.repeat(first, sizes)
    is_other = first != second
    return first[is_other], second[is_other]
