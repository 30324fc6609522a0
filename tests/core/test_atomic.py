"""Outputs: whole or not there, through links, and never in place of a device."""

import os
from pathlib import Path

import pytest

from reopt.core.atomic import check_writable, write_atomically
from reopt.core.errors import ReoptError
from reopt.core.tables import write_text


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "far").mkdir()
    return tmp_path


def test_a_link_stays_a_link_and_its_target_is_written(place):
    Path("far/target.csv").write_text("earlier")
    Path("one.csv").symlink_to("far/target.csv")
    Path("two.csv").symlink_to(place / "one.csv")
    Path("new.csv").symlink_to("far/not-yet.csv")
    Path("linked").symlink_to("far")
    for name, target in (("two.csv", "target.csv"), ("new.csv", "not-yet.csv"), ("linked/x.csv", "x.csv")):
        write_text(name, f"in {name}")
        assert (place / "far" / target).read_text() == f"in {name}"
    assert all(Path(name).is_symlink() for name in ("one.csv", "two.csv", "new.csv", "linked"))
    assert sorted(os.listdir("far")) == ["not-yet.csv", "target.csv", "x.csv"]
    assert not any(name.endswith(".tmp") for name in os.listdir("."))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("/dev/stdout", "device"),
        ("/dev/stderr", "device"),
        ("/dev/null", "device"),
        ("/dev/fd/1", "device"),
        ("/proc/self/fd/1", "device"),
        ("to-stdout", "device"),
        ("to-link", "device"),
        ("pipe", "device"),
        ("to-pipe", "device"),
        ("far", "folder"),
        ("to-far", "folder"),
        ("loop", "symbolic links"),
        ("loop/x.csv", "not a folder|symbolic links"),
        ("file/x.csv", "not a folder|Not a directory"),
        ("astray", "whose folder is not there"),
        ("to-protected", "write-protected"),
        ("n" * 300, "name too long"),
        ("n/" * 3000, "name too long"),
    ],
)
def test_what_is_no_place_for_a_file_is_refused_and_left_as_it_is(place, name, said):
    Path("to-stdout").symlink_to("/dev/stdout")
    Path("to-link").symlink_to("to-stdout")
    os.mkfifo("pipe")
    Path("to-pipe").symlink_to("pipe")
    Path("to-far").symlink_to("far")
    Path("loop").symlink_to("loop")
    Path("file").write_text("earlier")
    Path("astray").symlink_to("nowhere/x.csv")
    Path("protected").write_text("earlier")
    Path("protected").chmod(0o444)
    Path("to-protected").symlink_to("protected")
    before = {entry: os.lstat(entry).st_ino for entry in [*os.listdir("."), "/dev/stdout", "/dev/null"]}
    for way in (lambda: write_text(name, "x"), lambda: check_writable(name)):
        with pytest.raises(ReoptError, match=f"(?i)cannot write .*({said})") as caught:
            way()
        assert len(str(caught.value)) < 600
    after = {entry: os.lstat(entry).st_ino for entry in [*os.listdir("."), "/dev/stdout", "/dev/null"]}
    assert after == before
    assert Path("file").read_text() == Path("protected").read_text() == "earlier"


def test_a_name_as_long_as_names_may_be_is_written(place):
    name = "n" * 251 + ".csv"
    write_text(name, "x")
    assert Path(name).read_text() == "x"


def test_a_failure_leaves_the_earlier_file_and_no_other(place):
    Path("out.csv").write_text("earlier")

    def half(temporary: Path) -> None:
        temporary.write_text("ha")
        raise OSError(28, "No space left on device")

    with pytest.raises(ReoptError, match="No space left"):
        write_atomically("out.csv", half)
    assert Path("out.csv").read_text() == "earlier"
    assert sorted(os.listdir(".")) == ["far", "out.csv"]
