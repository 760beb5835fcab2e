"""The models that pages let answer, opened once for everyone who uses the app."""

from __future__ import annotations

import threading

import numpy as np
import streamlit as st

from dermsa.inference import store
from dermsa.inference.ensemble import AnyPredictor, open_predictor
from dermsa.plots_compare import MAX_MODELS

one_at_a_time = threading.Lock()
"""Held while a model answers: several pages that compute at once would only slow each other
down."""


def opened(name: str) -> AnyPredictor:
    """A model of `weights/`, opened again when its card has changed.

    Raises:
        ModelError: It is missing, damaged or changed.
    """
    return _opened(name, str(store.weights_folder()), store.card_sha256(name))


@st.cache_resource(max_entries=MAX_MODELS, show_spinner="Opening the model")
def _opened(name: str, folder: str, sha256: str) -> AnyPredictor:
    """Warm after a first pass, so that the first answer takes no longer than the next."""
    predictor = open_predictor(name)
    predictor.diagnose([np.full((96, 128, 3), 128, np.uint8)])
    return predictor
