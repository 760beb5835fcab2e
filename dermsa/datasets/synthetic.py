"""Drawn skin lesions that look a little like dermoscopic photos, for tests and for trying the app.

Nothing here comes from a patient, and nothing here can teach a model medicine. A picture is skin
seen through layers of pigment: each layer weakens red, green and blue in its own proportion
(Beer and Lambert's law), so overlapping layers mix as they do in skin. What makes the seven
diagnoses look different follows the signs that dermoscopy names: the network of a nevus, the
disorder of a melanoma, the branching vessels of a basal cell carcinoma, and so on.
"""

import csv
from pathlib import Path

import cv2
import numpy as np

from dermsa.taxonomy import HAM10000_CLASSES, ISIC2017_CLASSES, LOCALIZATIONS, UNKNOWN

# What one unit of each pigment takes from red, green and blue (as an exponent).
MELANIN = np.array([0.75, 1.20, 1.60], np.float32)  # in the upper skin: brown
DEEP = np.array([1.30, 1.00, 0.62], np.float32)  # melanin deep in the skin: blue-grey
BLOOD = np.array([0.28, 1.45, 1.15], np.float32)

SKIN_TONES = ((218, 192, 205), (236, 208, 186), (232, 172, 164), (226, 214, 222), (216, 180, 152))
SCALE_COLOUR = np.array([246, 236, 224], np.float32)  # scar, scales, milia
HAIR_COLOURS = ((52, 34, 26), (84, 58, 40), (30, 24, 24))


