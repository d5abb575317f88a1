# Copyright (c) OpenMMLab. All rights reserved.
"""The checksum of event files, CRC-32C.

TensorBoard's own takes half a second of Python for a picture of 1.5 MB, and
holds Python's lock, so that the training waits. A library in C would be one
that a user of MMPose has to install.
"""
from functools import lru_cache
from typing import Callable, List

import numpy as np

# The polynomial, with the lowest power in the highest bit: RFC 3720, 12.1.
_POLYNOMIAL = 0x82F63B78
# Fewer bytes one after the other take less time than all at once.
_FEW = 1 << 12
# So many bytes of each piece are taken one after the other, 2 to the power.
_PIECE = 5


def crc32c(data: bytes) -> int:
    """The CRC-32C of some bytes.

    The checksum is linear, so that of pieces can be computed side by side and
    joined: that of ``a + b`` is that of ``a`` moved on by as many zeros as
    ``b`` is long, plus (xor) that of ``b``.

    Args:
        data (bytes): The bytes.

    Returns:
        int: The checksum, not masked.
    """
    if len(data) < _FEW:
        from tensorboard.compat.tensorflow_stub import pywrap_tensorflow
        return pywrap_tensorflow.crc32c(data)
    length = 1 << _PIECE
    count = 1 << (-(-len(data) // length) - 1).bit_length()
    # Zeros in front change nothing, where it begins with 0. It begins with
    # all ones, which is the same as other first bytes.
    padded = np.zeros(count * length, np.uint8)
    padded[-len(data):] = np.frombuffer(data, np.uint8)
    padded[-len(data):][:4] ^= 0xFF
    crcs = np.zeros(count, np.uint32)
    for column in np.ascontiguousarray(padded.reshape(count, length).T):
        crcs = _TABLE[(crcs ^ column) & 0xFF] ^ (crcs >> np.uint32(8))
    power = _PIECE
    while len(crcs) > 1:
        crcs = _apply(_zeros(power), crcs[0::2]) ^ crcs[1::2]
        power += 1
    return int(crcs[0]) ^ 0xFFFFFFFF


def _table() -> np.ndarray:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = table >> np.uint32(1) ^ (table & 1) * np.uint32(_POLYNOMIAL)
    return table


_TABLE = _table()


@lru_cache(maxsize=None)
def _zeros(power: int) -> List[np.ndarray]:
    """What so many zero bytes make of a checksum, 2 to the power."""
    if not power:
        return _linear(lambda crc: _TABLE[crc & 0xFF] ^ crc >> np.uint32(8))
    half = _zeros(power - 1)
    return _linear(lambda crc: _apply(half, _apply(half, crc)))


def _linear(function: Callable) -> List[np.ndarray]:
    """A linear function of 32 bits, as tables for each of the four bytes."""
    byte = np.arange(256, dtype=np.uint32)
    return [function(byte << np.uint32(8 * i)) for i in range(4)]


def _apply(tables: List[np.ndarray], values: np.ndarray) -> np.ndarray:
    result = np.zeros_like(values)
    for i, table in enumerate(tables):
        result ^= table[values >> np.uint32(8 * i) & 0xFF]
    return result
