# Copyright (c) OpenMMLab. All rights reserved.
"""The frame of an event in an event file, a TFRecord.

https://www.tensorflow.org/tutorials/load_data/tfrecord
"""
import glob
import os
import os.path as osp
import struct
from contextlib import suppress
from typing import Iterator, List

from .checksum import crc32c

_LENGTH = struct.Struct('<Q')
_CHECKSUM = struct.Struct('<I')
# Scalars and texts are smaller.
_LARGE_EVENT_BYTES = 1 << 20


def frame(event: bytes) -> bytes:
    """Return the record of a serialized event in the file."""
    length = _LENGTH.pack(len(event))
    return length + _masked_checksum(length) + event + _masked_checksum(event)


def event_files(log_dir: str) -> List[str]:
    """Return the event files of a directory, the earliest first."""
    return sorted(glob.glob(osp.join(glob.escape(log_dir), '*tfevents*')))


def events_in(log_dir: str, with_pictures: bool = False) -> Iterator:
    """Read what has been written to a directory, in the order of its files.

    Does not check checksums: TensorBoard's reader takes a third of a second
    for each MB.

    Args:
        log_dir (str): The directory.
        with_pictures (bool): Whether to read pictures and other large events.
            Defaults to False.

    Yields:
        tensorboard.compat.proto.event_pb2.Event: One event after another. Of
        a broken file, what comes before the break.
    """
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.event_pb2 import Event
    for path in event_files(log_dir):
        with open(path, 'rb') as file, suppress(DecodeError, struct.error):
            end = os.fstat(file.fileno()).st_size
            while True:
                length, = _LENGTH.unpack(file.read(_LENGTH.size))
                file.seek(_CHECKSUM.size, os.SEEK_CUR)
                if file.tell() + length > end:
                    break
                if length > _LARGE_EVENT_BYTES and not with_pictures:
                    file.seek(length, os.SEEK_CUR)
                else:
                    yield Event.FromString(file.read(length))
                file.seek(_CHECKSUM.size, os.SEEK_CUR)


def _masked_checksum(data: bytes) -> bytes:
    crc = crc32c(data)
    return _CHECKSUM.pack(((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
