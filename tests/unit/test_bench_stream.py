"""What `live-bcdi bench stream` is asked for; that it measures is tested by its own comparison with the file."""

import pytest

from live_bcdi.bench_stream import CASES, cases
from live_bcdi.types import ScanError


def test_a_shape_takes_the_place_of_the_usual_cases():
    (case,) = cases("64x48", "int32", 50.0, 2.0, None)
    assert (case.shape, case.dtype, case.num) == ((64, 48), "int32", 100)
    assert [case.shape for case in cases(None, "uint16", 1.0, 2.0, None)] == [case.shape for case in CASES]


@pytest.mark.parametrize(
    ("shape", "dtype"), [("64", "int32"), ("8x8", "int32"), ("axb", "int32"), ("64x64", "thing"), ("64x64", "c8")]
)
def test_what_is_no_frame_is_one_clear_error(shape, dtype):
    with pytest.raises(ScanError, match="are no frames"):
        cases(shape, dtype, 1.0, 1.0, None)


def test_a_frame_that_no_socket_takes_is_refused_before_memory_is():
    with pytest.raises(ScanError, match="at most 256 MiB"):
        cases("99999999x99999999", "uint16", 1.0, 1.0, None)
