"""The page under test, the models it may use, and pictures good and bad."""

import cv2
import pytest
from streamlit.testing.v1 import AppTest

from dermsa.datasets.synthetic import draw_lesion
from dermsa.inference import store


@pytest.fixture(autouse=True)
def needs_a_model():
    if not store.model_names():
        pytest.skip("there is no model in weights/")


@pytest.fixture
def page():
    """The Diagnose page of the running app, as it is when just opened."""
    page = AppTest.from_file("../../app.py", default_timeout=60).run()
    assert not page.exception
    return page


@pytest.fixture(scope="session")
def lesion():
    """A drawn melanoma as a JPEG file."""
    rgb, _ = draw_lesion("mel", 3)
    return cv2.imencode(".jpg", rgb[..., ::-1])[1].tobytes()
