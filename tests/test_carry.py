"""What the Debian package carries: exactly what the lock names, for both Pythons, and no more."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

import pytest

PACKAGING = Path(__file__).parents[1] / "packaging"
MACHINE = "x86_64"


@pytest.fixture
def carry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The module, with an empty directory of wheels and a lock of its own."""
    monkeypatch.syspath_prepend(str(PACKAGING))
    spec = importlib.util.spec_from_file_location("carry", PACKAGING / "carry.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules.pop("bootstrap", None)
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    monkeypatch.setattr(module, "WHEELS", wheels)
    monkeypatch.setattr(module, "LOCK", tmp_path / "requirements.txt")
    monkeypatch.setattr(module.platform, "machine", lambda: MACHINE)
    return module


def wheel(members: dict[str, str]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return data.getvalue()


def lock(carry: Any, package: str, version: str, *contents: bytes) -> None:
    hashes = "".join(f" \\\n    --hash=sha256:{hashlib.sha256(c).hexdigest()}" for c in contents)
    carry.LOCK.write_text(f"{package}=={version}{hashes}\n    # via raftd\n")


NAMES = [
    f"a_b-1.0-{python}-{abi}-{system}.whl"
    for python, abi in (("cp311", "cp311"), ("cp313", "cp313"), ("cp313", "cp313t"))
    for system in (f"manylinux_2_17_{MACHINE}", "manylinux_2_17_aarch64", "musllinux_1_2_x86_64")
]


def test_wheels_for_both_pythons_on_this_machine(carry: Any) -> None:
    assert carry.wanted("a-b", "1.0", [*NAMES, "a_b-1.0.tar.gz", "a_b-1.0.1-cp311.whl"]) == [
        f"a_b-1.0-cp311-cp311-manylinux_2_17_{MACHINE}.whl",
        f"a_b-1.0-cp313-cp313-manylinux_2_17_{MACHINE}.whl",
    ]


def test_one_wheel_for_all_machines_comes_first(carry: Any) -> None:
    assert carry.wanted("a-b", "1.0", [*NAMES, "a_b-1.0-py3-none-any.whl"]) == [
        "a_b-1.0-py3-none-any.whl"
    ]


def test_the_source_serves_where_there_are_no_wheels_and_half_a_set_is_none(carry: Any) -> None:
    assert carry.wanted("a-b", "1.0", ["a_b-1.0.tar.gz"]) == ["a_b-1.0.tar.gz"]
    assert carry.wanted("a-b", "1.0", NAMES[:1]) == []


def test_modules_and_nothing_else_are_unpacked(carry: Any, tmp_path: Path) -> None:
    content = wheel(
        {
            "ab/__init__.py": "x = 1",
            "ab/_tests/test_ab.py": "",
            "ab/ab.pyi": "",
            "ab-1.0.dist-info/METADATA": "",
        }
    )
    (carry.WHEELS / "ab-1.0-py3-none-any.whl").write_bytes(content)
    lock(carry, "ab", "1.0", content)
    carry.main(["unpack", str(tmp_path / "lib")])
    found = [path for path in (tmp_path / "lib").rglob("*") if path.is_file()]
    assert found == [tmp_path / "lib" / "ab" / "__init__.py"]


def test_a_file_with_another_hash_is_not_unpacked(carry: Any, tmp_path: Path) -> None:
    content = wheel({"ab/__init__.py": ""})
    (carry.WHEELS / "ab-1.0-py3-none-any.whl").write_bytes(content + b"!")
    lock(carry, "ab", "1.0", content)
    with pytest.raises(SystemExit, match=r"is not a file that requirements\.txt names"):
        carry.main(["unpack", str(tmp_path / "lib")])
    assert not (tmp_path / "lib").exists()


def test_what_is_missing_is_told(carry: Any, tmp_path: Path) -> None:
    lock(carry, "ab", "1.0", b"")
    with pytest.raises(SystemExit, match=r"lacks ab 1\.0"):
        carry.main(["unpack", str(tmp_path / "lib")])


@pytest.mark.parametrize("name", ["/etc/passwd.py", "../x.py", "ab/../../x.py"])
def test_no_name_leads_out_of_the_directory(carry: Any, name: str) -> None:
    assert not carry.is_wanted(PurePosixPath(name))


def test_a_source_archive_gives_its_package(carry: Any, tmp_path: Path) -> None:
    file = carry.WHEELS / "ab-1.0.tar.gz"
    with tarfile.open(file, "w:gz") as archive:
        for name in ("ab-1.0/setup.py", "ab-1.0/ab/__init__.py"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    lock(carry, "ab", "1.0", file.read_bytes())
    carry.main(["unpack", str(tmp_path / "lib")])
    assert [path.name for path in (tmp_path / "lib").iterdir()] == ["ab"]


def test_wheels_that_disagree_about_a_module_stop_the_build(carry: Any, tmp_path: Path) -> None:
    contents = [wheel({"a_b/__init__.py": f"x = {n}"}) for n in (1, 2)]
    for python, content in zip(("cp311", "cp313"), contents, strict=True):
        (carry.WHEELS / f"a_b-1.0-{python}-{python}-manylinux_2_17_{MACHINE}.whl").write_bytes(
            content
        )
    lock(carry, "a-b", "1.0", *contents)
    with pytest.raises(SystemExit, match="differ"):
        carry.main(["unpack", str(tmp_path / "lib")])
