"""The source closure, on packages written for the purpose and against what Python really imports."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from snakedvc import SnakedvcError, sources
from snakedvc.sources import forget

Write = Callable[[dict[str, str]], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    monkeypatch.chdir(tmp_path)

    def write_files(files: dict[str, str]) -> None:
        for path, text in files.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)

    return write_files


def closure(*modules: str) -> set[str]:
    return set(sources(*modules))


def test_digest_is_sha256_of_raw_bytes_and_paths_are_sorted(write: Write, tmp_path: Path) -> None:
    write({"src/p/__init__.py": "", "src/p/b.py": "", "src/p/a.py": "import p.b\n"})
    (tmp_path / "src/p/b.py").write_bytes(b"x = 1\r\n")
    found = sources("p.a")
    assert list(found) == ["src/p/__init__.py", "src/p/a.py", "src/p/b.py"]
    assert found["src/p/b.py"] == hashlib.sha256(b"x = 1\r\n").hexdigest()


def test_what_snakemake_compares_is_short_and_changes_with_any_byte_or_path(write: Write) -> None:
    seen = set()
    for files in ({"p/a.py": ""}, {"p/a.py": "x = 1\n"}, {"p/b.py": "x = 1\n"}, {"p/a.py": "x = 1\n", "p/b.py": ""}):
        write(files)
        forget()
        seen.add(repr(sources(files=files)))
    assert len(seen) == 4
    assert max(map(len, seen)) < 100


def test_an_installed_package_counts_where_the_repository_has_none_of_its_name(
    write: Write, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path_factory.mktemp("environment")
    monkeypatch.syspath_prepend(elsewhere)
    (elsewhere / "found_elsewhere").mkdir()
    texts = {"__init__": "", "a": "from found_elsewhere import b\n", "b": "x = 1\n", "c": "x = 1\n"}
    for name, text in texts.items():
        (elsewhere / f"found_elsewhere/{name}.py").write_text(text)
    write({"p/d.py": ""})
    forget()
    first = sources("found_elsewhere.a", "p.d")
    assert list(first) == ["p/d.py"]  # what DVC is told of
    assert set(first.installed) == {"found_elsewhere/__init__.py", "found_elsewhere/a.py", "found_elsewhere/b.py"}
    seen = {repr(first)}
    for name, new in (("c", False), ("b", True)):
        (elsewhere / f"found_elsewhere/{name}.py").write_text("x = 2\n")
        forget()
        assert (repr(sources("found_elsewhere.a", "p.d")) not in seen) is new
    write({"found_elsewhere/__init__.py": "", "found_elsewhere/a.py": ""})
    forget()
    assert list(sources("found_elsewhere.a")) == ["found_elsewhere/__init__.py", "found_elsewhere/a.py"]
    assert sources("found_elsewhere.a").installed == {}
    with pytest.raises(SnakedvcError, match=r"Module 'nowhere\.a' does not exist"):
        sources("nowhere.a")


def test_from_import_of_a_module_and_of_a_name(write: Write) -> None:
    write(
        {
            "src/p/__init__.py": "",
            "src/p/q/__init__.py": "from p.q.inner import name\n",
            "src/p/q/inner.py": "name = 1\n",
            "src/p/q/module.py": "",
            "src/p/a.py": "from p.q import module, name\n",
            "src/p/other.py": "",
        }
    )
    expected = {"src/p/__init__.py", "src/p/a.py"}
    expected |= {"src/p/q/__init__.py", "src/p/q/inner.py", "src/p/q/module.py"}
    assert closure("p.a") == expected


def test_relative_imports_at_each_level(write: Write) -> None:
    write(
        {
            "src/p/__init__.py": "",
            "src/p/leaf.py": "",
            "src/p/q/__init__.py": "from . import near\n",
            "src/p/q/near.py": "",
            "src/p/q/a.py": "from .near import x\nfrom ..leaf import y\nfrom .. import top\n",
            "src/p/top.py": "",
        }
    )
    assert closure("p.q.a") == {
        "src/p/__init__.py",
        "src/p/leaf.py",
        "src/p/top.py",
        "src/p/q/__init__.py",
        "src/p/q/near.py",
        "src/p/q/a.py",
    }


@pytest.mark.parametrize(
    "text",
    [
        "def f():\n    from p import b\n",
        "try:\n    import p.b\nexcept ImportError:\n    pass\n",
        "import importlib\nimportlib.import_module('p.b')\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    pass\nelse:\n    import p.b\n",
        "class C:\n    import p.b as b\n",
    ],
)
def test_imports_that_can_run_count(write: Write, text: str) -> None:
    write({"src/p/__init__.py": "", "src/p/b.py": "", "src/p/a.py": text})
    assert "src/p/b.py" in closure("p.a")


@pytest.mark.parametrize("test", ["TYPE_CHECKING", "typing.TYPE_CHECKING"])
def test_type_checking_imports_do_not_count(write: Write, test: str) -> None:
    text = f"import typing\nfrom typing import TYPE_CHECKING\nif {test}:\n    from p import b\n    import p.gone\n"
    write({"src/p/__init__.py": "", "src/p/b.py": "", "src/p/a.py": text})
    assert closure("p.a") == {"src/p/__init__.py", "src/p/a.py"}


def test_cycles_other_packages_and_further_files(write: Write) -> None:
    write(
        {
            "src/p/__init__.py": "",
            "src/p/a.py": "import numpy\nimport other\nfrom p import b\n",
            "src/p/b.py": "from p import a\n",
            "src/other/__init__.py": "",
            "src/p/style.txt": "thick",
        }
    )
    found = sources("p.a", files=["src/p/style.txt"])
    assert set(found) == {"src/p/__init__.py", "src/p/a.py", "src/p/b.py", "src/p/style.txt"}


def test_package_in_the_root_and_without_init(write: Write) -> None:
    write({"p/q/a.py": "from p.q.b import x\n", "p/q/b.py": "x = 1\n"})
    assert closure("p.q.a") == {"p/q/a.py", "p/q/b.py"}


@pytest.mark.parametrize(
    ("files", "module", "words"),
    [
        ({"src/p/__init__.py": ""}, "p.gone", "Module 'p.gone' does not exist"),
        ({"src/p/a.py": "import p.gone\n"}, "p.a", "'p.gone', imported in 'src/p/a.py'"),
        ({"src/p/a.py": "from ... import x\n"}, "p.a", "leaves its package"),
        ({"src/p/a.py": "def\n"}, "p.a", "'src/p/a.py' does not parse"),
    ],
)
def test_mistakes_are_named(write: Write, files: dict[str, str], module: str, words: str) -> None:
    write(files)
    with pytest.raises(SnakedvcError, match=words):
        sources(module)


@pytest.mark.parametrize("module", ["snakedvc", "snakedvc.__main__", "snakedvc.record_process"])
def test_covers_what_python_imports(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    root = Path(__file__).parents[2]
    monkeypatch.chdir(root)
    code = (
        f"import sys, {module}; print(*(m.__file__ for n, m in sys.modules.items() if n.split('.')[0] == 'snakedvc'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root / "src")
    imported = {os.path.relpath(path, root) for path in done.stdout.split()}
    assert imported
    assert imported <= closure(module)


def test_imports_are_kept_by_content_from_one_process_to_the_next(write: Write, tmp_path: Path) -> None:
    write({"src/p/__init__.py": "", "src/p/a.py": "from . import b\n", "src/p/b.py": "", ".snakemake/x": ""})
    refuses = "import ast\ndef parse(*a, **b): raise RuntimeError('parsed')\nast.parse = parse\n"
    reads = "from snakedvc import sources\nprint(sorted(sources('p.a')))"

    def found(code: str) -> str:
        run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
        return run.stdout.strip() or run.stderr.strip().splitlines()[-1]

    all_three = "['src/p/__init__.py', 'src/p/a.py', 'src/p/b.py']"
    assert found(refuses + reads) == "RuntimeError: parsed"
    assert found(reads) == all_three
    assert found(refuses + reads) == all_three
    (tmp_path / "src/p/b.py").write_text("x = 1\n")  # other content
    assert found(refuses + reads) == "RuntimeError: parsed"
    assert found(reads) == all_three
    (tmp_path / "src/p/b.py").unlink()  # the same content, and what it imports is gone
    assert found(refuses + reads) == "['src/p/__init__.py', 'src/p/a.py']"
