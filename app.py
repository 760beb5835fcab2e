"""The pages of DermSA and the frame around them. Start with `streamlit run app.py`."""

import streamlit as st

from dermsa.memory import give_back_freed_memory

WORDMARK = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 104 28">
<text x="0" y="22" font-family="sans-serif" font-size="25" font-weight="bold" fill="#00598a">
DermSA</text></svg>"""

st.set_page_config(page_title="DermSA", page_icon=":material/dermatology:", layout="wide")
st.logo(WORDMARK, size="large")
page = st.navigation(
    [
        st.Page("pages/diagnose.py", title="Diagnose", icon=":material/stethoscope:", default=True),
        st.Page("pages/compare.py", title="Compare", icon=":material/compare_arrows:"),
        st.Page("pages/train.py", title="Train", icon=":material/model_training:"),
        st.Page("pages/data.py", title="Data", icon=":material/dataset:"),
    ],
    position="top",
)
page.run()
st.caption(
    "Decision support for research use; not a medical device. Nothing of a patient is stored."
)
give_back_freed_memory()
