# Copyright (c) OpenMMLab. All rights reserved.
"""Images that are both in the training and in the validation."""
import csv
import hashlib
import os
import time
from collections import defaultdict
from typing import Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple

from ...core.pose_measurements import SharedImages

# How many images a finding names.
_NAMED = 3
# The bounds of the search.
MAX_SECONDS = 60.
MAX_BYTES = 512 << 20
# What is read of a file first, at its beginning and at its end, and at once.
_ENDS, _CHUNK = 4096, 1 << 20
# After so many files the thread lets the training have the interpreter.
_AT_ONCE = 20
_PAUSE = 5e-4


class Same(NamedTuple):
    """An image that both have.

    Attributes:
        validation (str): Its file in the validation.
        training (str): Its file in the training: the same, or one with the
            same content.
    """
    validation: str
    training: str


def same_paths(training: Iterable[Optional[str]],
               validation: Iterable[Optional[str]]) -> List[Same]:
    """Return the files that both have, without looking at the disk."""
    known = {_normal(path): path for path in training if path}
    return [
        Same(path, known[_normal(path)]) for path in validation
        if path and _normal(path) in known
    ]


def same_contents(training: Iterable[Optional[str]],
                  validation: Iterable[Optional[str]],
                  max_seconds: float = MAX_SECONDS,
                  max_bytes: int = MAX_BYTES) -> Tuple[List[Same], bool]:
    """Return the files with the same content under other paths.

    A link to a file is known without reading it. Of the others, only files of
    the same size are read, and those whole whose ends are the same.

    Args:
        training (Iterable[str | None]): Files; those that are not on a local
            disk are skipped.
        validation (Iterable[str | None]): Files.
        max_seconds (float): When to end the search. Defaults to 60.
        max_bytes (int): How much to read at most. Defaults to 512 MiB.

    Returns:
        tuple[list[Same], bool]: The files, and whether all were compared.
    """
    search = _Search(time.monotonic() + max_seconds, max_bytes)
    found: List[Same] = []
    try:
        by_size = search.group(validation)
        candidates: Dict[int, List[str]] = defaultdict(list)
        for path, size in search.sizes(training):
            if size in by_size:
                candidates[size].append(path)
        for size, paths in candidates.items():
            found += search.compare(by_size[size], paths)
    except _Ended:
        return found, False
    return found, True


def shared_images(training: List[str],
                  validation: List[str],
                  folder: str,
                  one_storage: bool = True) -> Iterator[SharedImages]:
    """Look for images that both have, and list them in a file.

    Args:
        training (list[str]): The files of the training's images.
        validation (list[str]): Those of the validation.
        folder (str): Where to write ``shared_images.csv``.
        one_storage (bool): Whether a path is the same file in both; not in
            two databases. Defaults to True.

    Yields:
        SharedImages: First by path, then by content.
    """
    paths = same_paths(training, validation) if one_storage else []
    yield _listed(paths, [], True, len(validation), folder)
    contents, is_complete = same_contents(training, validation)
    if contents:
        yield _listed(paths, contents, is_complete, len(validation), folder)


def _listed(paths: List[Same], contents: List[Same], is_complete: bool,
            total: int, folder: str) -> SharedImages:
    file = os.path.join(folder, 'shared_images.csv')
    if paths or contents:
        with open(file, 'w', newline='', encoding='utf-8') as opened:
            writer = csv.writer(opened)
            writer.writerow(['same', 'validation', 'training'])
            writer.writerows(('path', *same) for same in paths)
            writer.writerows(('content', *same) for same in contents)
    first = tuple(map(tuple, [*paths, *contents][:_NAMED]))
    return SharedImages(total, len(paths), len(contents), first, file,
                        is_complete)


class _Ended(Exception):
    """A bound is reached."""


class _Search:

    def __init__(self, until: float, max_bytes: int) -> None:
        self._until = until
        self._left = max_bytes
        self._count = 0
        # Device and number of each file; links to it have the same.
        self._files: Dict[str, Tuple[int, int]] = {}

    def group(self, paths: Iterable[Optional[str]]) -> Dict[int, List[str]]:
        """Return files by their size."""
        groups: Dict[int, List[str]] = defaultdict(list)
        for path, size in self.sizes(paths):
            groups[size].append(path)
        return groups

    def sizes(self,
              paths: Iterable[Optional[str]]) -> Iterator[Tuple[str, int]]:
        """Yield the files on a local disk that are not empty."""
        for path in paths:
            self._pause()
            try:
                found = os.stat(path or '')
            except (OSError, ValueError):
                continue
            if found.st_size:
                self._files[path] = found.st_dev, found.st_ino
                yield path, found.st_size

    def compare(self, validation: List[str],
                training: List[str]) -> Iterator[Same]:
        """Yield the files with the same content, of the same size."""
        known_files = {self._files[path]: path for path in training}
        for path in validation:
            other = known_files.get(self._files[path])
            if other and _normal(path) != _normal(other):
                yield Same(path, other)
        validation = [
            path for path in validation if self._files[path] not in known_files
        ]
        if not validation:
            return
        for digest in (self._ends, self._whole):
            known: Dict[bytes, List[str]] = defaultdict(list)
            for path in training:
                known[digest(path)].append(path)
            known.pop(b'', None)
            pairs = [(path, known.get(digest(path), []))
                     for path in validation]
            pairs = [(path, others) for path, others in pairs if others]
            validation = [path for path, _ in pairs]
            training = sorted({p for _, others in pairs for p in others})
            if not pairs:
                return
        for path, others in pairs:
            yield Same(path, others[0])

    def _ends(self, path: str) -> bytes:
        """Return a hash of the beginning and the end, b'' if unreadable."""

        def chunks(file):
            yield file.read(_ENDS)
            file.seek(max(os.fstat(file.fileno()).st_size - _ENDS, 0))
            yield file.read(_ENDS)

        return self._hash(path, chunks)

    def _whole(self, path: str) -> bytes:
        """Return a hash of the content, b'' if it is unreadable."""
        return self._hash(path, lambda f: iter(lambda: f.read(_CHUNK), b''))

    def _hash(self, path: str, chunks) -> bytes:
        self._pause()
        digest = hashlib.blake2b(digest_size=16)
        try:
            with open(path, 'rb') as file:
                for chunk in chunks(file):
                    self._left -= len(chunk)
                    if self._left < 0:
                        raise _Ended
                    digest.update(chunk)
        except OSError:
            return b''
        return digest.digest()

    def _pause(self) -> None:
        self._count += 1
        if self._count % _AT_ONCE == 0:
            time.sleep(_PAUSE)
        if time.monotonic() > self._until:
            raise _Ended


def _normal(path: str) -> str:
    # An address is no path of this machine.
    return path if '://' in path else os.path.abspath(path)
