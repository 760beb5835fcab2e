"""A picture file, or its bytes, becomes upright 8-bit RGB, or is refused in one plain sentence.

Uploads are hostile until proven otherwise: the format is told from the first bytes, never from the
name; only the decoder of that format is tried; the number of its parts is checked before it is
opened, size and shape in the header, before anything is decoded; and whatever a decoder raises ends
as an `ImageRefused`.
"""

import io
import os
import re
import stat
import struct
from typing import BinaryIO

import cv2
import numpy as np
import pillow_heif
from PIL import Image, ImageCms

ACCEPTED = "JPEG, PNG, WebP, BMP, TIFF or HEIC"

# With these limits no file was found that takes 1 GiB of memory. The worst of each kind: JPEG
# (progressive CMYK) 920 MiB, HEIC (10 bits, transparent) 990, WebP 800, TIFF 610, PNG 570.
MAX_BYTES = 25 * 1024 * 1024
MAX_PIXELS = 110_000_000  # as many as the largest cameras take: 102 or 108 megapixels
MAX_PIXELS_COSTLY = 50_000_000  # for decoders that keep several copies; phones write up to 48.8
COSTLY_FORMATS = ("HEIF", "TIFF", "WEBP")
MIN_SIDE = 64
MAX_ELONGATION = 10  # long side / short side
MAX_SCANS = 64  # a progressive JPEG has about 10; each one costs a pass over the whole picture
MAX_EXIF_SEGMENTS = 64  # of 64 kB each; joining them takes the square of their number
MAX_STRIPS = 100_000  # of a TIFF, each an object: 50 megapixels are at most 22,361 rows in 4 planes
BAND_PIXELS = 8_000_000
MODEL_ASPECT = (4, 3)  # the longest shape a model sees: that of HAM10000's photos

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_JPEG_SCAN = re.compile(rb"\xff\xda\x00(?:\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)")
_NEW_SUBFILE_TYPE, _TILE_WIDTH, _TILE_LENGTH, _ORIENTATION = 254, 322, 323, 274  # TIFF tags
_STRIPS = (273, 279, 324, 325)  # where strips or tiles begin, and how long each is

# Thumbnails inside a HEIC are never decoded in place of the picture itself.
pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)
Image.MAX_IMAGE_PIXELS = MAX_PIXELS


class ImageRefused(ValueError):
    """The file cannot be used; the message says why and what to do, and may be shown as it is."""


def load(source: bytes | str | os.PathLike | BinaryIO, max_side: int = 1600) -> np.ndarray:
    """Decode a picture, put it upright, convert it to sRGB and drop everything but its pixels.

    Args:
        source: the content of a file, a path to it, or a binary stream (read from its start).
        max_side: the longest side of the result, in pixels; larger pictures are reduced to it,
            smaller ones stay as they are.

    Returns:
        uint8 `(height, width, 3)`, RGB, 0 to 255. Transparent parts lie on white, 16 bits are
        scaled to 8, and of several frames or pages the first is taken.

    Raises:
        ImageRefused: not an accepted format, empty, damaged, over `MAX_BYTES` or `MAX_PIXELS`,
            under `MIN_SIDE`, longer than `MAX_ELONGATION` times its width, or not readable.
    """
    data = _read(source)
    kind = _format(data)
    try:
        _check_parts(kind, data)
        with Image.open(io.BytesIO(data), formats=[kind]) as file:
            _check_header(file)
            _check_cost(file)
            file.draft(None, _fitted(file.size, max_side))  # a JPEG is decoded at 1/2, 1/4 or 1/8
            file.load()
            rgb = _to_srgb(_reduced(file, max_side), file.info.get("icc_profile"))
            return _upright(rgb, _orientation(file))
    except ImageRefused:
        raise
    except Image.DecompressionBombError:
        raise ImageRefused(_too_many_pixels(MAX_PIXELS)) from None
    except Exception:  # a decoder may raise nearly anything; all of it means the same to the user
        raise ImageRefused(
            "The file is incomplete or damaged; copy it again from where it came and try once more."
        ) from None


