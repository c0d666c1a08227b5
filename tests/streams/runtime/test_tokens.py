"""Token files: both names of the digest are read, and each mistake names file and table."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from streams.runtime.errors import CONFIGURATION, WorkerError
from streams.runtime.tokens import load_token_file, token_digest

DIGEST = token_digest("a token of ours").hex()


def load(path: Path, text: str, plain_tokens: bool = False) -> list[bytes]:
    path.write_text(text)
    entries = load_token_file(
        path,
        "token",
        lambda table: table.get("problem"),
        remedy="add one",
        plain_tokens=plain_tokens,
    )
    return [entry.digest for entry in entries]


@pytest.mark.parametrize("member", ["sha256", "token_sha256"])
def test_a_digest_is_read_under_both_names(tmp_path: Path, member: str) -> None:
    text = f'[[token]]\n{member} = "{DIGEST}"\n'
    assert load(tmp_path / "t.toml", text) == [token_digest("a token of ours")]


def test_plain_tokens_only_where_they_are_allowed(tmp_path: Path) -> None:
    text = '[[token]]\ntoken = "0123456789abcdef"\n'
    assert load(tmp_path / "t.toml", text, True) == [token_digest("0123456789abcdef")]
    with pytest.raises(WorkerError, match="sha256 must be"):
        load(tmp_path / "t.toml", text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no [[token]]: add one"),
        ("nonsense", "is not TOML"),
        ("token = [1]", "token 1 is not a table"),
        (f'[[token]]\nsha256="{DIGEST}"\n[[token]]\nproblem="no name"', "token 2: no name"),
        ('[[token]]\ntoken="short"', "token 1: token must have at least 16 characters"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(WorkerError, match=re.escape(message)) as raised:
        load(tmp_path / "t.toml", text, True)
    assert raised.value.exit_code == CONFIGURATION
    with pytest.raises(WorkerError, match="cannot be read"):
        load_token_file(tmp_path / "none.toml", "token", lambda _table: None, remedy="")


def test_plain_tokens_that_everybody_can_read_are_reported(tmp_path: Path) -> None:
    """Digests are no secret; a volume of secrets may have any mode, so it is no error."""
    path = tmp_path / "sources.toml"
    for table, mode, reported in (
        ('token = "sixteen-characters-long"', 0o644, True),
        ('token = "sixteen-characters-long"', 0o640, False),
        (f'token_sha256 = "{DIGEST}"', 0o644, False),
    ):
        path.write_text(f"[[source]]\n{table}\n")
        path.chmod(mode)
        with capture_logs() as lines:
            load_token_file(path, "source", lambda _table: None, remedy="", plain_tokens=True)
        assert [line["event"] for line in lines] == ["tokens_readable"] * reported


def test_a_file_that_everybody_can_write_is_refused(tmp_path: Path) -> None:
    """Anybody on the machine could add a token to it."""
    path = tmp_path / "tokens.toml"
    path.write_text(f'[[token]]\nsha256 = "{"0" * 64}"\n')
    load_token_file(path, "token", lambda _table: None, remedy="")
    path.chmod(0o646)
    with pytest.raises(WorkerError, match="written by everybody"):
        load_token_file(path, "token", lambda _table: None, remedy="")
