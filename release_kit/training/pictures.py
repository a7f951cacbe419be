"""Pictures from strangers' files: decoded within bounds, as transformers' pipelines decode them.

What a pipeline would later show the model must be what it was trained on. So rotation by EXIF is
applied, and CMYK, palettes and grey become RGB by PIL's own rules; and what these rules would
spoil (several frames, transparent places, more than 8 bits a colour) is refused, not guessed at.
"""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

from release_kit.files import sha256_bytes

if TYPE_CHECKING:
    from PIL.Image import Image

# Formats that are pixels and nothing else: PIL would run Ghostscript for EPS.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
_EIGHT_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB")
_MOST_PIXELS = 1 << 26
_TOO_LARGE = "has more than 2**26 pixels"
# The pictures behind the first of an MPO file are depth maps and previews.
_ONE_OF_MANY = "MPO"
_OPAQUE = 255


def decode(data: bytes) -> tuple[Image | None, str]:
    """Return the picture in RGB, turned as its EXIF says, and what is wrong; one of both.

    PNG, JPEG, WebP, BMP, GIF, TIFF and PPM of at most 2**26 pixels.
    """
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            # PIL warns of what it calls a bomb, and of damage that it reads over.
            warnings.simplefilter("error")
            picture: Any = Image.open(io.BytesIO(data), formats=_FORMATS)
            # Only the header has been read: nothing of a bomb is unpacked yet.
            if wrong := _wrong_form(picture):
                return None, wrong
            picture.load()
            picture = ImageOps.exif_transpose(picture)
            if picture.has_transparency_data:
                picture = picture.convert("RGBA")
                if picture.getchannel("A").getextrema()[0] < _OPAQUE:
                    return None, "has transparent places, whose colours nobody sees; fill them"
            return picture.convert("RGB"), ""
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return None, _TOO_LARGE
    except Image.UnidentifiedImageError:
        return None, "is no picture in a format that is read here"
    except Exception:  # noqa: BLE001 - PIL's decoders raise anything at all
        return None, "is a damaged picture"


def _wrong_form(picture: Any) -> str:
    if picture.width * picture.height > _MOST_PIXELS:
        return _TOO_LARGE
    if getattr(picture, "n_frames", 1) > 1 and picture.format != _ONE_OF_MANY:
        return "has several frames; save the one that counts as a file of its own"
    if picture.mode not in _EIGHT_BITS:
        return "has more than 8 bits a colour; choose which of them count, and save 8"
    return ""


def digest(picture: Image) -> str:
    """Return what tells pictures of the same size and pixels, in whatever files they lie."""
    return sha256_bytes(f"{picture.size}".encode() + picture.tobytes())
