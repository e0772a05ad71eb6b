"""The deltas' file: the same content is the same bytes, for its hash names the pair that is built from it."""

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from facellm_training.nano.export import _sort_header


def test_one_content_has_one_file(tmp_path) -> None:
    tensors = {"b": np.arange(6, dtype=np.int8).reshape(2, 3), "a": np.ones(4, np.float32)}
    metadata = {name: f"value é of {name}" for name in "qwertyuiop"}
    files = []
    for number in range(6):
        path = tmp_path / f"{number}.safetensors"
        save_file(tensors, path, metadata=dict(reversed(metadata.items())) if number % 2 else metadata)
        _sort_header(path)
        files.append(path.read_bytes())
    assert len(set(files)) == 1
    with safe_open(tmp_path / "0.safetensors", framework="np") as file:
        assert file.metadata() == metadata
        assert all(np.array_equal(file.get_tensor(name), values) for name, values in tensors.items())
