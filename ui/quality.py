"""What is wrong with a photo, said before anything is concluded from it."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dermsa.inference.quality import Finding


def show_findings(findings: Sequence[Finding], prefix: str = "") -> None:
    """Each finding in its sentence, the severe ones as errors.

    Args:
        prefix: Which photo it is, where there are several.
    """
    for finding in findings:
        if finding.severity == "severe":
            st.error(prefix + finding.sentence, icon=":material/error:")
        else:
            st.warning(prefix + finding.sentence, icon=":material/warning:")
