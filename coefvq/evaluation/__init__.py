"""The same metrics for teacher and student, and what they say."""
