"""safetensors files: read and written as the format's own package does, or refused."""

import json
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy

from electra_tf2.errors import UserError
from electra_tf2.training.array_files import read_arrays, write_arrays

ARRAYS = {
    "a": np.arange(12, dtype=np.float32).reshape(3, 4),
    "none": np.zeros((0, 3), np.float32),
    "scalar": np.array(7, np.int64),
    "truth": np.array([True, False]),
}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, array in other.items():
        assert one[name].dtype == array.dtype and one[name].shape == array.shape
        np.testing.assert_array_equal(one[name], array)


def test_the_package_reads_what_is_written_and_the_other_way_round(tmp_path):
    path = str(tmp_path / "ours.safetensors")
    write_arrays(path, ARRAYS, {"format": "pt"})
    assert_same(safetensors.numpy.load_file(path), ARRAYS)
    with safetensors.safe_open(path, framework="np") as file:
        assert file.metadata() == {"format": "pt"}
    assert_same(read_arrays(path), ARRAYS)

    path = str(tmp_path / "theirs.safetensors")
    safetensors.numpy.save_file(ARRAYS, path, {"format": "np"})
    assert_same(read_arrays(path), ARRAYS)


def test_transposed_arrays_and_bfloat16(tmp_path):
    path = str(tmp_path / "x.safetensors")
    arrays = {"turned": ARRAYS["a"].T, "half": ARRAYS["a"].astype(ml_dtypes.bfloat16)}
    write_arrays(path, arrays)
    read = read_arrays(path)
    assert_same(read, arrays)
    read["turned"][0] = 5  # writable


def test_a_path_for_tensorflow(tmp_path):
    path = f"file://{tmp_path}/x.safetensors"
    assert read_arrays(path, write_arrays(path, ARRAYS)).keys() == ARRAYS.keys()
    assert_same(safetensors.numpy.load_file(tmp_path / "x.safetensors"), ARRAYS)


def entry(**changed):
    return {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24], **changed}


@pytest.mark.parametrize(
    "header",
    [
        b"{",
        b"\xff\xfe",
        b"[]",
        {"a": 3},
        {"a": {"dtype": "F32"}},
        {"a": entry(shape=[2, 4])},
        {"a": entry(shape=[-2, -3])},
        {"a": entry(shape=[2.0, 3.0])},
        {"a": entry(shape=None)},
        {"a": entry(data_offsets=[0, 24, 48])},
        {"a": entry(data_offsets=[8, 32])},
        {"a": entry(), "b": entry()},
        {"a": entry(shape=[2], data_offsets=[0, 8]), "b": entry(shape=[2], data_offsets=[16, 24])},
        {},
    ],
    ids=lambda header: str(header)[:60],
)
def test_a_header_that_does_not_describe_the_file(tmp_path, header):
    path = tmp_path / "x.safetensors"
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(24))
    with pytest.raises(UserError, match="truncated or corrupt") as error:
        read_arrays(str(path))
    assert error.value.where == str(path) and error.value.received


def test_types_and_paths_that_can_not_be_read(tmp_path):
    path = tmp_path / "x.safetensors"
    text = json.dumps({"a": entry(dtype="F8_E4M3", data_offsets=[0, 6])}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(6))
    with pytest.raises(UserError, match="of a type"):
        read_arrays(str(path))
    for other in (tmp_path / "none", tmp_path):
        with pytest.raises(UserError, match="can't be read") as error:
            read_arrays(str(other))
        assert error.value.where == str(other)


def test_memory(tmp_path):
    """Reading takes the arrays alone; writing what is turned round, one array at a time."""
    arrays = {f"{i}": np.ones((256, 1024), np.float32).T for i in range(8)}
    size = sum(array.nbytes for array in arrays.values())
    path = str(tmp_path / "x.safetensors")
    tracemalloc.start()
    try:
        write_arrays(path, arrays)
        written = tracemalloc.get_traced_memory()[1]
        arrays.clear()
        tracemalloc.reset_peak()
        read = read_arrays(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(read) == 8
    assert written < 0.3 * size and peak < 1.1 * size
