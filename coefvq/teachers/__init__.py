"""Models too expensive, or too privileged, to serve."""
