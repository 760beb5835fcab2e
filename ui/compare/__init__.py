"""The parts of the Compare page, a file each; `pages/compare.py` puts them together."""
