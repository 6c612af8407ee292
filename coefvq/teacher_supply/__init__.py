"""What a run's teacher says, wherever it comes from.

words         what `teacher.…` may say, refused early
opening       the door: a live model, a cache, a table, or several of them
training      load a teacher, find it under its fingerprint, or train it first
preflight     is it worth listening to
memory        will it fit beside the student; memory_ahead asks before it is trained
caching       ask it about every clip once; outputs keeps the answers, under what they depend on
reading       the cache that another run wrote; clips knows which clips it was asked about
table         somebody's table of scores; members, the parts of an ensemble
calibration   its temperature

How answers lie on disk is `coefvq.teacher_cache`, what a teacher is `coefvq.teachers`.
"""
