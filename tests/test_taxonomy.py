"""The words of the project, whose order is part of every file and vector."""

import pytest

from dermsa import taxonomy
from dermsa.datasets.registry import DATASETS


def test_the_diagnoses_are_those_of_ham10000_in_the_order_of_every_probability_vector():
    assert taxonomy.HAM10000_CLASSES == ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")


@pytest.mark.parametrize("record", DATASETS.values(), ids=DATASETS)
def test_every_class_of_every_data_set_has_its_words(record):
    assert set(record.classes) <= set(taxonomy.NAMES)
    assert list(record.classes) == sorted(set(record.classes))
    assert record.malignant == {"akiec", "bcc", "mel"} & set(record.classes)


def test_malignant_are_the_two_carcinomas_and_melanoma():
    assert taxonomy.MALIGNANT == {"akiec", "bcc", "mel"}


def test_every_diagnosis_has_a_name_and_a_description_of_its_own():
    for field in ("name", "description"):
        texts = [getattr(diagnosis, field) for diagnosis in taxonomy.DIAGNOSES]
        assert all(texts) and len(set(texts)) == len(taxonomy.NAMES)


def test_sexes_and_sites_are_those_of_the_papers_vector():
    assert taxonomy.SEXES == ("female", "male", "unknown")
    assert len(taxonomy.LOCALIZATIONS) == 15
    assert list(taxonomy.LOCALIZATIONS) == sorted(taxonomy.LOCALIZATIONS)
    assert taxonomy.UNKNOWN in taxonomy.LOCALIZATIONS
