"""Ablations: the runs they need, and what their figures say about chance."""

import dataclasses
import json
import math
import shutil

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from tiny import config_of

from dermsa.cli import main
from dermsa.datasets import cache
from dermsa.models.classifier import build_classifier
from dermsa.patient import Patient
from dermsa.training import ablations, sweeps
from dermsa.training.ablations import ABLATIONS, REFERENCE, SEEDS, TAG, UNKNOWN, VARIANTS
from dermsa.training.examples import split_rows, training_age_scale
from dermsa.training.recorder import figures_of
from dermsa.training.runs import all_runs, create_run
from dermsa.training.trainer import train


@pytest.fixture(autouse=True)
def own_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("DERMSA_RUNS", str(tmp_path / "runs"))


def rows_of(figures, **more):
    """A table of results: macro recalls by variant, one per seed."""
    return pd.DataFrame(
        [
            {column: 0 for column in ablations.COLUMNS}
            | {"variant": variant, "seed": seed, "pixels": 96, "epochs": 8, "macro_recall": value}
            | more
            for variant, values in figures.items()
            for seed, value in enumerate(values)
        ]
    )


# --- what is to be trained ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ABLATIONS)
def test_its_runs_differ_from_their_reference_in_what_is_asked_alone(name):
    ablation = ABLATIONS[name]
    planned = sweeps.table(f"ablations/{name}")
    by_variant = {}
    for each in planned:
        (tag,) = each.tags
        by_variant.setdefault(tag.removeprefix(TAG), []).append(each.config)
    assert list(by_variant) == ablations.trained(ablation)
    reference = by_variant.pop(ablation.reference)
    assert tuple(config.seed for config in reference) == SEEDS and len(SEEDS) >= 3
    for variant, configs in by_variant.items():
        for one, other in zip(configs, reference, strict=True):
            differs = {**VARIANTS[variant]} | {
                key: None for key in VARIANTS[ablation.reference] if key not in VARIANTS[variant]
            }
            assert one != other
            for field in dataclasses.fields(one):
                if field.name not in (*differs, "classifier"):
                    assert getattr(one, field.name) == getattr(other, field.name)
            for field in dataclasses.fields(one.classifier):
                if field.name not in differs:
                    assert getattr(one.classifier, field.name) == getattr(
                        other.classifier, field.name
                    )


def test_all_of_them_share_their_references():
    titles = [each.title for each in sweeps.table("ablations/all")]
    assert len(titles) == len(set(titles)) == len(VARIANTS) * len(SEEDS)
    with pytest.raises(ValueError, match="no ablation 'ablations/nothing'.*ablations/attention"):
        sweeps.table("ablations/nothing")


def test_common_settings_change_the_reference_and_no_variant_s_own():
    common = {"input_size": 192, "class_weights": "balanced", "epochs": 2}
    for name in ("aspect", "weights"):
        plain = sweeps.table(f"ablations/{name}")
        for one, other in zip(sweeps.table(f"ablations/{name}", common), plain, strict=True):
            height, width = other.config.classifier.input_size
            assert one.config.classifier.input_size == pytest.approx((2 * height, 2 * width), abs=1)
            assert one.config.epochs == 2 and one.title == other.title
    weights = [each.config.class_weights for each in sweeps.table("ablations/weights", common)]
    assert weights == [each.config.class_weights for each in sweeps.table("ablations/weights")]
    squashed, kept = (sweeps.table("ablations/aspect", common)[i].config for i in (0, -1))
    assert squashed.class_weights == kept.class_weights == "balanced"
    assert kept.classifier.input_size == (166, 222)
    for pixels in range(64, 400, 16):  # as many pixels, so that `results` puts them together
        height, width = ablations.settings_of("aspect kept", pixels)["input_size"]
        assert round(math.sqrt(height * width)) == pixels
        assert height / width == pytest.approx(3 / 4, abs=0.02)
    with pytest.raises(ValueError, match="square. Received: 192 x 256"):
        sweeps.table("ablations/aspect", {"input_size": "192 x 256"})
    folded = {"protocol": "lesion-rotated", "fold": 2}
    protocols = [each.config.protocol for each in sweeps.table("ablations/split", folded)]
    assert set(protocols) == {"lesion-rotated", "image-90-10"}


def test_the_runs_carry_both_tags_and_the_common_settings(capsys):
    assert main(["sweep", "--table", "ablations/cut", "--input-size", "64", "--dry-run"]) == 0
    assert "published cut, seed 2" in capsys.readouterr().out
    (run, *_) = sweeps.make_runs(sweeps.table("ablations/cut"), "ablations/cut")
    assert run.about()["tags"] == ["ablations/cut", TAG + REFERENCE]
    assert ablations.variant_of(run) == REFERENCE


