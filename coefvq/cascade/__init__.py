"""A light model answers what it is sure of, a heavy one sees the rest: the statistics of it.

`fitting.fit_policy` makes a `policy.Policy` from two columns of scores, of any two models; the
policy is all that a serving process loads. `gates` say how unsure a clip is, `calibrators` what a
logit is worth where it serves, `thresholds` and `recall` where to defer, `curves` and `cost` what
it brings and takes, and `monitor` whether it still holds. NumPy decides; torch only helps to fit.
"""
