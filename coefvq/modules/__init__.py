"""Building blocks that students and teachers share."""
