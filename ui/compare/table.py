"""The table of figures with intervals, and what it means in short."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import streamlit as st

from dermsa.comparison import (
    BEST_MARK,
    Chosen,
    caveats,
    cell,
    in_short,
    not_trained,
    on_these_data,
    published_models,
    what_was_tested,
)
from dermsa.evaluation import compare
from dermsa.evaluation.compare import Figure
from dermsa.evaluation.record import Evaluation
from dermsa.inference import store
from dermsa.plots import percent
from dermsa.plots_compare import WHAT_N_IS, n_text, printed_text

FIRST_ROWS = 8


@st.cache_resource(max_entries=16, show_spinner=False)
def table_rows(key: str, _chosen: Chosen) -> tuple[compare.Row, ...]:
    return compare.table(_chosen.evaluations)


@st.cache_resource(max_entries=64, show_spinner=False)
def pairs(key: str, figure: Figure, test: str, _chosen: Chosen) -> tuple[compare.Pair, ...]:
    if test == "McNemar":
        return compare.mcnemar(_chosen.evaluations)
    if test == "DeLong":
        return compare.delong(_chosen.evaluations, figure.of_class)
    return compare.pairs(_chosen.evaluations, figure)


def show_table(chosen: Chosen, papers: Sequence[str]) -> None:
    first = chosen.evaluations[0]
    tested: dict[str, list[str]] = {}
    for one in chosen.evaluations:
        tested.setdefault(what_was_tested(one), []).append(chosen.labels[one.model])
    for sentence, names in tested.items():
        of = f"{', '.join(names)}: " if len(tested) > 1 else ""
        st.markdown(f":small[{of}{sentence}]")
    for note in dict.fromkeys(note for one in chosen.evaluations for note in one.notes):
        st.caption(note)
    warn_of_leaks(chosen)
    rows = table_rows(chosen.key, chosen)
    shown = on_these_data(chosen, papers)
    write_table(chosen, rows[:FIRST_ROWS], shown)
    with st.expander("More figures"):
        write_table(chosen, rows[FIRST_ROWS:], shown)
    marks = f"{BEST_MARK} better than every other one beyond chance. "
    st.caption(
        (marks if len(chosen.evaluations) > 1 else "")
        + f"{WHAT_N_IS} Brackets: 95 % interval, bootstrap over {first.lesions:,} lesions. "
        + " ".join(caveats(shown))
    )
    if sentence := not_trained(papers, trained_backbones()):
        st.caption(sentence)
    if len(chosen.evaluations) > 1:
        figures = (Figure("recall", "mel"), Figure("macro_recall"))
        st.markdown(
            "\n".join(
                f"- {in_short(pairs(chosen.key, figure, 'bootstrap', chosen), figure)}"
                for figure in figures
                if figure.of_class in (None, *chosen.classes)
            )
        )


def trained_backbones() -> set[str]:
    """Of all networks in `weights/`; cards that cannot be read count as none."""
    found = set()
    for name in store.model_names():
        with contextlib.suppress(store.ModelError):
            found.add(store.read_card(name).get("architecture", {}).get("backbone"))
    return found


def write_table(chosen: Chosen, rows: Sequence[compare.Row], papers: Sequence[str]) -> None:
    columns = {
        "": [row.figure.title for row in rows],
        "n": [n_text(row.intervals) for row in rows],
    }
    for place, one in enumerate(chosen.evaluations):
        columns[chosen.labels[one.model]] = [
            cell(row.intervals[place], best=row.best == place) for row in rows
        ]
    for title in papers:
        of = published_models()[title]
        keys = ((row.figure.metric, row.figure.of_class) for row in rows)
        columns[f"*{title}*"] = [
            f"*{printed_text(of[key].value)}*" if key in of else "" for key in keys
        ]
    st.table(columns, border="horizontal", hide_index=True, alt="Figures with 95 % intervals.")


def warn_of_leaks(chosen: Chosen) -> None:
    for one in chosen.evaluations:
        if one.leaked_share:
            st.warning(
                f"{chosen.labels[one.model]}: {percent(one.leaked_share)} of the cases show a "
                f"lesion that was seen in training{_of_lesions(one)}, so its figures are too good.",
                icon=":material/warning:",
            )


def _of_lesions(one: Evaluation) -> str:
    return "" if one.leaked_lesions is None else f" ({percent(one.leaked_lesions)} of the lesions)"
