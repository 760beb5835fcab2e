"""What a doctor may drop on the page: good pictures of every kind, and everything else."""

import io
import os
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

import dermsa
from dermsa import images
from dermsa.images import ImageRefused, crop_box, load, to_model_input

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "HEIF")
EXACT = {"quality": 100, "subsampling": 0}


def scene(height=120, width=160):
    """Four plain quarters: red, green, blue and grey, so that turns and channel swaps show."""
    rgb = np.full((height, width, 3), 90, np.uint8)
    rgb[: height // 2, : width // 2] = (200, 40, 40)
    rgb[: height // 2, width // 2 :] = (40, 180, 40)
    rgb[height // 2 :, : width // 2] = (40, 40, 190)
    return rgb


def encoded(rgb, kind, **options):
    buffer = io.BytesIO()
    picture = rgb if isinstance(rgb, Image.Image) else Image.fromarray(rgb)
    if kind in ("JPEG", "WEBP", "HEIF"):
        options = {"quality": 95} | options
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def by_opencv(array, extension):
    return cv2.imencode(extension, array)[1].tobytes()


def corners(rgb):
    """The colours in the middle of the four quarters, in reading order."""
    height, width = rgb.shape[:2]
    return rgb[[height // 4, height // 4, -height // 4, -height // 4]][
        range(4), [width // 4, -width // 4, width // 4, -width // 4]
    ].astype(int)


def assert_scene(rgb, tolerance=12):
    assert rgb.dtype == np.uint8 and rgb.ndim == 3 and rgb.shape[2] == 3
    np.testing.assert_allclose(corners(rgb), corners(scene()), atol=tolerance)


# --- what is accepted -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMATS)
def test_every_accepted_format_gives_the_same_picture(kind):
    rgb = load(encoded(scene(), kind))
    assert rgb.shape == (120, 160, 3)
    assert rgb.flags.writeable and rgb.flags.c_contiguous
    assert_scene(rgb)


@pytest.mark.parametrize("kind", FORMATS)
def test_the_name_of_a_file_does_not_matter(kind, tmp_path):
    path = tmp_path / "picture.txt"
    path.write_bytes(encoded(scene(), kind))
    assert_scene(load(path))
    assert_scene(load(str(path)))


def test_a_stream_is_read_from_its_start():
    stream = io.BytesIO(encoded(scene(), "PNG"))
    stream.seek(0, os.SEEK_END)
    np.testing.assert_array_equal(load(stream), scene())


TURNS = {  # EXIF orientation -> where the first row and the first column of the file belong
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: np.rot90,
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "HEIF"])
@pytest.mark.parametrize("orientation", TURNS)
def test_every_exif_orientation_is_put_upright(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    rgb = load(encoded(scene(), kind, exif=exif.tobytes()))
    expected = TURNS[orientation](scene())
    assert rgb.shape == expected.shape
    np.testing.assert_allclose(corners(rgb), corners(expected), atol=12)


def test_orientation_holds_for_reduced_pictures_too():
    exif = Image.Exif()
    exif[0x0112] = 8
    rgb = load(encoded(np.rot90(scene(900, 1200), -1), "JPEG", exif=exif), max_side=200)
    assert rgb.shape == (150, 200, 3)
    assert_scene(rgb)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_does_not_cost_the_picture():
    data = encoded(scene(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff broken")
    assert_scene(load(data))


@pytest.mark.parametrize("extension", [".png", ".tiff"])
def test_sixteen_bits_are_scaled_not_clipped(extension):
    ramp = np.tile(np.linspace(0, 65535, 256, dtype=np.uint16), (64, 1))
    for array in (ramp, np.dstack([ramp] * 3)):
        rgb = load(by_opencv(array, extension))
        expected = np.broadcast_to(np.arange(256)[None, :, None], rgb.shape)
        np.testing.assert_allclose(rgb.astype(int), expected, atol=1)


def test_thirty_two_bits_are_refused():
    with pytest.raises(ImageRefused, match="32 bits per channel"):
        load(by_opencv(np.zeros((100, 100), np.float32), ".tiff"))


def test_cmyk_looks_as_it_does_in_print():
    cmyk = Image.fromarray(scene()).convert("CMYK")
    assert_scene(load(encoded(cmyk, "JPEG", **EXACT)))  # stored inverted, as Adobe does
    assert_scene(load(encoded(cmyk, "TIFF")))


@pytest.mark.parametrize("mode", ["P", "L", "LA", "1", "RGBA", "PA"])
def test_other_modes_become_rgb(mode):
    picture = Image.fromarray(scene())
    expected = np.asarray(picture.convert(mode).convert("RGB"))
    rgb = load(encoded(picture.convert(mode), "TIFF" if mode == "PA" else "PNG"))
    np.testing.assert_array_equal(rgb, expected)


def test_transparent_parts_lie_on_white():
    rgba = np.dstack([scene(), np.full((120, 160), 255, np.uint8)])
    rgba[:60, :80, 3] = 0
    rgba[:60, 80:, 3] = 128
    for kind in ("PNG", "WEBP", "TIFF"):
        seen = corners(load(encoded(rgba, kind, **({"lossless": True} if kind == "WEBP" else {}))))
        np.testing.assert_allclose(seen[0], 255, atol=1)
        np.testing.assert_allclose(seen[1], (147, 217, 147), atol=2)
        np.testing.assert_allclose(seen[2], (40, 40, 190), atol=1)


def test_a_transparent_colour_lies_on_white():
    palette = Image.fromarray(scene()).quantize(8)
    red = palette.getpixel((10, 10))
    np.testing.assert_array_equal(corners(load(encoded(palette, "PNG", transparency=red)))[0], 255)
    data = encoded(scene(), "PNG", transparency=(200, 40, 40))
    np.testing.assert_array_equal(corners(load(data))[0], 255)


@pytest.mark.parametrize("kind", ["WEBP", "TIFF", "PNG", "HEIF"])
def test_of_several_frames_the_first_is_taken(kind):
    others = [Image.fromarray(255 - scene()), Image.fromarray(scene()[::-1].copy())]
    assert_scene(load(encoded(scene(), kind, save_all=True, append_images=others)))


def test_a_phone_photo_with_a_second_picture_inside_is_accepted():
    second = Image.fromarray(255 - scene(600, 800))
    data = encoded(scene(600, 800), "MPO", save_all=True, append_images=[second])
    assert_scene(load(data, max_side=160))


# --- colour profiles --------------------------------------------------------------------------

# Display P3's primaries adapted to D50 (columns: red, green, blue), as in its ICC profile.
P3_TO_XYZ = np.array(
    [[0.51512, 0.29198, 0.15710], [0.24118, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]]
)
SRGB_TO_XYZ = np.array(
    [[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]]
)


def display_p3():
    """An sRGB profile with Display P3's primaries and another name."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for index in range(struct.unpack_from(">I", data, 128)[0]):
        name, offset, _ = struct.unpack_from(">4sII", data, 132 + 12 * index)
        if name in (b"rXYZ", b"gXYZ", b"bXYZ"):
            column = P3_TO_XYZ[:, (b"rXYZ", b"gXYZ", b"bXYZ").index(name)]
            struct.pack_into(">3i", data, offset + 8, *np.round(column * 65536).astype(int))
    return bytes(data.replace("sRGB".encode("utf-16-be"), "DiP3".encode("utf-16-be")))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "HEIF"])
def test_display_p3_is_converted_to_srgb(kind):
    colour = np.array([190, 120, 110])
    linear = np.where(colour / 255 > 0.04045, ((colour / 255 + 0.055) / 1.055) ** 2.4, 0)
    there = np.linalg.inv(SRGB_TO_XYZ) @ P3_TO_XYZ @ linear
    expected = 255 * (1.055 * there ** (1 / 2.4) - 0.055)
    picture = np.full((100, 100, 3), colour, np.uint8)
    rgb = load(encoded(picture, kind, icc_profile=display_p3()))
    assert abs(expected - colour).max() > 6  # so that leaving it alone would be noticed
    np.testing.assert_allclose(rgb.mean((0, 1)), expected, atol=2.5)


def test_a_broken_colour_profile_is_ignored():
    np.testing.assert_array_equal(load(encoded(scene(), "PNG", icc_profile=b"junk" * 40)), scene())
    cut = display_p3()[:200]
    np.testing.assert_array_equal(load(encoded(scene(), "PNG", icc_profile=cut)), scene())


def test_an_srgb_profile_changes_nothing():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    np.testing.assert_array_equal(load(encoded(scene(), "PNG", icc_profile=profile)), scene())


# --- size -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMATS)
def test_large_pictures_are_reduced_and_small_ones_left_alone(kind):
    data = encoded(scene(750, 1000), kind)
    assert load(data).shape == (750, 1000, 3)
    for max_side, shape in ((400, (300, 400, 3)), (130, (98, 130, 3))):
        rgb = load(data, max_side)
        assert rgb.shape == shape
        assert_scene(rgb)


def test_reduction_averages_and_does_not_alias():
    checks = np.indices((1200, 1200)).sum(0) % 2 * 255
    rgb = load(encoded(np.dstack([checks] * 3).astype(np.uint8), "PNG"), max_side=300)
    assert 126 <= rgb.min() and rgb.max() <= 129


def test_bands_join_without_a_seam(monkeypatch):
    rng = np.random.default_rng(0)
    data = encoded(rng.integers(0, 256, (1000, 700, 3), dtype=np.uint8), "PNG")
    whole = load(data, 250)
    monkeypatch.setattr(images, "BAND_PIXELS", 20_000)
    np.testing.assert_array_equal(load(data, 250), whole)


# --- what is refused --------------------------------------------------------------------------


def not_pictures():
    picture = Image.fromarray(scene())
    yield "gif", encoded(picture, "GIF")
    yield "ico", encoded(picture, "ICO")
    yield "ppm", encoded(picture, "PPM")
    yield "jpeg 2000", encoded(picture, "JPEG2000")
    yield "pdf", encoded(picture, "PDF")
    yield "eps", encoded(picture, "EPS")
    yield "svg", b'<svg xmlns="http://www.w3.org/2000/svg" width="90" height="90"/>'
    yield "html", b"<!doctype html><script>alert(1)</script>"
    yield "text", b"patient: Jane Doe\n" * 50
    yield "zip", b"PK\x03\x04" + bytes(200)
    yield "dicom", bytes(128) + b"DICM" + bytes(400)
    yield "dicom that begins like a TIFF", b"II*\0" + bytes(124) + b"DICM" + bytes(400)
    yield "video", b"\0\0\0\x20ftypisom" + bytes(400)
    yield "avif", b"\0\0\0\x20ftypavif\0\0\0\0avifmif1miaf" + bytes(400)
    yield "avif named mif1", b"\0\0\0\x20ftypmif1\0\0\0\0mif1avifmiaf" + bytes(400)
    yield "wave sound", b"RIFF\x24\0\0\0WAVEfmt " + bytes(40)
    yield "one byte", b"\xff"


@pytest.mark.parametrize("data", [pytest.param(d, id=name) for name, d in not_pictures()])
def test_other_files_are_refused_with_the_accepted_formats(data, tmp_path):
    path = tmp_path / "lesion.jpg"
    path.write_bytes(data)
    with pytest.raises(ImageRefused, match=images.ACCEPTED) as refusal:
        load(path)
    assert "Jane" not in str(refusal.value)


def test_a_raw_file_is_not_mistaken_for_its_thumbnail():
    with pytest.raises(ImageRefused, match="thumbnail"):
        load(encoded(scene(), "TIFF", tiffinfo={254: 1}))


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_files_are_refused(kind, share):
    rng = np.random.default_rng(1)
    data = encoded(rng.integers(0, 256, (200, 300, 3), dtype=np.uint8), kind)
    with pytest.raises(ImageRefused, match="incomplete or damaged"):
        load(data[: int(len(data) * share)])


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("kind", FORMATS)
def test_a_bare_signature_is_refused(kind):
    data = encoded(scene(), kind)
    with pytest.raises(ImageRefused):
        load(data[:16])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", FORMATS)
def test_damage_never_ends_in_another_error(kind):
    """Random bytes changed: the result is a picture or a refusal, never anything else."""
    exif = Image.Exif()
    exif[0x0112] = 3
    options = {} if kind == "BMP" else {"exif": exif, "icc_profile": display_p3()}
    data = encoded(scene(70, 90), kind, **options)
    rng = np.random.default_rng(2)
    for _ in range(60):
        broken = bytearray(data)
        for place in rng.integers(0, min(len(data), rng.choice([64, 700, len(data)])), 8):
            broken[place] = rng.integers(256)
        try:
            assert load(bytes(broken)).dtype == np.uint8
        except ImageRefused:
            pass


def test_an_empty_file_is_refused(tmp_path):
    path = tmp_path / "empty.jpg"
    path.touch()
    for source in (b"", path, io.BytesIO()):
        with pytest.raises(ImageRefused, match="empty"):
            load(source)


def test_a_file_over_the_limit_is_refused_without_reading_it_all(tmp_path):
    path = tmp_path / "huge.png"
    with open(path, "wb") as file:
        file.write(encoded(scene(), "PNG"))
        file.truncate(20 * 2**30)  # sparse: takes no room on the disk
    for source in (path, open(path, "rb"), bytes(images.MAX_BYTES + 1)):
        with pytest.raises(ImageRefused, match="larger than 25 MB"):
            load(source)
        if hasattr(source, "close"):
            source.close()


def test_a_file_of_just_the_limit_is_accepted():
    data = encoded(scene(), "PNG")
    assert_scene(load(data + bytes(images.MAX_BYTES - len(data))))


def test_missing_files_folders_and_devices_are_refused(tmp_path):
    with pytest.raises(ImageRefused, match="cannot be opened"):
        load(tmp_path / "nowhere.jpg")
    with pytest.raises(ImageRefused, match="not a file"):
        load(tmp_path)
    if Path("/dev/zero").exists():
        with pytest.raises(ImageRefused, match="not a file"):
            load("/dev/zero")


@pytest.mark.parametrize("size", [(1, 1), (63, 500), (500, 63)])
def test_tiny_pictures_are_refused(size):
    with pytest.raises(ImageRefused, match="too small"):
        load(encoded(scene(*size), "PNG"))


def test_the_smallest_picture_is_accepted():
    assert load(encoded(scene(64, 64), "PNG")).shape == (64, 64, 3)


def test_long_and_narrow_pictures_are_refused():
    with pytest.raises(ImageRefused, match="too long and narrow"):
        load(encoded(scene(70, 710), "PNG"))


def png(width, height, rows):
    """An 8-bit RGB PNG, written row by row so that no test holds a huge picture."""

    def chunk(name, body):
        crc = zlib.crc32(name + body)
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packer = zlib.compressobj(1)
    body = b"".join(packer.compress(row) for row in rows) + packer.flush()
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.filterwarnings("ignore:Image size")
@pytest.mark.parametrize("side", [11_000, 50_000, 2**31 - 1])
def test_a_bomb_is_refused_from_its_header(side):
    with pytest.raises(ImageRefused, match="more than 110 megapixels"):
        load(png(side, side, []))


def test_costly_formats_have_a_lower_limit():
    data = bytearray(encoded(np.zeros((100, 100, 3), np.uint8), "TIFF"))
    place = data.find(struct.pack("<HHII", 256, 4, 1, 100))  # the tag of the width
    assert place > 0
    data[place + 8 : place + 12] = struct.pack("<I", 900_000)
    with pytest.raises(ImageRefused, match="more than 50 megapixels"):
        load(bytes(data))


def test_a_tiff_of_one_giant_tile_is_refused():
    tile = by_opencv(scene(), ".tiff")
    with Image.open(io.BytesIO(tile)) as picture:
        picture.tag_v2[322], picture.tag_v2[323] = 32768, 32768
        with pytest.raises(ImageRefused, match="more than 50 megapixels"):
            images._check_cost(picture)


def test_a_jpeg_of_endless_scans_is_refused():
    data = encoded(scene(), "JPEG", progressive=True)
    scan = data[data.rfind(b"\xff\xda") : -2]
    assert_scene(load(data))
    with pytest.raises(ImageRefused, match="unusual"):
        load(data[:-2] + scan * 5000 + data[-2:])


def test_a_jpeg_of_countless_exif_segments_is_refused():
    data = encoded(scene(), "JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", 18) + b"Exif\0\0" + bytes(10)
    assert_scene(load(data[:2] + segment * 40 + data[2:]))
    with pytest.raises(ImageRefused, match="unusual"):
        load(data[:2] + segment * 50_000 + data[2:])


@pytest.mark.parametrize("order", "<>")
def test_a_tiff_of_countless_strips_is_refused(order):
    """Each would become an object as soon as the file is opened."""
    tags = [(256, 64), (257, 64), (258, 8), (259, 1), (262, 1), (277, 1), (278, 64), (279, 4096)]
    strips = 300_000
    entries = [struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags]
    entries.insert(5, struct.pack(f"{order}HHII", 273, 1, strips, 8))
    start = 8 + strips
    ifd = struct.pack(f"{order}H", len(entries)) + b"".join(entries) + bytes(4)
    mark = b"II*\0" if order == "<" else b"MM\0*"
    data = mark + struct.pack(f"{order}I", start) + bytes(strips) + ifd + bytes(4096)
    with pytest.raises(ImageRefused, match="unusual"):
        load(data)


@pytest.mark.parametrize("start", [2**32 - 1, 0, 7])
def test_a_tiff_without_its_directory_is_refused(start):
    with pytest.raises(ImageRefused, match="damaged"):
        load(b"II*\0" + struct.pack("<I", start) + bytes(100))


def test_a_bmp_that_python_would_unpack_is_refused():
    side = 128
    pixels = (b"\1\0" + b"\0\0") * side + b"\0\1"  # a pixel, then the end of the line
    start = 14 + 40 + 1024
    header = struct.pack("<2sIHHI", b"BM", start + len(pixels), 0, 0, start)
    header += struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(pixels), 0, 0, 256, 0)
    with pytest.raises(ImageRefused, match="BMP file is compressed"):
        load(header + bytes(1024) + pixels)


# --- resources --------------------------------------------------------------------------------

MEASURED = """
import sys
from dermsa import images
print(*images.load(sys.argv[1]).shape)
print(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
"""


def in_a_process(code, *arguments):
    root = Path(dermsa.__file__).parents[1]
    command = [sys.executable, "-c", code, *map(str, arguments)]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=50)
    assert run.returncode == 0, run.stderr
    return run.stdout.split()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read in /proc")
@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_the_largest_pictures_fit_in_a_gigabyte(kind, tmp_path):
    # VmHWM, not getrusage: the latter inherits the peak of whoever started the process.
    path = tmp_path / "large"
    if kind == "png":
        row = b"\0" + bytes((200, 120, 100)) * 10_000
        path.write_bytes(png(10_000, 10_000, (row for _ in range(10_000))))
    elif kind == "jpeg":
        Image.new("L", (10_000, 10_000), 120).save(path, "JPEG")
    else:
        Image.new("RGB", (8064, 6048), (200, 120, 100)).save(path, "WEBP", lossless=True, method=0)
    height, width, _, kilobytes = map(int, in_a_process(MEASURED, path))
    assert max(height, width) == 1600
    assert kilobytes < 2**20


def test_nothing_heavy_is_imported():
    code = "import sys, dermsa.images; print(*{m.split('.')[0] for m in sys.modules})"
    loaded = in_a_process(code)
    assert not {"streamlit", "keras", "tensorflow", "pandas", "torch"} & set(loaded)


def test_threads_do_not_disturb_each_other():
    rng = np.random.default_rng(3)
    files = [
        encoded(rng.integers(0, 256, (300, 400, 3), dtype=np.uint8), kind) for kind in FORMATS * 3
    ]
    alone = [load(data, 200) for data in files]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda data: load(data, 200), files))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


# --- the model's view -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (450, 600, (0, 0, 450, 600)),
        (600, 450, (0, 0, 600, 450)),
        (500, 500, (0, 0, 500, 500)),
        (300, 600, (0, 100, 300, 400)),
        (900, 300, (250, 0, 400, 300)),
        (1067, 1600, (0, 89, 1067, 1422)),
    ],
)
def test_crop_box_cuts_what_is_longer_than_four_to_three(height, width, expected):
    assert crop_box(height, width) == expected


def test_crop_box_lies_inside_and_centred_for_all_shapes():
    for height in range(1, 90):
        for width in range(1, 90):
            top, left, h, w = crop_box(height, width)
            assert 0 <= top and top + h <= height and 0 <= left and left + w <= width
            assert h >= 1 and w >= 1 and (h == height or w == width)
            assert abs(height - h - 2 * top) <= 1 and abs(width - w - 2 * left) <= 1


@pytest.mark.parametrize("size", [(224, 224), (299, 224), (64, 480)])
def test_model_input_has_the_size_asked_for(size):
    rgb = to_model_input(scene(450, 600), size)
    assert rgb.shape == (*size, 3) and rgb.dtype == np.uint8
    assert_scene(rgb, tolerance=0)


def test_model_input_is_the_crop_and_always_the_same():
    rng = np.random.default_rng(4)
    rgb = rng.integers(0, 256, (300, 700, 3), dtype=np.uint8)
    top, left, height, width = crop_box(300, 700)
    seen = to_model_input(rgb, (height, width))
    np.testing.assert_array_equal(seen, rgb[top : top + height, left : left + width])
    np.testing.assert_array_equal(to_model_input(rgb, (90, 90)), to_model_input(rgb, (90, 90)))


def test_model_input_never_shares_memory_with_the_picture():
    rgb = scene(300, 400)
    to_model_input(rgb, (300, 400))[:] = 0
    np.testing.assert_array_equal(rgb, scene(300, 400))
