from __future__ import annotations

import subprocess
import sys

from search_spaces import Architecture
from search_spaces.tabulated import Tabulated
from tests.toys import ToySpace


class Measured:
    @property
    def columns(self) -> dict[str, tuple[str, str]]:
        return {"accuracy": ("max", "%")}

    def look_up(self, arch: Architecture, column: str) -> float:
        return 90.0


def test_what_has_a_table_is_told_from_what_has_none() -> None:
    assert isinstance(Measured(), Tabulated)
    assert not isinstance(ToySpace(), Tabulated)


def test_it_needs_no_torch() -> None:
    code = "import sys, search_spaces.tabulated; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
