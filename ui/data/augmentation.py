"""What an augmentation recipe does to a photo."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
from pathlib import Path

import streamlit as st

from dermsa import images
from dermsa.datasets.recipes import RECIPES, STRENGTHS, Recipe
from ui.inputs import ask_for_photos

ROOT = Path(__file__).resolve().parents[2]
VARIANTS = 8
MAX_SECONDS = 180

one_at_a_time = threading.Lock()
"""Every drawing is a process with a TensorFlow of its own."""


class DrawingFailed(RuntimeError):
    """The variants could not be drawn; the message may be shown as it is."""


def show_augmentation() -> None:
    left, right = st.columns([1, 1.4], gap="medium")
    with left:
        photo = ask_for_photo()
        name, strength, seed = ask_for_recipe()
        show_steps(RECIPES[name].scaled(strength))
    with right:
        if photo is None:
            st.info("Choose a sample or upload a photo.", icon=":material/add_a_photo:")
        else:
            show_sheet(photo, name, strength, seed)


# --- what is asked ------------------------------------------------------------------------------


def ask_for_photo() -> bytes | None:
    """A picture file, or None where there is none yet or, after saying why, it cannot be used."""
    photos = ask_for_photos("Photo", "data-{}".format, ("sample", "upload"), with_patient=False)
    if not photos:
        return None
    if why := refusal(photos[0].data):
        st.error(f"{photos[0].name}: {why}", icon=":material/block:")
        return None
    return photos[0].data


@st.cache_data(max_entries=4, show_spinner=False, scope="session")
def refusal(photo: bytes) -> str:
    """Why a picture file cannot be used; "" where it can. No slider decodes it once more."""
    try:
        images.load(photo)
    except images.ImageRefused as error:
        return str(error)
    return ""


def ask_for_recipe() -> tuple[str, float, int]:
    """The recipe's name, its strength and the seed."""
    recipe, seed = st.columns([2, 1], gap="small")
    name = recipe.selectbox(
        "Recipe", list(RECIPES), index=list(RECIPES).index("strong"), key="data-recipe"
    )
    drawn = seed.number_input("Seed", 0, 9999, 0, key="data-seed", help="Another seed, other draws")
    strength = st.slider(
        "Strength",
        0.0,
        2.0,
        1.0,
        0.25,
        "%.2f ×",
        key="data-strength",
        help="Factor on all strengths of the recipe. Training takes it as "
        "`--augmentation-strength`.",
    )
    st.caption(RECIPES[name].about)
    return name, strength, int(drawn)


# --- what is shown ------------------------------------------------------------------------------


def show_steps(recipe: Recipe) -> None:
    """The transformations that take part, in words, and how far each goes."""
    steps = recipe.steps()
    if not steps:
        st.info("Nothing is changed.", icon=":material/check:")
        return
    st.table(
        [
            {
                "Transformation": strength.metadata["help"].capitalize(),
                "At most": amount(steps[strength.name], strength.metadata["unit"]),
            }
            for strength in STRENGTHS
            if strength.name in steps
        ],
        border="horizontal",
        hide_index=True,
    )


def amount(value: float, unit: str) -> str:
    if unit == "°":
        return f"± {value:g}°"
    if unit == "log ratio":
        return f"{100 * math.expm1(value):.0f} % of the ratio"
    return f"{100 * value:g} % {unit}".replace("% chance", "% of photos")


def show_sheet(photo: bytes, name: str, strength: float, seed: int) -> None:
    try:
        sheet = sheet_of(photo, name, strength, seed)
    except DrawingFailed as error:
        st.error(str(error), icon=":material/error:")
        return
    st.image(sheet, width="stretch", alt=f"The photo and {VARIANTS} variants under {name}.")
    st.caption(
        f"In the frame the photo as a network sees it, squashed to a square; beside it {VARIANTS} "
        "of the variants that it is trained on."
    )
    st.download_button(
        "These pictures (PNG)",
        sheet,
        f"dermsa-augmentation-{name}.png",
        "image/png",
        on_click="ignore",
        icon=":material/download:",
        key="data-download",
    )


@st.cache_data(max_entries=16, show_spinner="Drawing the variants (some seconds)", scope="session")
def sheet_of(photo: bytes, recipe: str, strength: float, seed: int) -> bytes:
    """The sheet as a PNG file, drawn by the command line: this server never loads TensorFlow.

    Raises:
        DrawingFailed: The command ended with an error, or did not end.
    """
    # Through pipes: nothing of a photo touches the disk.
    command = [sys.executable, "-m", "dermsa", "augment", "-", "--out", "-"]
    command += ["--recipe", recipe, "--strength", str(strength), "--seed", str(seed)]
    command += ["--count", str(VARIANTS)]
    with one_at_a_time:
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                # The accelerator belongs to trainings.
                env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
                input=photo,
                capture_output=True,
                timeout=MAX_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise DrawingFailed(
                f"The variants were not drawn within {MAX_SECONDS} seconds; the machine is busy. "
                "Try again later."
            ) from None
    if done.returncode != 0:
        said = reason(done.stderr.decode(errors="replace"))
        raise DrawingFailed(f"The variants could not be drawn. {said}")
    return done.stdout


def reason(stderr: str) -> str:
    """The sentence with which the command line refused, among what libraries print."""
    said = [line for line in stderr.splitlines() if line.startswith("dermsa: ")]
    return said[-1].removeprefix("dermsa: ") if said else "The command ended without a reason."