def crop_box(height: int, width: int) -> tuple[int, int, int, int]:
    """The part of a picture that a model sees, as `(top, left, height, width)` in whole pixels.

    It is the whole picture up to 4:3 (or 3:4), and the centred 4:3 (or 3:4) part of a longer one.
    """
    long, short = MODEL_ASPECT
    crop_height = min(height, max(1, width * long // short))
    crop_width = min(width, max(1, height * long // short))
    return (height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width


def to_model_input(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Crop to `crop_box` and squash to `size`: the one way into a model, in training and in use.

    Args:
        rgb: uint8 `(height, width, 3)`.
        size: `(height, width)` of the result.

    Returns:
        uint8 `(size[0], size[1], 3)`, RGB, 0 to 255. The same input always gives the same result.
    """
    top, left, height, width = crop_box(*rgb.shape[:2])
    crop = rgb[top : top + height, left : left + width]
    return np.array(_resized(np.ascontiguousarray(crop), (size[1], size[0])))


def _read(source: bytes | str | os.PathLike | BinaryIO) -> bytes:
    """The bytes of the source, of which never more than `MAX_BYTES` are read."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        data = bytes(source) if len(source) <= MAX_BYTES else source
    elif isinstance(source, (str, os.PathLike)):
        data = _read_path(source)
    else:
        if source.seekable():
            source.seek(0)
        data = source.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ImageRefused(
            f"The file is larger than {MAX_BYTES // 2**20} MB; export it as a JPEG and try again."
        )
    if not data:
        raise ImageRefused("The file is empty; copy it again from where it came.")
    return data


def _read_path(path: str | os.PathLike) -> bytes:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe or a device might never end
            raise ImageRefused("This is not a file; choose a picture file.")
        with open(path, "rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ImageRefused(
            f"The file cannot be opened ({error.strerror}); check that it is there and readable."
        ) from None


def _format(data: bytes) -> str:
    """Pillow's name of the accepted format that the content begins with."""
    if data[:3] == b"\xff\xd8\xff":
        return "JPEG"
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return "PNG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[:4] in (b"II*\0", b"MM\0*") and data[128:132] != b"DICM":  # DICOM may pose as TIFF
        return "TIFF"
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS and b"avif" not in data[8:64]:
        return "HEIF"
    if data[:2] == b"BM":
        return "BMP"
    raise ImageRefused(f"The file is not a picture of a known kind; use {ACCEPTED}.")


def _check_parts(kind: str, data: bytes) -> None:
    """Refuse files of so many parts that opening or decoding them takes minutes or gigabytes."""
    if kind == "JPEG" and (
        data.count(b"Exif\0\0") > MAX_EXIF_SEGMENTS or len(_JPEG_SCAN.findall(data)) > MAX_SCANS
    ):
        raise ImageRefused("The JPEG file is built in an unusual way; export it again as a JPEG.")
    if kind == "TIFF":
        order = "<" if data[:2] == b"II" else ">"
        (start,) = struct.unpack_from(f"{order}I", data, 4)
        (entries,) = struct.unpack_from(f"{order}H", data, start)
        for k in range(entries):
            tag, _, count = struct.unpack_from(f"{order}HHI", data, start + 2 + 12 * k)
            if tag in _STRIPS and count > MAX_STRIPS:
                raise ImageRefused("The TIFF file is built in an unusual way; export it as a JPEG.")


def _check_header(file: Image.Image) -> None:
    """Refuse by what the header says, before any pixel is decoded."""
    width, height = file.size
    limit = MAX_PIXELS_COSTLY if file.format in COSTLY_FORMATS else MAX_PIXELS
    if width * height > limit:
        raise ImageRefused(_too_many_pixels(limit))
    if min(width, height) < MIN_SIDE:
        raise ImageRefused(
            f"The picture is too small ({width} x {height} pixels); "
            f"use one of at least {MIN_SIDE} x {MIN_SIDE} pixels."
        )
    if max(width, height) > MAX_ELONGATION * min(width, height):
        raise ImageRefused(
            f"The picture is too long and narrow ({width} x {height} pixels); "
            "crop it to the lesion and try again."
        )
    if file.mode in ("I", "F"):
        raise ImageRefused(
            "The picture has 32 bits per channel; export it with 8 bits per channel and try again."
        )


def _check_cost(file: Image.Image) -> None:
    """Refuse small files that are made to take hours or gigabytes to decode."""
    if file.tile and file.tile[0][0] == "bmp_rle":  # decoded in Python: seconds for a few bytes
        raise ImageRefused("The BMP file is compressed; export it as a JPEG or PNG.")
    if file.format == "TIFF":
        if file.tag_v2.get(_NEW_SUBFILE_TYPE, 0) & 1:  # a camera's raw file begins so
            raise ImageRefused(f"The file begins with a mere thumbnail; use {ACCEPTED}.")
        if file.tag_v2.get(_TILE_WIDTH, 0) * file.tag_v2.get(_TILE_LENGTH, 0) > MAX_PIXELS_COSTLY:
            raise ImageRefused(_too_many_pixels(MAX_PIXELS_COSTLY))


def _too_many_pixels(limit: int) -> str:
    return (
        f"The picture has more than {limit // 1_000_000} megapixels; "
        "crop it to the lesion or export it smaller."
    )


def _fitted(size: tuple[int, int], max_side: int) -> tuple[int, int]:
    """`(width, height)` scaled down so that the longer one is at most `max_side`."""
    scale = min(1.0, max_side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _reduced(image: Image.Image, max_side: int) -> np.ndarray:
    """The pixels as uint8 RGB (or CMYK), with the longest side at most `max_side`.

    A large picture goes band by band: 100 megapixels take 400 MB, and a copy would double that.
    """
    width, height = image.size
    size = _fitted(image.size, max_side)
    factor = max(width, height) // max_side
    if factor < 2:
        return _resized(np.asarray(_plain(image)), size)
    rows = max(1, BAND_PIXELS // width // factor) * factor
    bands = [
        np.asarray(_plain(image.crop((0, top, width, min(top + rows, height)))).reduce(factor))
        for top in range(0, height, rows)
    ]
    return _resized(np.concatenate(bands), size)


def _plain(image: Image.Image) -> Image.Image:
    """Any mode to RGB, with transparent parts on white; CMYK stays for its colour profile."""
    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        page = Image.new("RGBA", image.size, "white")
        page.alpha_composite(image)
        image = page
    return image if image.mode in ("RGB", "CMYK") else image.convert("RGB")


def _to_srgb(pixels: np.ndarray, profile: bytes | None) -> np.ndarray:
    """Convert from the embedded colour profile; a missing or broken one counts as sRGB."""
    image = None
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if "srgb" not in ImageCms.getProfileDescription(source).lower():
                target = ImageCms.createProfile("sRGB")
                image = ImageCms.profileToProfile(_image(pixels), source, target, outputMode="RGB")
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            pass
    if image is None and pixels.shape[2] == 4:
        image = _image(pixels).convert("RGB")
    return pixels if image is None else np.asarray(image)


def _image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels, "CMYK" if pixels.shape[2] == 4 else "RGB")


def _orientation(file: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; broken EXIF data are no reason to refuse a good picture."""
    try:
        return int(file.getexif().get(_ORIENTATION, 1))
    except Exception:
        return 1


def _upright(rgb: np.ndarray, orientation: int) -> np.ndarray:
    if orientation in (5, 6, 7, 8):
        rgb = rgb.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        rgb = rgb[:, ::-1]
    if orientation in (3, 4, 7, 8):
        rgb = rgb[::-1]
    return np.require(rgb, requirements=["C", "W", "O"])  # a copy only where one is needed


def _resized(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize to `(width, height)`: area averages when shrinking, cubic when enlarging."""
    height, width = pixels.shape[:2]
    if (width, height) == tuple(size):
        return pixels
    shrinking = size[0] <= width and size[1] <= height
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_CUBIC)
