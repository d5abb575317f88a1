# Copyright (c) OpenMMLab. All rights reserved.
import random

import pytest
from tensorboard.compat.tensorflow_stub import pywrap_tensorflow

from mmpose.engine.monitors.writers.checksum import crc32c


def test_it_is_that_of_the_standard():
    """The examples of RFC 3720, B.4."""
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b'\xff' * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(bytes(range(31, -1, -1))) == 0x113FDB5C


@pytest.mark.parametrize(
    'length', [4, 5, 8, 100, 255, 256, 257, 511, 512, 65537, 100003])
def test_it_is_that_of_tensorboard(length):
    data = random.Random(length).getrandbits(8 * length).to_bytes(
        length, 'little')
    assert crc32c(data) == pywrap_tensorflow.crc32c(data)
    zeros = bytes(length - 3) + data[:3]
    assert crc32c(zeros) == pywrap_tensorflow.crc32c(zeros)
