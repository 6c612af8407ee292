"""Serve a cascade over HTTP with any engine.

uploads   what a request may hold, and how it is read
sides     the light and the heavy half of a cascade, each for a process of its own
options   the words of a serving command

An engine (LitServe, Ray Serve, …) gives each half processes and a queue: `LightSide` reads an
upload, asks the light model and routes by the policy; for what it defers the engine asks
`HeavySide`, in batches, and hands the answer back. Nothing here knows the engine; the examples in
`recipes/serving` do.
"""
