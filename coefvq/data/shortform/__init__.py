"""The embedded data set: real encoded clips, made on the spot. See its README for what is real."""

from coefvq.data.shortform.data import Shortform, shortform_data

__all__ = ["Shortform", "shortform_data"]
