"""The documents say what the cards and the kept results say."""

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from dermsa.cli import main
from dermsa.evaluation import elsewhere, model_tables, record
from dermsa.inference import store
from dermsa.training import ablations

DOCS = Path(__file__).resolve().parents[1] / "docs"
ROOT = DOCS.parent


@pytest.mark.skipif(not store.model_names(), reason="there is no model in weights/")
def test_the_tables_of_the_models_are_those_of_their_cards():
    cards = [store.read_card(name) for name in store.model_names()]
    said = [record.open_source(card["name"]).predictions for card in cards]
    document = (DOCS / "models.md").read_text(encoding="utf-8")
    for tables in (
        model_tables.markdown(cards),
        model_tables.lineage(cards, store.offered_models()),
        model_tables.alike(cards, said),
        model_tables.most_probable(cards, said),
        model_tables.on_another_source(elsewhere.all_measured()),
    ):
        assert tables in document, "python -m dermsa models --tables"


@pytest.mark.skipif(len(store.model_names()) < 3, reason="there are no three models in weights/")
def test_a_model_that_was_not_evaluated_is_in_the_tables_of_cards_alone(
    tmp_path, monkeypatch, capsys
):
    measured, other = store.model_names()[1:3]
    for name in (measured, other):
        shutil.copytree(store.weights_folder() / name, tmp_path / name)
    (tmp_path / other / record.EVALUATION).unlink()
    monkeypatch.setenv("DERMSA_WEIGHTS", str(tmp_path))
    assert main(["models", "--tables"]) == 0
    cards, alike = capsys.readouterr().out.split("weighed alike")
    alike = alike.split("On photos of another source")[0]
    assert f"| {measured} |" in cards and f"| {other} |" in cards
    assert f"| {measured} |" in alike and f"| {other} |" not in alike


def test_the_ablations_are_those_of_the_kept_runs():
    table = pd.read_csv(DOCS / "ablations.csv")
    assert list(table.columns) == list(ablations.COLUMNS)
    assert ablations.markdown(table) in (DOCS / "models.md").read_text(encoding="utf-8")
    known = {*ablations.VARIANTS, ablations.UNKNOWN}
    assert set(table["variant"]) <= known
    assert not table.duplicated(["variant", "seed", "pixels", "epochs", "images"]).any()


@pytest.mark.parametrize("document", [ROOT / "README.md", *sorted(DOCS.glob("*.md"))])
def test_links_within_the_project_lead_somewhere(document):
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", document.read_text(encoding="utf-8")):
        assert (document.parent / target).exists(), target
