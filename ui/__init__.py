"""What the pages share and what they are made of: besides `pages/` the only code that knows
Streamlit."""
