"""The form for a new training: a start to change, the settings that matter, and the estimate."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st

from dermsa.class_weights import CLASS_WEIGHTS
from dermsa.datasets.more_photos import MORE_PHOTOS
from dermsa.datasets.recipes import RECIPES
from dermsa.datasets.registry import DATASETS
from dermsa.datasets.splits import PROTOCOLS, protocols_of
from dermsa.inference import store
from dermsa.models import parameters
from dermsa.training import estimate, form, runs
from dermsa.training.config import LAST_LAYER, LOSSES, SCHEDULES
from dermsa.training.devices import ALL, devices
from dermsa.training.overview import duration
from dermsa.training.presets import all_presets
from dermsa.training.sampling import SAMPLING
from ui.train.table import gib

ROOT = Path(__file__).resolve().parents[2]
OWN_SETTINGS = "The defaults"
MAX_SECONDS = 180
ACROSS = 3
OPEN_GROUPS = ("Data", "Network", "Length")
LABELS = {"xla": "XLA", "start_from": "Go on from"}
# What a choice does, in a line.
EFFECTS: dict[str, Mapping[str, str]] = {
    "dataset": {name: record.title for name, record in DATASETS.items()},
    "head": {
        "soft_attention": "Attention weighs the positions; the logits split exactly into evidence.",
        "global_pooling": "No attention: the mean over all positions decides.",
        "soft_attention_dense512": "One more layer of 512: the logits no longer split.",
    },
    "protocol": PROTOCOLS,
    "more_photos": MORE_PHOTOS,
    "last_layer": LAST_LAYER,
    "loss": LOSSES,
    "class_weights": CLASS_WEIGHTS,
    "sampling": SAMPLING,
    "augmentation": {name: recipe.about for name, recipe in RECIPES.items()},
    "schedule": SCHEDULES,
    "initial_weights": {
        "imagenet": "Fine-tunes what was learnt on a million everyday photos.",
        "minimalistic": "MobileNetV3Large from its sibling without squeeze-and-excite.",
        "none": "Random weights: needs far more epochs and data.",
    },
}


class CommandFailed(RuntimeError):
    """The command line refused; the message may be shown as it is."""


def command(*arguments: str, stdin: str = "") -> Any:
    """What a command of `python -m dermsa` prints as JSON. Keras stays out of this server.

    Raises:
        CommandFailed: With the sentence that it printed.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", "dermsa", *arguments, "--json"],
            cwd=ROOT,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=MAX_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise CommandFailed(
            f"There was no answer within {MAX_SECONDS} seconds; the machine is busy. Try again."
        ) from None
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        said = [line.removeprefix("dermsa: ") for line in lines if line.startswith("dermsa: ")]
        raise CommandFailed(said[-1] if said else f"The command failed: {' '.join(lines[-1:])}")
    return json.loads(done.stdout)


@functools.cache
def catalogue() -> dict[str, dict[str, list[str]]]:
    """Heads by cut by backbone."""
    found: dict[str, dict[str, list[str]]] = {}
    for backbone, sizes in parameters.kept().items():
        for cut, head in sizes:
            found.setdefault(backbone, {}).setdefault(cut, []).append(head)
    return found


@st.cache_data(show_spinner="Reading the published training (some seconds)")
def preset(name: str) -> dict:
    """Everything of a preset, its configuration included."""
    return command("presets", name)


# --- the form -----------------------------------------------------------------------------------


def show() -> None:
    if "train-values" not in st.session_state:
        start_from(form.defaults(), "", OWN_SETTINGS)
    ask_start()
    for group, names in form.GROUPS.items():
        ask_group(group, names)
    finish()


def start_from(values: Mapping[str, Any], title: str, origin: str) -> None:
    """Fills the form with these settings.

    Streamlit forgets widgets that are not drawn, so what is entered is kept beside them.

    Args:
        values: All settings.
        title: Of the run to be.
        origin: What the settings are: a preset's name, `OWN_SETTINGS`, or a run in words.
    """
    for key in [key for key in st.session_state if str(key).startswith("set-")]:
        del st.session_state[key]
    st.session_state.pop("train-title", None)
    if st.session_state.get("train-preset") != origin:
        st.session_state.pop("train-preset", None)
    st.session_state["train-values"] = dict(values)
    st.session_state["train-named"] = title
    st.session_state["train-origin"] = origin


