"""Figures of subgroups."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dermsa import plots_compare
from dermsa.comparison import Chosen, grouped, what_grey_means
from dermsa.evaluation import subgroups
from ui.figures import show_figure


def show_groups(chosen: Chosen, papers: Sequence[str]) -> None:
    with_groups = [one for one in chosen.evaluations if one.groups]
    if not with_groups:
        st.info("These evaluations have no subgroups.", icon=":material/groups:")
        return
    first = with_groups[0]
    left, right = st.columns(2, gap="medium")
    property_ = left.segmented_control(
        "Group by",
        list(dict.fromkeys(group.property for group in first.groups)),
        format_func=subgroups.PROPERTIES.get,
        default=first.groups[0].property,
        required=True,
        key="group-by",
    )
    metric = right.selectbox(
        "Figure",
        list(first.groups[0].intervals),
        format_func=subgroups.TITLES.get,
        key="group-figure",
    )
    groups = [group for group in first.groups if group.property == property_]
    found = grouped(chosen, groups, metric)
    title = subgroups.TITLES[metric]
    figure = plots_compare.interval_rows(found.figures, title, found.small, found.shown)
    show_figure(figure, plots_compare.describe(title, found.figures), "groups")
    st.caption(
        f"{what_grey_means(metric)} 95 % intervals, bootstrap over lesions. "
        + (f"Not defined for: {'; '.join(found.missing)}. " if found.missing else "")
        + "Groups differ in their mix of diagnoses, which moves these figures, too:"
    )
    mix = {"Group": [group.value.capitalize() for group in groups]}
    mix |= {"Photos": [group.n for group in groups], "Lesions": [g.n_lesions for g in groups]}
    mix |= {code: [group.by_class[code] for group in groups] for code in chosen.classes}
    with st.expander("Diagnoses in each group"):
        st.table(mix, border="horizontal", hide_index=True)
