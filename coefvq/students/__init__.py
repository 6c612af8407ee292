"""Models cheap enough to serve."""
