"""The interface definition language: what the files may say, and what they say is checked."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import varlink
from hypothesis import given
from hypothesis import strategies as st

from raftd.admin import idl, protocol

TEXT = """
# A comment (with parentheses), before everything.
interface org.example.more

type Kind (one, two)
type Part (kind: Kind, sizes: []int, names: [string]string, inner: (x: float))

method Do(part: Part, note: ?string, flag: bool) -> (any: object) # behind
method Nothing() -> ()
error Failed (reason: string)
"""


def convert(method: idl.Method, parameters: dict[str, Any]) -> Any:
    return msgspec.json.decode(msgspec.json.encode(parameters), type=method.parameters)


def test_types_of_every_kind() -> None:
    interface = idl.parse(TEXT)
    assert interface.name == "org.example.more"
    assert list(interface.methods) == ["Do", "Nothing"]
    assert list(interface.errors) == ["Failed"]
    part = {"kind": "one", "sizes": [1, 2], "names": {"a": "b"}, "inner": {"x": 1.5}}
    done = convert(interface.methods["Do"], {"part": part, "flag": True})
    assert done.part.kind == "one"
    assert done.part.sizes == [1, 2]
    assert done.note is None


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "three"},
        {"sizes": [1, "2"]},
        {"sizes": [2**63]},
        {"names": {"a": 1}},
        {"inner": {"x": "1"}},
        {"inner": {}},
        {"extra": 1},
    ],
)
def test_values_of_another_type_are_refused(change: dict[str, Any]) -> None:
    part = {"kind": "one", "sizes": [1, 2], "names": {"a": "b"}, "inner": {"x": 1.5}}
    with pytest.raises(msgspec.ValidationError):
        convert(idl.parse(TEXT).methods["Do"], {"part": {**part, **change}, "flag": True})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected 'interface'"),
        ("interface a.b method", "expected a name before the end"),
        ("interface a.b thing X ()", "expected type, method or error"),
        ("interface a.b\nmethod M(a: int) (b: int)", "line 2: expected '->'"),
        ("interface a.b\nmethod M(a: Foo) -> ()", "type Foo is used and not defined"),
        ("interface a.b\nmethod M(a int) -> ()", "expected ':'"),
        ("interface a.b\nerror E ()\nerror E ()", "expected E for the first time"),
        ("interface a.b\nmethod M() -> () ;", "expected a word or a sign"),
    ],
)
def test_a_mistake_is_named_with_its_line(text: str, words: str) -> None:
    with pytest.raises(idl.IdlError) as caught:
        idl.parse(text)
    assert words in str(caught.value)


@given(st.text(alphabet="interface a.bM()->?[]:,#\n type ", max_size=60))
def test_any_text_parses_or_is_refused(text: str) -> None:
    try:
        idl.parse("interface a.b\n" + text)
    except idl.IdlError as error:
        assert str(error)


@pytest.mark.parametrize("name", protocol.INTERFACES)
def test_our_interfaces_agree_with_an_independent_parser(name: str) -> None:
    text = protocol.interface_text(name)
    ours = idl.parse(text)
    theirs = varlink.Interface(text)
    assert ours.name == theirs.name == name
    kinds = {key: type(value).__name__ for key, value in theirs.members.items()}
    assert sorted(ours.methods) == sorted(key for key, kind in kinds.items() if kind == "_Method")
    assert sorted(ours.errors) == sorted(key for key, kind in kinds.items() if kind == "_Error")
    for key, method in ours.methods.items():
        assert list(method.parameter_types) == list(theirs.members[key].in_type.fields)