def begin_with(key: str, value: Any) -> None:
    """Gives a widget its value where it is drawn anew; the browser follows this, and no default."""
    if key not in st.session_state:
        st.session_state[key] = value


def ask_start() -> None:
    left, right = st.columns(2, gap="medium")
    origin, presets = st.session_state["train-origin"], [OWN_SETTINGS, *all_presets()]
    begin_with("train-preset", origin)
    name = left.selectbox(
        "Start from",
        presets if origin in presets else [origin, *presets],
        key="train-preset",
        help="The trainings of the models that are here, then the papers' trainings as published.",
    )
    if name != origin:
        take_preset(name)
    begin_with("train-title", st.session_state["train-named"])
    right.text_input(
        "Title",
        key="train-title",
        max_chars=80,
        placeholder=st.session_state["train-values"]["backbone"],
        on_change=take_title,
    )
    if name in presets[1:] and name == st.session_state["train-origin"]:
        show_preset(name)


def take_title() -> None:
    st.session_state["train-named"] = st.session_state["train-title"]


def take_preset(name: str) -> None:
    """Fills the form with a preset, or with the defaults again."""
    try:
        values = form.defaults() if name == OWN_SETTINGS else form.flat(preset(name)["config"])
    except CommandFailed as error:
        st.error(str(error), icon=":material/error:")
        return
    start_from(values, "" if name == OWN_SETTINGS else name, name)


def show_preset(name: str) -> None:
    about = preset(name)
    headline, published = about["headline"], about["published"]
    st.caption(
        f"{about['source']}: {about['about']}. {'Published' if published else 'Measured'}: "
        f"{headline['title'].lower()} {headline['value']:.3g}."
    )
    with st.expander(
        "What the paper leaves open, or did otherwise" if published else "What to know of it"
    ):
        st.markdown("\n".join(f"- {note}" for note in about["notes"]))


def ask_group(group: str, names: tuple[str, ...]) -> None:
    values = st.session_state["train-values"]
    matter = [name for name in names if form.applies(name, values)]
    with st.expander(group, expanded=group in OPEN_GROUPS):
        for place in range(0, len(matter), ACROSS):
            for name, column in zip(
                matter[place : place + ACROSS], st.columns(ACROSS, gap="medium"), strict=False
            ):
                with column:
                    ask(name, values)


def ask(name: str, values: dict[str, Any]) -> None:
    """One setting, with the widget that suits its values, and what its choice does."""
    field, key = form.FIELDS[name], f"set-{name}"
    common = {
        "label": LABELS.get(name) or sentence(name.replace("_", " ")),
        "key": key,
        "help": sentence(field.metadata["help"]) + ".",
        "on_change": take,
        "args": (name,),
    }
    choices, open_ended = choices_of(name, values)
    value = values[name]
    if name == "input_size":
        ask_size(value, common)
    elif choices is not None:
        begin_with(key, value)
        st.selectbox(
            options=choices if value in choices else [value, *choices],
            format_func=lambda choice: str(choice) or "none",
            accept_new_options=open_ended,
            **common,
        )
    elif isinstance(field.default, str):
        begin_with(key, value)
        st.text_input(**common)
    elif isinstance(field.default, float):
        begin_with(key, float(value))
        st.number_input(format="%g", step=None, **common)
    else:
        begin_with(key, value)
        st.number_input(step=1, **common)
    if effect := EFFECTS.get(name, {}).get(values[name]):
        st.caption(effect)


def ask_size(value: tuple[int, int] | str | None, common: dict[str, Any]) -> None:
    """Height and width in one field; what is no size stays there as it was entered."""
    begin_with(common["key"], form.in_words(value) if value else "")
    st.text_input(placeholder="the backbone's own", **common)
    if isinstance(value, str):
        st.error("Expected 224, or 192 x 256.", icon=":material/error:")


def sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def choices_of(name: str, values: Mapping[str, Any]) -> tuple[list | None, bool]:
    """What can be chosen for a setting, None where it is free; and whether that is a mere list of
    suggestions."""
    known = catalogue()
    cuts = known.get(values["backbone"], {})
    if name == "backbone":
        return list(known), False
    if name == "cut":
        return list(cuts), False
    if name == "head":
        return list(cuts.get(values["cut"], form.FIELDS[name].metadata["choices"])), False
    if name == "protocol":
        return list(protocols_of(values["dataset"])), False
    if name == "device":
        return device_choices(), False
    if name == "class_weights":
        return list(CLASS_WEIGHTS), True
    if name == "initial_weights":
        weights = ["imagenet", "none"]
        if values["backbone"] == "MobileNetV3Large":
            weights.insert(1, "minimalistic")
        return weights, True
    if name == "teacher":
        return ["", *filter(can_teach, store.model_names())], False
    if name == "start_from":
        models = list(filter(can_be_gone_on_with, store.model_names()))
        trained = [run.id for run in runs.all_runs() if run.best_weights.exists()]
        return ["", *models, *trained], False
    choices = form.FIELDS[name].metadata["choices"]
    return (list(choices), False) if choices else (None, False)


