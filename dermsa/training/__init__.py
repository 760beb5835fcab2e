"""Training a classifier: configuration, trainer and the folders of runs."""
