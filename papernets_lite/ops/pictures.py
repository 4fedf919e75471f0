"""Pictures as the bytes of a file, and back."""

import io

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from papernets_lite.ops.checks import expect


def to_jpeg(picture: UInt8[Tensor, "3 h w"], quality: int = 80) -> bytes:
    """The picture as JPEG.

    Args:
        picture: in 0..255.
        quality: from 1 to 95.

    Raises:
        ValueError: for nothing, or a quality that JPEG does not have.
    """
    expect(picture.numel() > 0, "a picture (3, h, w)", picture.shape)
    expect(1 <= quality <= 95, "a quality from 1 to 95", quality)
    levels = picture.permute(1, 2, 0).contiguous().cpu().numpy()
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def from_jpeg(data: bytes) -> UInt8[Tensor, "3 h w"]:
    """The picture that a JPEG holds.

    Args:
        data: the whole file.

    Raises:
        ValueError: for what is none.
    """
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
            levels = np.array(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"expected a JPEG, got {len(data)} bytes: {error}") from error
    return torch.from_numpy(levels).permute(2, 0, 1)
