import errno
import os
from pathlib import Path

import pytest

from coefvq.teacher_cache.failures import cannot_write, with_a_sentence

HERE = Path("here")


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.ENOSPC, "no space left for the teacher cache in here; 12 rows are safe there: free "
                       "some space and start again, or set cache_dir to another disk"),
        (errno.EDQUOT, "no space left in the quota for the teacher cache in here; 12 rows are safe "
                       "there: free some space and start again, or set cache_dir to another disk"),
        (errno.EFBIG, "no file may become large enough for the teacher cache in here; 12 rows are "
                      "safe there: lift the limit (ulimit -f) and start again"),
        (errno.EROFS, f"nothing can be written ({os.strerror(errno.EROFS)}) for the teacher cache "
                      "in here; 12 rows are safe there: start again, or set cache_dir to another "
                      "disk"),
    ],
)  # fmt: skip
def test_each_reason_has_its_way_out(number, sentence):
    found = cannot_write(HERE, 12, OSError(number, os.strerror(number)))
    assert (found.errno, found.strerror) == (number, sentence)


def test_an_error_without_a_number_is_one_of_input_and_output():
    found = cannot_write(HERE, 0, OSError("the cable is loose"))
    assert found.errno == errno.EIO
    assert found.strerror.startswith("nothing can be written (the cable is loose) for the teacher")


def test_whatever_cannot_be_written_says_so_and_keeps_its_cause():
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match=r"no space left for") as caught, with_a_sentence(HERE, 3):
        raise full
    assert "in here; 3 rows are safe there" in caught.value.strerror
    assert caught.value.errno == errno.ENOSPC and caught.value.__cause__ is full
    with pytest.raises(KeyError), with_a_sentence(HERE, 3):
        raise KeyError("nothing to do with it")
    with with_a_sentence(HERE, 3):
        pass
