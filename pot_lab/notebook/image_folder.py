"""Folders of images, one folder for each class: uint8 pictures and class numbers.

Pictures stay bytes: a model casts them itself, with `x.float() / 255`, so data are a quarter of what they would be in
float32. Pillow is loaded only where it is needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pot_lab.errors import Oversize
from pot_lab.notebook.errors import BadArgument
from pot_lab.scoring import Limits

_SUFFIXES = frozenset([".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"])
_MODES = {"L": "L", "1": "L", "P": "RGB", "RGB": "RGB"}
"""How pictures of Pillow's modes are read, where that changes no number."""


def read_folder(name: str, folder: Path, limits: Limits) -> tuple[Tensor, Tensor]:
    """Pictures and class numbers of a folder.

    Args:
        name: the argument's name, for error messages.
        folder: its folders are the classes, numbered from 0 in the order of their names; the pictures in them have one
            size.
        limits: the largest number of examples and bytes that is read.
    Returns: uint8 [pictures, channels, height, width], with one channel if all are grey and 3 otherwise; int64
        [pictures].
    Raises:
        BadArgument: a picture cannot be used; the message names its file.
        Oversize: there are more examples or bytes than `limits` allow.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise BadArgument(
            f"`{name}` is a folder of images, and Pillow is not installed", seen=folder, wanted="pip install pillow"
        ) from error
    files = _files(name, folder)
    if len(files) > limits.examples:
        raise Oversize(f"`{name}` has too many examples", seen=len(files), wanted=f"at most {limits.examples}")
    heads = [_head(name, folder, file, Image) for file, _ in files]
    (first, _), size = files[0], heads[0][0]
    for (file, _), (other, _) in zip(files, heads, strict=True):
        if other != size:
            raise BadArgument(
                f"the images of `{name}` have different sizes",
                seen=f"{file.relative_to(folder)}: {other[0]} x {other[1]}",
                wanted=f"{size[0]} x {size[1]}, as {first.relative_to(folder)} has; resize them",
            )
    mode = "L" if all(m == "L" for _, m in heads) else "RGB"
    channels = 1 if mode == "L" else 3
    size_bytes = len(files) * channels * size[0] * size[1]
    if size_bytes > limits.dataset_bytes:
        raise Oversize(
            f"`{name}` is too large", seen=f"{size_bytes} bytes", wanted=f"at most {limits.dataset_bytes} bytes"
        )
    pictures = torch.empty((len(files), channels, size[1], size[0]), dtype=torch.uint8)
    for place, (file, _) in enumerate(files):
        try:
            with Image.open(file) as image:
                array = np.array(image.convert(mode))
        except (OSError, ValueError, SyntaxError) as error:
            raise BadArgument(
                f"an image of `{name}` cannot be read", seen=f"{file.relative_to(folder)}: {error}"
            ) from error
        pictures[place] = torch.from_numpy(array.reshape(size[1], size[0], channels)).permute(2, 0, 1)
    return pictures, torch.tensor([label for _, label in files])


def _files(name: str, folder: Path) -> list[tuple[Path, int]]:
    """All pictures with their class numbers."""
    classes = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    found = [
        (file, label)
        for label, directory in enumerate(classes)
        for file in sorted(directory.iterdir())
        if file.suffix.lower() in _SUFFIXES and not file.name.startswith(".")
    ]
    empty = [d.name for d in classes if not any(file.parent == d for file, _ in found)]
    if not found or empty:
        raise BadArgument(
            f"`{name}` is a folder without images" if not found else f"`{name}` has a class without images",
            seen=f"{folder}: {', '.join(empty or [c.name for c in classes])[:200]}",
            wanted=f"a folder for each class, with files such as {', '.join(sorted(_SUFFIXES)[:4])} in it",
        )
    return found


def _head(name: str, folder: Path, file: Path, images: Any) -> tuple[tuple[int, int], str]:
    """(width, height) and the mode that a picture is read in."""
    try:
        with images.open(file) as image:
            size, mode = image.size, image.mode
    except (OSError, ValueError, SyntaxError) as error:
        raise BadArgument(
            f"an image of `{name}` cannot be read", seen=f"{file.relative_to(folder)}: {error}"
        ) from error
    if mode not in _MODES:
        raise BadArgument(
            f"an image of `{name}` has more than 8 bits a channel, or a channel beside red, green and blue",
            seen=f"{file.relative_to(folder)}: mode {mode}",
            wanted="grey or RGB of 8 bits, such as image.convert('RGB')",
        )
    return (int(size[0]), int(size[1])), _MODES[mode]
