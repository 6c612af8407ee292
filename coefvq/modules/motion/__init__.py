"""Temporal encoders: a second of video becomes one vector."""
