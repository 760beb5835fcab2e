"""The data sets by name: each says what to place where, and what it can be split by."""

import numpy as np
import pytest

from dermsa.datasets import registry, splits, synthetic
from dermsa.datasets.dataset import DatasetError
from dermsa.patient import AgeScale


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A data folder with every data set, drawn small."""
    folder = tmp_path_factory.mktemp("all")
    synthetic.write_ham10000(folder / "ham10000", lesions_per_class=4, size=(64, 80))
    synthetic.write_isic2017(folder / "isic2017", lesions_per_class=6, size=(64, 64))
    synthetic.write_isic2018_test(folder / "isic2018", lesions_per_class=2, size=(64, 80))
    return folder


@pytest.mark.parametrize("name", registry.DATASETS)
def test_every_data_set_is_read_by_name(name, root):
    dataset, record = registry.read(name, root), registry.DATASETS[name]
    assert (dataset.name, dataset.classes, dataset.malignant) == (
        name,
        record.classes,
        record.malignant,
    )
    assert set(dataset.labels()) == set(range(len(record.classes)))
    assert dataset.table["image_id"].is_monotonic_increasing
    vectors = dataset.patient_vectors(AgeScale(50, 10))
    assert vectors.shape == (len(dataset.table), 21) and np.isfinite(vectors).all()
    listed = registry.listed(name, root)
    assert listed.table["image_id"].tolist() == dataset.table["image_id"].tolist()


@pytest.mark.parametrize("name", registry.DATASETS)
def test_a_missing_data_set_says_what_to_place_where(name, tmp_path):
    with pytest.raises(DatasetError, match=r"(?s)https://.*\w+/"):
        registry.read(name, tmp_path)


def test_an_unknown_name_offers_the_nearest():
    with pytest.raises(ValueError, match="Unknown data set 'isic-2017'.*isic2017"):
        registry.read("isic-2017")


@pytest.mark.parametrize("protocol", splits.PROTOCOLS)
@pytest.mark.parametrize("name", registry.DATASETS)
def test_every_protocol_divides_every_data_set_or_says_why_not(name, protocol, root):
    dataset = registry.read(name, root)
    if (name == "isic2018") != (protocol == "isic2018"):
        with pytest.raises(DatasetError, match="isic2018"):
            splits.draw(dataset, protocol)
        return
    split = splits.draw(dataset, protocol)
    rows = {part: split.rows(dataset, part) for part in splits.PARTS}
    assert all(len(of) for of in rows.values())
    assert not set(rows["train"]) & {*rows["validation"], *rows["test"]}
