"""Saved models at work: from files to scores, on the command line and behind HTTP.

served_model       a saved model with everything that serving it needs
score_columns      from logits to the columns of a table of scores
prediction_parts   rows of a long prediction, kept until all are there
predict_pair       one pair of files; predict_compare, the quality of two files
light_models       several light models as one
cascade_folder     a cascade as a folder; fit_folder makes one, cascade_inference runs it,
                   cascade_cost measures it
predict_cascade    a cascade over many clips, streamed to Parquet
uploads            what a request may hold, and how it is read
sides              the light and the heavy half of a cascade, each for a process of its own
options            the words of a serving command

An engine (LitServe, Ray Serve, …) gives each half processes and a queue: `LightSide` reads an
upload, asks the light model and routes by the policy; for what it defers the engine asks
`HeavySide`, in batches, and hands the answer back. Nothing here knows the engine; the examples in
`recipes/serving` do.
"""
