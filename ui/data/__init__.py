"""The parts of the Data page, a file each; `pages/data.py` puts them together."""