def can_be_gone_on_with(name: str) -> bool:
    """Whether a model is one network; an ensemble has no weights of its own."""
    try:
        return "members" not in store.read_card(name)
    except store.ModelError:
        return False


def can_teach(name: str) -> bool:
    """Whether a model may be a teacher: members of an ensemble over folds have seen validation."""
    try:
        return "folds" not in store.read_card(name)
    except store.ModelError:
        return False


def device_choices() -> list[str]:
    there = devices()
    together = len(there) > 2 and runs.backend() == "jax"  # two GPUs and the CPU
    return ["auto", *there, *([ALL] if together else [])]


def take(name: str) -> None:
    """Keeps what was entered, and what follows from it."""
    values = st.session_state["train-values"]
    values[name] = st.session_state[f"set-{name}"]
    if name == "input_size":
        values[name] = size_of(values[name])
    if name == "dataset" and values["protocol"] not in protocols_of(values["dataset"]):
        values["protocol"] = protocols_of(values["dataset"])[0]
        st.session_state.pop("set-protocol", None)
    if name == "backbone":  # its own size, a cut that it has and a head that fits
        values["input_size"] = None
        cuts = catalogue()[values["backbone"]]
        values["cut"] = values["cut"] if values["cut"] in cuts else "trunk"
    if name in ("backbone", "cut"):
        heads = catalogue()[values["backbone"]][values["cut"]]
        values["head"] = values["head"] if values["head"] in heads else heads[0]
        for other in ("cut", "head", "input_size"):
            st.session_state.pop(f"set-{other}", None)


def size_of(text: str) -> tuple[int, int] | str | None:
    """Height and width; None for the backbone's own, and the text where it is no size."""
    try:
        return form.read_size(text) if text.strip() else None
    except ValueError:
        return text


# --- the end of the form ------------------------------------------------------------------------


def show_estimate(values: Mapping[str, Any]) -> None:
    """What this training will take, as far as that can be told beforehand."""
    try:
        if isinstance(values["input_size"], str):
            form.read_size(values["input_size"])
        found = estimated(json.dumps(values, sort_keys=True), len(runs.all_runs()))
    except ValueError as error:  # no data, no such device: Start says the same
        st.warning(str(error), icon=":material/warning:")
        return
    if found.seconds_per_epoch is None:
        time = "Nobody knows how long an epoch takes"
    else:
        whole = found.seconds_per_epoch * values["epochs"]
        time = f"About {duration(found.seconds_per_epoch)} an epoch, {duration(whole)} in all"
    st.markdown(f":material/schedule: **{time}; {gib(found.memory)} of memory.** {found.how}")


@st.cache_data(max_entries=64, ttl=60, show_spinner=False)
def estimated(settings: str, runs_so_far: int) -> estimate.Estimate:
    return estimate.estimate(json.loads(settings))


def finish() -> None:
    values = form.that_apply(st.session_state["train-values"])
    show_estimate(values)
    bar = st.container(horizontal=True, vertical_alignment="center")
    start = bar.button(
        "Start", type="primary", icon=":material/play_arrow:", key="train-start", width=160
    )
    bar.download_button(
        "Settings (JSON)",
        json.dumps(form.nested(values), indent=2),
        "dermsa-training.json",
        "application/json",
        on_click="ignore",
        icon=":material/download:",
        help="`python -m dermsa train --config` reads it.",
    )
    if not start:
        return
    try:
        with st.spinner("Checking the settings and queueing the run (some seconds)"):
            made = command(
                "train",
                "--config",
                "-",
                "--detach",
                "--title",
                st.session_state["train-named"],
                stdin=json.dumps(form.nested(values)),
            )
    except CommandFailed as error:
        st.error(str(error), icon=":material/block:")
        return
    st.session_state["train-started"] = made["run"]
    st.rerun()