def draw_lesion(
    diagnosis: str, seed: int, size: tuple[int, int] = (336, 448)
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one lesion; the same arguments always give the same picture.

    Args:
        diagnosis: the code of one of the seven diagnoses, such as `"mel"`.
        seed: which of the endless lesions of that diagnosis.
        size: `(height, width)` in pixels, each at least 32.

    Returns:
        The picture, uint8 `(height, width, 3)`, RGB, and the lesion, bool `(height, width)`.

    Raises:
        ValueError: the code is unknown or the size too small.
    """
    if diagnosis not in PAINTERS:
        raise ValueError(f"Expected one of {', '.join(PAINTERS)}. Received: {diagnosis!r}")
    if min(size) < 32:
        raise ValueError(f"Expected a size of at least 32 x 32 pixels. Received: {size}")
    rng = np.random.default_rng([HAM10000_CLASSES.index(diagnosis), seed])
    canvas = Canvas(rng, size)
    _paint_skin(canvas)
    depth = PAINTERS[diagnosis](canvas)
    return canvas.photograph(), depth > 0


def write_ham10000(
    folder: str | Path,
    lesions_per_class: int,
    seed: int = 0,
    size: tuple[int, int] = (336, 448),
) -> Path:
    """Write drawn lesions as a folder laid out like HAM10000.

    Every third lesion has a second photo; some ages, sexes and localizations are unknown.

    Args:
        folder: where to write; made if missing. Files of the same name are replaced.
        lesions_per_class: how many lesions of each of the seven diagnoses.
        seed: the same seed gives the same files.
        size: `(height, width)` of the photos in pixels.

    Returns:
        The folder, which then holds `HAM10000_metadata.csv`, `HAM10000_images/SYN_*.jpg` and
        `HAM10000_segmentations/SYN_*_segmentation.png`.

    Raises:
        ValueError: less than one lesion per class, or a size that is too small.
    """
    if lesions_per_class < 1:
        raise ValueError(f"Expected at least 1 lesion per class. Received: {lesions_per_class}")
    folder = Path(folder)
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(lesions_per_class * len(HAM10000_CLASSES)):
        diagnosis = HAM10000_CLASSES[number % len(HAM10000_CLASSES)]
        lesion = _lesion_row(rng, number, diagnosis)
        photo = draw_lesion(diagnosis, int(rng.integers(2**31)), size)
        for again in range(2 if number % 3 == 0 else 1):
            image_id = f"SYN_{len(rows):07d}"
            _write_photo(folder, image_id, *(_second_look(rng, *photo) if again else photo))
            rows.append(lesion | {"image_id": image_id})
    with open(folder / "HAM10000_metadata.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


def write_isic2017(
    folder: str | Path,
    lesions_per_class: int,
    seed: int = 0,
    size: tuple[int, int] = (256, 256),
) -> Path:
    """Write drawn lesions as a folder laid out like the training part of ISIC 2017, part 3.

    Args:
        folder, lesions_per_class, seed, size: as in `write_ham10000`; one photo a lesion.

    Returns:
        The folder, with `ISIC-2017_Training_Data/`, its metadata, the ground truth of part 3 and
        the masks of part 1.
    """
    folder = Path(folder)
    photos, masks = folder / "ISIC-2017_Training_Data", "ISIC-2017_Training_Part1_GroundTruth"
    rng = np.random.default_rng(seed)
    patients, truth = [], []
    for number in range(lesions_per_class * len(ISIC2017_CLASSES)):
        code, image_id = ISIC2017_CLASSES[number % len(ISIC2017_CLASSES)], f"SYN_{number:07d}"
        rgb, mask = draw_lesion("bkl" if code == "sk" else code, int(rng.integers(2**31)), size)
        _write_picture(photos / f"{image_id}.jpg", rgb)
        _write_picture(folder / masks / f"{image_id}_segmentation.png", mask)
        patient = _lesion_row(rng, number, code)
        patients.append([image_id, patient["age"] or UNKNOWN, patient["sex"]])
        truth.append([image_id, float(code == "mel"), float(code == "sk")])
    header = ["image_id", "age_approximate", "sex"]
    _write_csv(folder / "ISIC-2017_Training_Data_metadata.csv", [header, *patients])
    header = ["image_id", "melanoma", "seborrheic_keratosis"]
    _write_csv(folder / "ISIC-2017_Training_Part3_GroundTruth.csv", [header, *truth])
    return folder


def write_isic2018_test(
    folder: str | Path,
    lesions_per_class: int,
    seed: int = 1,
    size: tuple[int, int] = (336, 448),
) -> Path:
    """Write drawn lesions as a folder laid out like the official test part of ISIC 2018, task 3.

    Args:
        folder, lesions_per_class, seed, size: as in `write_ham10000`; one photo a lesion.

    Returns:
        The folder, with `ISIC2018_Task3_Test_Input/` and the challenge's ground truth.
    """
    folder = Path(folder)
    rng = np.random.default_rng(seed)
    rows = [["image", *(code.upper() for code in HAM10000_CLASSES)]]
    for number in range(lesions_per_class * len(HAM10000_CLASSES)):
        code, image_id = HAM10000_CLASSES[number % len(HAM10000_CLASSES)], f"SYT_{number:07d}"
        rgb, _ = draw_lesion(code, int(rng.integers(2**31)), size)
        _write_picture(folder / "ISIC2018_Task3_Test_Input" / f"{image_id}.jpg", rgb)
        rows.append([image_id, *(float(code == other) for other in HAM10000_CLASSES)])
    _write_csv(folder / "ISIC2018_Task3_Test_GroundTruth.csv", rows)
    return folder


class Canvas:
    """Skin with its pigments, in coordinates where the shorter side is 2 long.

    `melanin`, `deep` and `blood` are amounts of pigment, 0 and up; `pale` is how much of the
    surface is covered by scales or scar, 0 to 1; all float32 `(height, width)`.
    """

    def __init__(self, rng: np.random.Generator, size: tuple[int, int]):
        self.rng, self.size = rng, size
        y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
        self.unit = min(size) / 2
        centre = np.array(size[::-1]) / 2 + rng.uniform(-0.15, 0.15, 2) * self.unit
        self.centre = centre.astype(np.float32)
        self.x, self.y = (x - self.centre[0]) / self.unit, (y - self.centre[1]) / self.unit
        self.skin = np.array(SKIN_TONES[rng.integers(len(SKIN_TONES))], np.float32)
        self.skin = self.skin + rng.normal(0, 5, 3).astype(np.float32)
        self.melanin, self.deep, self.blood, self.pale = np.zeros((4, *size), np.float32)

    def noise(self, grain: float) -> np.ndarray:
        """Smooth noise of mean 0 and deviation about 1, whose spots are about `grain` wide."""
        height, width = (int(np.ceil(side / self.unit / grain)) + 3 for side in self.size)
        coarse = self.rng.normal(0, 1.4, (height, width)).astype(np.float32)
        step = grain * self.unit
        fine = cv2.resize(coarse, None, fx=step, fy=step, interpolation=cv2.INTER_CUBIC)
        margin = int(step)  # the outermost spots are half a spot
        return fine[margin : margin + self.size[0], margin : margin + self.size[1]]

    def rough(self, grain: float, octaves: int = 4) -> np.ndarray:
        """Noise with detail at every scale from `grain` down, as coastlines have."""
        return sum(self.noise(grain / 2**i) * 0.55**i for i in range(octaves)) * 0.8

    def blob(self, radius: float, wobble: float, stretch: float = 1.2, at=(0.0, 0.0)) -> np.ndarray:
        """Depth inside a rounded, `wobble`-edged shape: 1 in its centre, 0 on its border."""
        angle = self.rng.uniform(0, np.pi)
        x, y = self.x - at[0], self.y - at[1]
        along = (x * np.cos(angle) + y * np.sin(angle)) / stretch**0.5
        across = (y * np.cos(angle) - x * np.sin(angle)) * stretch**0.5
        return 1 - np.hypot(along, across) / radius + wobble * self.rough(radius * 0.7)

    def cells(self, spacing: float, jitter: float = 0.8) -> tuple[np.ndarray, ...]:
        """Scatter points about `spacing` apart: distances to the nearest two, and its own number.

        Distances are in units of `spacing`; the number is random in 0 to 1, one for each point.
        """
        columns = (self.x - self.x.min()) / spacing
        rows = (self.y - self.y.min()) / spacing
        shape = (int(rows.max()) + 4, int(columns.max()) + 4)
        down, across = self.rng.uniform(-jitter / 2, jitter / 2, (2, *shape)).astype(np.float32)
        down += np.arange(shape[0], dtype=np.float32)[:, None] - 0.5
        # Every other row is moved by half a step, so that the cells are six-sided.
        across += np.arange(shape[1], dtype=np.float32) - 0.75
        across[1::2] += 0.5
        home = rows.astype(np.int32) * shape[1] + columns.astype(np.int32)
        first, second = np.full((2, *self.size), 99, np.float32)
        nearest = np.zeros(self.size, np.int32)
        for neighbour in (i * shape[1] + j for i in range(3) for j in range(3)):
            point = home + neighbour
            distance = (rows - down.take(point)) ** 2 + (columns - across.take(point)) ** 2
            nearer = distance < first
            second = np.where(nearer, first, np.minimum(second, distance))
            nearest = np.where(nearer, point, nearest)
            first = np.minimum(first, distance)
        number = self.rng.uniform(0, 1, shape).astype(np.float32).take(nearest)
        return np.sqrt(first), np.sqrt(second), number

    def photograph(self) -> np.ndarray:
        """What the camera sees, uint8 RGB, with hairs, a lens and grain."""
        taken = sum(
            np.maximum(amount, 0)[..., None] * pigment
            for amount, pigment in (
                (self.melanin, MELANIN),
                (self.deep, DEEP),
                (self.blood, BLOOD),
            )
        )
        rgb = self.skin * np.exp(-taken)
        pale = np.clip(self.pale, 0, 1)[..., None]
        rgb = rgb * (1 - pale) + SCALE_COLOUR * pale
        rgb = cv2.GaussianBlur(rgb, (0, 0), 0.002 * self.unit + 0.1)
        _draw_hairs(self, rgb)
        radius = np.hypot(self.x, self.y)
        rgb *= (1.04 - 0.07 * radius**2 + 0.02 * self.noise(1.2))[..., None]
        if self.rng.random() < 0.2:  # the round window of the dermatoscope
            rgb *= inside((self.rng.uniform(1.3, 1.6) - radius), 0.012)[..., None]
        rgb += cv2.GaussianBlur(self.rng.normal(0, 5, (*self.size, 3)), (0, 0), 0.6)
        return np.clip(rgb, 0, 255).astype(np.uint8)


def inside(depth: np.ndarray, softness: float) -> np.ndarray:
    """From 0 outside to 1 inside, over a border about `softness` wide."""
    return 1 / (1 + np.exp(np.clip(-depth / softness, -30, 30)))


# --- the seven diagnoses: each paints its pigments and returns the depth inside the lesion ------


def _paint_nevus(canvas: Canvas) -> np.ndarray:
    """Round, symmetric, one or two browns, a regular network that fades at the border."""
    rng = canvas.rng
    depth = canvas.blob(rng.uniform(0.3, 0.55), 0.07, rng.uniform(1.05, 1.5))
    body = inside(depth, rng.uniform(0.04, 0.10))
    canvas.melanin += body * (0.55 + rng.uniform(0.3, 0.9) * np.clip(depth, 0, 1))
    canvas.melanin += body * 0.08 * canvas.rough(0.15)
    canvas.blood += 0.22 * body
    if rng.random() < 0.7:
        _add_network(canvas, inside(depth + 0.06, 0.07), rng.uniform(0.04, 0.06), 0.5)
    else:
        _add_globules(canvas, inside(depth - 0.05, 0.05), 0.07, 0.6)
    return depth


def _paint_melanoma(canvas: Canvas) -> np.ndarray:
    """Asymmetric, jagged, many colours: browns, black, a blue-white veil, red and scar-like."""
    rng = canvas.rng
    turn, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.22, 0.34)
    side = np.array([np.cos(turn), np.sin(turn)]) * reach
    first = canvas.blob(rng.uniform(0.42, 0.58), 0.20, rng.uniform(1.1, 1.6), side * 0.5)
    second = canvas.blob(rng.uniform(0.28, 0.42), 0.2, rng.uniform(1.1, 1.8), -side)
    depth = np.maximum(first, second)
    body = inside(depth, 0.03)
    lopsided = (canvas.x * side[0] + canvas.y * side[1]) / reach
    dark = np.clip(0.7 + 0.9 * lopsided + 0.6 * canvas.rough(0.3), 0, 2.0)
    canvas.melanin += body * (0.45 + 0.75 * dark)
    canvas.blood += body * np.clip(0.3 + 0.35 * canvas.noise(0.35), 0, 1)
    _add_network(canvas, inside(depth, 0.05), 0.075, 0.6, jitter=1.0)
    _add_globules(canvas, inside(depth + 0.05, 0.06), 0.085, 1.1)
    veil = inside(canvas.blob(0.26, 0.22, 1.4, side * rng.uniform(0.2, 1.0)), 0.2) * body
    canvas.melanin *= 1 - 0.55 * veil
    canvas.deep += veil * (0.75 + 0.15 * canvas.rough(0.15))
    canvas.pale += 0.16 * veil
    if rng.random() < 0.6:  # regression
        scar = inside(canvas.blob(0.22, 0.3, 1.5, -side * rng.uniform(0.6, 1.1)), 0.15) * body
        canvas.melanin *= 1 - 0.8 * scar
        canvas.pale += 0.3 * scar
        canvas.deep += 0.15 * scar * (canvas.cells(0.03)[0] < 0.3)
    return depth


def _paint_keratosis(canvas: Canvas) -> np.ndarray:
    """Sharply bordered and stuck on, waxy brown, with ridges, milia and dark openings."""
    rng = canvas.rng
    depth = canvas.blob(rng.uniform(0.4, 0.65), 0.12, rng.uniform(1.1, 1.6))
    body = inside(depth, 0.018)
    folds = np.abs(canvas.noise(0.14) + 0.5 * canvas.noise(0.07))
    canvas.melanin += body * np.clip(rng.uniform(0.3, 0.8) + 0.2 * canvas.rough(0.25), 0.15, None)
    canvas.melanin += body * 0.5 * np.exp(-folds * 5)  # fissures
    canvas.melanin += 0.25 * inside(depth, 0.018) * inside(-depth + 0.06, 0.02)  # raised rim
    canvas.blood += 0.12 * body
    distance, _, number = canvas.cells(0.11, 1.0)
    deep_inside = inside(depth - 0.12, 0.03)
    openings = inside(0.20 - distance, 0.05) * (number < 0.18) * deep_inside
    milia = inside(0.16 - distance, 0.05) * (number > 0.80) * deep_inside
    canvas.melanin += 1.6 * openings
    canvas.melanin *= 1 - 0.6 * milia
    canvas.pale += 0.55 * milia
    return depth


def _paint_basal_cell_carcinoma(canvas: Canvas) -> np.ndarray:
    """Pearly pink, sharp branching vessels, blue-grey nests and a small crusted ulcer."""
    rng = canvas.rng
    depth = canvas.blob(rng.uniform(0.38, 0.6), 0.12, rng.uniform(1.0, 1.4))
    body = inside(depth, 0.06)
    canvas.blood += body * (0.36 + 0.10 * canvas.rough(0.25))
    canvas.pale += body * np.clip(0.18 + 0.07 * canvas.rough(0.2), 0, 1)
    for _ in range(rng.integers(2, 8)):
        at = rng.uniform(-0.32, 0.32, 2)
        nest = inside(canvas.blob(rng.uniform(0.05, 0.15), 0.2, rng.uniform(1, 2), at), 0.25)
        canvas.deep += nest * body * rng.uniform(0.5, 1.1)
        canvas.melanin += nest * body * rng.uniform(0.1, 0.7)
    canvas.blood += 1.3 * _vessels(canvas, depth, trees=int(rng.integers(4, 8)))
    if rng.random() < 0.6:
        ulcer = inside(canvas.blob(0.11, 0.3, 1.5, rng.uniform(-0.2, 0.2, 2)), 0.06)
        canvas.blood += 1.0 * ulcer
        canvas.melanin += ulcer * np.clip(0.5 + 0.5 * canvas.rough(0.06), 0, 2)
    return depth


def _paint_actinic_keratosis(canvas: Canvas) -> np.ndarray:
    """A vague red patch, a red mesh around pale follicles, and dry white scales."""
    rng = canvas.rng
    depth = canvas.blob(rng.uniform(0.5, 0.75), 0.24, rng.uniform(1.1, 1.5))
    body = inside(depth, 0.16)
    canvas.blood += body * np.clip(0.42 + 0.2 * canvas.rough(0.3), 0, 1.5)
    canvas.melanin += body * np.clip(0.12 + 0.28 * canvas.rough(0.35), 0, 1)
    distance, _, number = canvas.cells(0.075, 0.9)
    follicles = inside(0.27 - distance, 0.06) * (number > 0.3) * inside(depth - 0.05, 0.1)
    canvas.blood *= 1 - 0.5 * follicles
    canvas.pale += 0.22 * follicles
    scales = inside(canvas.rough(0.14) - 1.15, 0.25) * inside(depth - 0.1, 0.1)
    canvas.pale += scales * np.clip(0.5 + 0.15 * canvas.noise(0.03), 0, 0.8)
    canvas.melanin += 0.3 * scales * np.clip(canvas.noise(0.05), 0, 1)
    return depth


def _paint_dermatofibroma(canvas: Canvas) -> np.ndarray:
    """A white scar-like centre in a ring of delicate light brown network."""
    rng = canvas.rng
    depth = canvas.blob(rng.uniform(0.36, 0.5), 0.08, rng.uniform(1.0, 1.25))
    body = inside(depth, 0.14)
    scar = inside(depth - rng.uniform(0.45, 0.65) + 0.10 * canvas.rough(0.2), 0.11)
    canvas.melanin += body * (0.24 + 0.10 * canvas.rough(0.25)) * (1 - 0.8 * scar)
    canvas.blood += body * 0.22 + 0.08 * scar
    _add_network(canvas, body * (1 - scar), rng.uniform(0.045, 0.06), 0.32)
    strands = np.exp(-np.abs(canvas.noise(0.10)) * 5)
    canvas.pale += scar * (0.36 + 0.18 * strands)
    return depth


def _paint_vascular(canvas: Canvas) -> np.ndarray:
    """Red, purple or black lakes of blood, side by side, parted by pale walls."""
    rng = canvas.rng
    depth = canvas.blob(rng.uniform(0.3, 0.5), 0.12, rng.uniform(1.0, 1.5))
    body = inside(depth, 0.035)
    blue = rng.uniform(0, 0.5)  # how far blood has darkened to purple and black
    for spacing, share in ((rng.uniform(0.18, 0.26), 1.0), (rng.uniform(0.09, 0.12), 0.5)):
        first, second, number = canvas.cells(spacing, 1.0)
        edge = np.minimum(0.28 + 0.22 * number - first, (second - first) / 2 - 0.03)
        lakes = inside(edge + 0.05 * canvas.rough(spacing / 2), 0.05) * (number < share)
        lakes *= inside(depth + 0.04, 0.04)
        canvas.blood += lakes * (0.5 + 0.7 * number)
        canvas.deep += lakes * (0.15 + (1.2 * blue + 0.5) * np.clip(number + blue - 0.6, 0, 1))
    canvas.blood += body * (0.5 + 0.1 * canvas.rough(0.2))
    canvas.blood += 0.22 * inside(depth + 0.25, 0.12)  # a reddish halo
    canvas.pale += 0.13 * body
    canvas.pale += 0.5 * body * inside(canvas.noise(0.035) - 2.6, 0.15)  # wet highlights
    return depth


PAINTERS = {
    "akiec": _paint_actinic_keratosis,
    "bcc": _paint_basal_cell_carcinoma,
    "bkl": _paint_keratosis,
    "df": _paint_dermatofibroma,
    "mel": _paint_melanoma,
    "nv": _paint_nevus,
    "vasc": _paint_vascular,
}


# --- parts that several share -------------------------------------------------------------------


def _paint_skin(canvas: Canvas) -> None:
    """Tan, blush, fine furrows and sometimes freckles, before any lesion."""
    rng = canvas.rng
    canvas.melanin += np.clip(0.03 + 0.02 * canvas.rough(0.5), 0, None)
    canvas.blood += np.clip(0.03 + 0.025 * canvas.rough(0.35, 5), 0, None)
    first, second, number = canvas.cells(rng.uniform(0.045, 0.07), 1.0)
    canvas.melanin += 0.035 * np.exp(-(second - first) * 7) + 0.02 * number
    canvas.pale += np.clip(0.05 * canvas.rough(0.06, 3), 0, 0.2)
    if rng.random() < 0.5:
        distance, _, number = canvas.cells(0.25, 1.0)
        size = 0.06 + 0.9 * number
        canvas.melanin += 0.13 * inside(size - distance, 0.07) * (number < 0.2)


def _add_network(
    canvas: Canvas, where: np.ndarray, spacing: float, strength: float, jitter: float = 0.85
) -> None:
    """The honeycomb of pigment that nevi and early melanomas show."""
    first, second, _ = canvas.cells(spacing, jitter)
    lines = np.exp(-(((second - first) / 0.22) ** 2))
    canvas.melanin += strength * where * (lines - 0.35) * (0.9 + 0.25 * canvas.noise(0.3))


def _add_globules(canvas: Canvas, where: np.ndarray, spacing: float, strength: float) -> None:
    """Round clumps of pigment."""
    distance, _, number = canvas.cells(spacing, 0.9)
    canvas.melanin += strength * where * inside(0.1 + 0.2 * number - distance, 0.06)


def _vessels(canvas: Canvas, depth: np.ndarray, trees: int) -> np.ndarray:
    """Branching vessels that grow from the border inwards and thin out, 0 to 1."""
    rng = canvas.rng
    picture = np.zeros(canvas.size, np.uint8)
    reach = np.sqrt(np.mean(depth > 0) * np.ptp(canvas.x) * np.ptp(canvas.y) / np.pi)
    for _ in range(trees):
        turn = rng.uniform(0, 2 * np.pi)
        start = reach * rng.uniform(0.75, 1.05) * np.array([np.cos(turn), np.sin(turn)])
        branches = [(start, turn + np.pi + rng.normal(0, 0.6), 0.015, 0)]
        while branches:
            at, heading, thickness, level = branches.pop()
            path = [at]
            for _ in range(rng.integers(9, 18)):
                heading += rng.normal(0, 0.32)
                at = at + 0.032 * np.array([np.cos(heading), np.sin(heading)])
                path.append(at)
                if level < 3 and rng.random() < 0.15:
                    fork = heading + rng.choice([-1, 1]) * rng.uniform(0.4, 0.9)
                    branches.append((at, fork, thickness * 0.7, level + 1))
            _line(canvas, picture, path, (1.0, 0.8, 0.6, 0.4)[level], thickness)
    picture = cv2.GaussianBlur(picture, (0, 0), 0.004 * canvas.unit + 0.3)
    return picture / np.float32(255) * inside(depth, 0.08)


def _draw_hairs(canvas: Canvas, rgb: np.ndarray) -> None:
    """A few long curved hairs, or many, or none; drawn into float32 `rgb`."""
    rng = canvas.rng
    count = int(rng.choice([0, 0, 0, rng.integers(1, 6), rng.integers(5, 20)]))
    colour = np.array(HAIR_COLOURS[rng.integers(len(HAIR_COLOURS))], np.float32)
    growth = rng.uniform(0, np.pi)
    cover = np.zeros(canvas.size, np.uint8)
    for _ in range(count):
        turn = growth + rng.normal(0, 0.5) + rng.normal(0, 0.9) * np.linspace(-0.5, 0.5, 24)
        path = np.cumsum(np.stack([np.cos(turn), np.sin(turn)], 1), 0) / 24
        path = (path - path.mean(0)) * rng.uniform(0.5, 2.2) + rng.uniform(-1.2, 1.2, 2)
        _line(canvas, cover, path, rng.uniform(0.55, 0.9), rng.uniform(0.004, 0.010))
    if count:
        cover = cv2.GaussianBlur(cover, (0, 0), 0.003 * canvas.unit)[..., None]
        rgb += cover / np.float32(255) * (colour - rgb)


def _line(canvas: Canvas, picture: np.ndarray, path, value: float, thickness: float) -> None:
    """Draw a polyline given in canvas coordinates into an 8-bit picture, `value` 0 to 1."""
    pixels = np.asarray(path) * canvas.unit + canvas.centre
    points = np.round(pixels * 16).astype(np.int32).reshape(-1, 1, 2)
    width = max(1, round(thickness * canvas.unit))
    cv2.polylines(picture, [points], False, int(255 * value), width, cv2.LINE_AA, 4)


def _lesion_row(rng: np.random.Generator, number: int, diagnosis: str) -> dict[str, str]:
    """A made-up patient; about one in ten of each property is unknown."""
    known = rng.random(3) > 0.1
    sites = [site for site in LOCALIZATIONS if site != UNKNOWN]
    return {
        "lesion_id": f"SYN_L{number:06d}",
        "image_id": "",
        "dx": diagnosis,
        "dx_type": str(rng.choice(["histo", "follow_up", "consensus"])),
        "age": f"{5 * rng.integers(4, 18)}.0" if known[0] else "",
        "sex": str(rng.choice(["female", "male"])) if known[1] else UNKNOWN,
        "localization": str(rng.choice(sites)) if known[2] else UNKNOWN,
    }


def _second_look(
    rng: np.random.Generator, rgb: np.ndarray, mask: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The same lesion photographed once more: turned, a little nearer, in other light."""
    height, width = mask.shape
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(-40, 40), 1.15)
    turned = cv2.warpAffine(rgb, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    light = rng.uniform(0.88, 1.06) * rng.uniform(0.97, 1.03, 3)
    lesion = cv2.warpAffine(mask.astype(np.uint8), matrix, (width, height)) > 0
    return np.clip(turned * light, 0, 255).astype(np.uint8), lesion


def _write_photo(folder: Path, image_id: str, rgb: np.ndarray, mask: np.ndarray) -> None:
    _write_picture(folder / "HAM10000_images" / f"{image_id}.jpg", rgb)
    _write_picture(folder / "HAM10000_segmentations" / f"{image_id}_segmentation.png", mask)


def _write_picture(path: Path, picture: np.ndarray) -> None:
    """An RGB photo as JPEG, or a bool mask as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if picture.dtype == bool:
        content = cv2.imencode(".png", picture.astype(np.uint8) * 255)[1]
    else:
        content = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1]
    path.write_bytes(content.tobytes())


def _write_csv(path: Path, rows: list[list]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
