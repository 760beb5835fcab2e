"""The Diagnose page shows what a model has, and says what it has not."""

import pytest
from streamlit.testing.v1 import AppTest


@pytest.fixture
def answered(small_models, monkeypatch, lesion):
    """The page after a photo was given to one of the small models."""
    monkeypatch.setenv("DERMSA_WEIGHTS", str(small_models))

    def answer(name):
        page = AppTest.from_file("../../app.py", default_timeout=60).run()
        case = page.session_state.case
        page.selectbox(key=f"model-{case}").set_value(name).run()
        page.text_input(key=f"age-{case}").set_value("62").run()
        page.file_uploader[0].set_value([("lesion.jpg", lesion, "image/jpeg")])
        page.run()
        assert not page.exception
        return page

    return answer


def said(page):
    return " ".join(box.value for box in page.info)


def headings(page):
    return [heading.value for heading in page.subheader]


def test_without_a_decomposition_there_is_attention_and_a_reason(answered):
    page = answered("dense512")
    assert len(page.image) == 2
    assert "There is no evidence map" in said(page)
    assert not any(heading.startswith("The sum for") for heading in headings(page))
    assert "What the patient adds, in logits" in headings(page)


def test_without_attention_there_is_evidence_of_the_data_sets_own_diagnoses(answered):
    page = answered("pooled")
    assert len(page.image) == 2
    assert "There is no evidence map" not in said(page)
    assert any(heading.startswith("The sum for") for heading in headings(page))
    assert "Seborrheic keratosis" in list(page.table[0].value["Diagnosis"])


def test_benign_diagnoses_alone_give_no_referral(answered):
    page = answered("benign")
    assert len(page.image) == 3 and not page.metric
    assert "cannot say whether to refer" in said(page)
