"""coefvq: distil large multimodal video teachers into students cheap enough to serve."""

__version__ = "0.1.0"
