"""Teacher outputs on disk: computed once, addressed by clip and view, fingerprinted.

A folder of Arrow files (Feather version 2), one row per clip and view:

| column | |
|---|---|
| `id`, `view` | the key: which clip, and which frames of it the teacher saw |
| `logits` | a number, or C or L numbers; float16 or float32 |
| `features` | D numbers, where the teacher has them |
| `sub_logits` | S numbers, for teachers of pairs |
| `token_features` | T × D numbers, T differs from row to row |
| `topk_indices` | T × k, the likeliest tokens of each position of a language model |
| `topk_logprobs` | T × k, natural logarithms of their probabilities |
| `topk_tail` | T, the probability of all other tokens |

`pandas.read_feather(shard)` reads a file, `pyarrow.dataset.dataset(folder,
format="arrow").to_table().to_pandas()` all of them. Files are uncompressed, so training maps them
into memory and copies nothing but the rows of a batch. Each carries the fingerprint of its cache
and a checksum of its rows, which is held against them whenever a file is opened.
"""

from coefvq.teacher_cache.cache import CacheStats, TeacherCache
from coefvq.teacher_cache.identity import CacheIdentity

__all__ = ["CacheIdentity", "CacheStats", "TeacherCache"]
