"""The embedded data set: real encoded clips, made on the spot."""
