from __future__ import annotations

import logging
from pathlib import Path

import pytest

from nascli.cli import log

LOG = logging.getLogger("nascli.engine.somewhere")


def say() -> None:
    LOG.debug("detail")
    LOG.info("news")
    logging.getLogger("predictors.somewhere").warning("take %s", "care")


@pytest.mark.parametrize(
    ("verbose", "said"),
    [(0, ["take care"]), (1, ["news", "take care"]), (2, ["detail", "news", "take care"])],
)
def test_stderr_hears_as_much_as_was_asked_for(
    capsys: pytest.CaptureFixture[str], verbose: int, said: list[str]
) -> None:
    with log.to_stderr():
        log.be_verbose(verbose)
        say()
        assert log.warnings() == ["take care"]
    assert capsys.readouterr() == ("", "".join(f"nascli: {text}\n" for text in said))
    assert log.warnings() == []


def test_the_file_hears_everything_and_is_appended_to(tmp_path: Path) -> None:
    for _ in range(2):
        with log.to_stderr(), log.to_file(tmp_path / "log.txt"):
            say()
        say()
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == [
        "DEBUG nascli.engine.somewhere: detail",
        "INFO nascli.engine.somewhere: news",
        "WARNING predictors.somewhere: take care",
    ] * 2


def test_the_same_warning_is_given_once_but_written_down_each_time(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with log.to_stderr(), log.to_file(tmp_path / "log.txt"):
        for care in ("care", "care", "heart", "care"):
            LOG.warning("take %s", care)
            LOG.info("news")
        assert log.warnings() == ["take care", "take heart"]
    assert capsys.readouterr().err == "nascli: take care\nnascli: take heart\n"
    assert (tmp_path / "log.txt").read_text().count("take care") == 3
    with log.to_stderr():
        LOG.warning("take care")
    assert capsys.readouterr().err == "nascli: take care\n"  # another command says it again


def test_a_full_disk_is_not_told_by_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    with log.to_file(Path("/dev/full")):
        LOG.error("lost")
    assert capsys.readouterr().err == ""
