"""How good a model is: metrics, their uncertainty, and the calibration of what the model says.

Import the modules, not this package: `calibration` is needed while serving and stays light.
"""
