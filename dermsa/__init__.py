"""DermSA: a second reader for photos of skin lesions, and the workbench that makes its models."""

__version__ = "0.1.0"
