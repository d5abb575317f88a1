# Copyright (c) OpenMMLab. All rights reserved.
import os
from contextlib import contextmanager
from typing import IO, Iterator


@contextmanager
def whole_file(path: str, binary: bool = False) -> Iterator[IO]:
    """Write a file that a reader sees complete at any time.

    Args:
        path (str): The file, in a folder that exists.
        binary (bool): Whether bytes are written instead of text in UTF-8.
            Defaults to False.

    Yields:
        IO: What takes the file's place where nothing was raised. The ends of
        lines stay as they are written.
    """
    part = f'{path}.part'
    text = {} if binary else dict(encoding='utf-8', newline='')
    with open(part, 'wb' if binary else 'w', **text) as file:
        yield file
    os.replace(part, path)
