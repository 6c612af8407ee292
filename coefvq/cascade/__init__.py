"""A light model answers what it is sure of, a heavy one sees the rest: the statistics of it."""
