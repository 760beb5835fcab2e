"""How a page starts: always within the frame of app.py."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st
from streamlit.runtime.pages_manager import PagesManager


def run_page(main: Callable[[], None]) -> None:
    """Runs a page; the last line of every script in `pages/`.

    Where a link to a page was the first thing that a fresh server was asked for, Streamlit takes
    `pages/` for the whole app and leaves out app.py, with its list of pages and its caption. It
    is told better and starts again.
    """
    if PagesManager.uses_pages_directory:
        PagesManager.uses_pages_directory = False
        st.rerun()
    main()
