"""The words of the project, whose order is part of every file and vector."""

from dermsa import taxonomy


def test_the_diagnoses_are_those_of_ham10000_in_the_order_of_every_probability_vector():
    assert taxonomy.HAM10000_CLASSES == ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")


def test_malignant_are_the_two_carcinomas_and_melanoma():
    assert taxonomy.MALIGNANT == {"akiec", "bcc", "mel"}


def test_every_diagnosis_has_a_name_and_a_description_of_its_own():
    assert set(taxonomy.NAMES) == set(taxonomy.HAM10000_CLASSES)
    for field in ("name", "description"):
        texts = [getattr(diagnosis, field) for diagnosis in taxonomy.DIAGNOSES]
        assert all(texts) and len(set(texts)) == 7


def test_sexes_and_sites_are_those_of_the_papers_vector():
    assert taxonomy.SEXES == ("female", "male", "unknown")
    assert len(taxonomy.LOCALIZATIONS) == 15
    assert list(taxonomy.LOCALIZATIONS) == sorted(taxonomy.LOCALIZATIONS)
    assert taxonomy.UNKNOWN in taxonomy.LOCALIZATIONS