# --- what their figures say ---------------------------------------------------------------------


def test_the_interval_is_welch_s():
    values, others = np.array([0.70, 0.72, 0.71]), np.array([0.66, 0.69, 0.63])
    found = ablations.difference(values, others)
    assert found.mean == pytest.approx(0.71) and found.difference == pytest.approx(0.05)
    # By hand: the squared standard errors add up, the degrees of freedom are Satterthwaite's.
    errors = [each.var(ddof=1) / 3 for each in (values, others)]
    freedom = sum(errors) ** 2 / sum(error**2 / 2 for error in errors)
    reach = stats.t.ppf(0.975, freedom) * np.sqrt(sum(errors))
    assert found.low == pytest.approx(0.05 - reach) and found.high == pytest.approx(0.05 + reach)
    assert found.within_chance == (reach >= 0.05)


def test_one_run_says_nothing_about_chance():
    found = ablations.difference(np.array([0.9]), np.array([0.1, 0.2]))
    assert found.difference is None and found.within_chance


def test_only_what_is_beyond_chance_is_bold_and_sizes_are_kept_apart():
    table = rows_of(
        {
            REFERENCE: [0.70, 0.71, 0.72],
            "published kernel": [0.71, 0.69, 0.73],
            "no attention": [0.50, 0.51, 0.52],
        }
    )
    table = pd.concat([table, rows_of({REFERENCE: [0.9]}, pixels=224, images=500)])
    small, large = ablations.markdown(table).split("At 224 x 224 pixels")
    assert "At 96 x 96 pixels, 8 epochs, all images" in small and "500 images" in large
    lines = {line.split(" | ")[0].strip("| "): line for line in small.splitlines()}
    assert "**" not in lines["published kernel"] and "0.710, +0.000" in lines["published kernel"]
    assert "**0.510, -0.200 (-0.223 to -0.177)**" in lines["no attention"]
    assert "published cut" not in small  # no run of it, no line


# --- real runs -----------------------------------------------------------------------------------


def test_runs_become_rows_with_a_second_one_for_unknown_patients(
    synthetic_data, synthetic_dataset, tiny_backbone, tmp_path, capsys
):
    assert main(["ablations"]) == 0
    assert "sweep --table ablations/all" in capsys.readouterr().out

    made = create_run(config_of(epochs=2, monitor="macro_auc"), tags=[TAG + REFERENCE])
    train(made, synthetic_data)
    create_run(config_of(), tags=[TAG + "no attention"])  # not trained: no row
    train(create_run(config_of(epochs=1)), synthetic_data)  # of no ablation
    out = tmp_path / "ablations.csv"
    assert main(["ablations", "--data", str(synthetic_data), "--out", str(out), "--json"]) == 0
    rows = {row["variant"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(rows) == [REFERENCE, UNKNOWN]
    epochs = made.metrics()
    best = epochs.loc[epochs["macro_auc"].idxmax()]
    assert rows[REFERENCE]["macro_auc"] == pytest.approx(best["macro_auc"], abs=1e-5)
    assert rows[REFERENCE]["chosen_epoch"] == best["epoch"] and rows[REFERENCE]["seed"] == 3
    assert pd.read_csv(out)["variant"].to_list() == [REFERENCE, UNKNOWN]

    # A run that repeats it takes its place, and is no second one of the same seed.
    again = made.folder.with_name("29990101-000000-again")
    shutil.copytree(made.folder, again)
    assert main(["ablations", "--data", str(synthetic_data), "--json"]) == 0
    repeated = json.loads(capsys.readouterr().out)
    assert [row["variant"] for row in repeated] == [REFERENCE, UNKNOWN]
    assert {row["run"] for row in repeated} == {again.name}
    shutil.rmtree(again)

    # The second row is what the weights say of the same photos without the patients.
    classifier = build_classifier(made.config().classifier)
    classifier.load_weights(made.best_weights)
    parts = split_rows(made, made.config(), synthetic_dataset)
    unknown = Patient().encode(training_age_scale(synthetic_dataset, parts["train"]))
    images = cache.decoded(synthetic_dataset, (64, 64))[parts["validation"]].astype(np.float32)
    logits = classifier([images, np.repeat(unknown[None], len(images), 0)], training=False)
    figures = figures_of(
        np.array(logits["logits"]),
        synthetic_dataset.labels()[parts["validation"]],
        synthetic_dataset.classes,
    )
    assert rows[UNKNOWN]["loss"] == pytest.approx(figures["loss"], rel=1e-3)
    assert rows[UNKNOWN]["loss"] != rows[REFERENCE]["loss"]
    assert len(all_runs()) == 3
