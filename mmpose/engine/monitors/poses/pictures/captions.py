# Copyright (c) OpenMMLab. All rights reserved.
"""Text in pictures: fonts that have its letters, lines that fit."""
import functools
import os.path as osp
import re
from typing import FrozenSet, List, Tuple

import matplotlib
from PIL import ImageDraw, ImageFont

_INK = (232, 234, 237)
_SMALLEST = 10
# Fonts with Korean, Chinese and Japanese letters, by their files' names.
_WIDE_FONTS = re.compile(
    'cjk|nanum|malgun|gothic|batang|wqy|wenquanyi|msyh|simhei|simsun|'
    'sourcehan|fallback|notosans(kr|sc|tc|jp)|arial.?unicode|unifont', re.I)


def write_line(draw: ImageDraw.ImageDraw, place: Tuple[int, int], text: str,
               width: int, size: int) -> None:
    """Write a line into a width, smaller if need be.

    Args:
        draw (ImageDraw.ImageDraw): What to write on.
        place (tuple[int, int]): Its left end and its vertical middle.
        text (str): What to write.
        width (int): In pixels.
        size (int): The largest size of the font.
    """
    text, path = legible(text)
    length = _font(path, size).getlength(text)
    size = max(_SMALLEST, int(size * min(1, width / max(length, 1))))
    draw.text(place, text, _INK, _font(path, size), anchor='lm')


def shorten(text: str, width: int, size: int) -> str:
    """Shorten a name in its middle until it fits.

    Args:
        text (str): A path, of which the ends are kept. Text after two spaces
            is kept whole.
        width (int): In pixels.
        size (int): Of the font.

    Returns:
        str: The text, or its ends with an ellipsis between them.
    """
    font = _font(legible(text)[1], size)
    path, *rest = text.split('  ')
    kept = len(path)
    shortened = text
    while kept > 8 and font.getlength(shortened) > width:
        kept -= 1
        ends = path[:kept // 2], path[len(path) - (kept + 1) // 2:]
        shortened = '  '.join(['…'.join(ends), *rest])
    return shortened


@functools.lru_cache(maxsize=64)
def legible(text: str) -> Tuple[str, str]:
    """Return a text and the file of a font that has all its letters.

    Args:
        text (str): Any text.

    Returns:
        tuple[str, str]: The text and the file. Letters that no font has are
        escaped, as in ``\\u59ff``.
    """
    plain = _plain_font()
    if _has(plain, text):
        return text, plain
    for path in _wide_fonts():
        if _has(path, text):
            return text, path
    known = _letters(plain)
    return ''.join(
        letter if ord(letter) in
        known else letter.encode('ascii', 'backslashreplace').decode()
        for letter in text), plain


def _has(path: str, text: str) -> bool:
    return all(ord(letter) in _letters(path) for letter in text)


def _plain_font() -> str:
    return osp.join(matplotlib.get_data_path(), 'fonts/ttf/DejaVuSans.ttf')


@functools.lru_cache(maxsize=None)
def _wide_fonts() -> List[str]:
    """Find the fonts of the system, which takes a while."""
    from matplotlib.font_manager import findSystemFonts
    return sorted(path for path in findSystemFonts()
                  if _WIDE_FONTS.search(osp.basename(path)))


@functools.lru_cache(maxsize=None)
def _letters(path: str) -> FrozenSet[int]:
    from matplotlib.ft2font import FT2Font
    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()


@functools.lru_cache(maxsize=None)
def _font(path: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)
