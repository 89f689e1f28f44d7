from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from predictors import ScoreError
from predictors.fitted_files import read, write


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write(tmp_path / "a", save({"x": np.arange(3)}, metadata={"kind": "toy"}), what="toy")
    metadata, tensors = read(tmp_path / "a", framework="numpy", what="toy", advice="fit one")
    assert metadata == {"kind": "toy"} and tensors["x"].tolist() == [0, 1, 2]
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_what_cannot_be_written_or_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(ScoreError, match="The toy can't be written"):
        write(tmp_path / "no" / "a", b"", what="toy")
    with pytest.raises(ScoreError, match="The toy .* does not exist; fit one"):
        read(tmp_path / "b", framework="numpy", what="toy", advice="fit one")
    (tmp_path / "c").write_bytes(b"nothing of the kind")
    with pytest.raises(ScoreError, match="no fitted toy"):
        read(tmp_path / "c", framework="numpy", what="toy", advice="fit one")
