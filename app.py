"""The pages of DermSA and the frame around them. Start with `streamlit run app.py`."""

import streamlit as st

st.set_page_config(page_title="DermSA", page_icon=":material/dermatology:", layout="wide")
page = st.navigation(
    [
        st.Page("pages/diagnose.py", title="Diagnose", icon=":material/stethoscope:", default=True),
    ],
    position="top",
)
page.run()
st.caption("Decision support for research use; not a medical device. Nothing is stored.")
