"""Reads the Varlink interface definition language: text in, `Interface` out.

    interface = "interface" name { "type" Name type | "method" Name struct "->" struct
                                   | "error" Name struct }
    type      = "?" type | "[]" type | "[string]" type | "bool" | "int" | "float" | "string"
                | "object" | Name | struct | "(" identifier { "," identifier } ")"
    struct    = "(" [ identifier ":" type { "," identifier ":" type } ] ")"

(https://varlink.org/Interface-Definition.) The files are raftd's own: what they do not need, such
as types that contain themselves, is left out. Types become those that msgspec checks JSON against.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import msgspec

Type = Any
"""What msgspec takes as a type."""

INT = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_SIMPLE: Mapping[str, Type] = {
    "bool": bool,
    "int": INT,
    "float": float,
    "string": str,
    "object": dict[str, Any],
}
_TOKEN = re.compile(r"->|\[string\]|\[\]|[?(),:]|[A-Za-z][A-Za-z0-9_.-]*")
_BLANK = re.compile(r"(?:\s|#[^\n]*)*")


class IdlError(ValueError):
    """The text does not follow the grammar; says what was expected where."""


class Method(msgspec.Struct, frozen=True):
    """Parameters in and out, as classes derived from msgspec.Struct, and by name."""

    name: str
    parameters: type[msgspec.Struct]
    reply: type[msgspec.Struct]
    parameter_types: Mapping[str, Type]


class Interface(msgspec.Struct, frozen=True):
    name: str
    methods: Mapping[str, Method]
    errors: Mapping[str, type[msgspec.Struct]]


def parse(text: str) -> Interface:
    """Raises IdlError."""
    return _Parser(text).interface()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0
        self._next = ""
        self._types: dict[str, Callable[[], Type]] = {}
        self._advance()

    def interface(self) -> Interface:
        # Types may be used before they are defined: what is read first are recipes.
        self._expect("interface")
        name = self._name()
        methods: dict[str, tuple[_Fields, _Fields]] = {}
        errors: dict[str, _Fields] = {}
        while self._next:
            kind, member = self._name(), self._name()
            if member in methods or member in errors or member in self._types:
                raise self._wrong(f"{member} for the first time")
            match kind:
                case "type":
                    self._types[member] = self._type()
                case "method":
                    parameters = self._struct()
                    self._expect("->")
                    methods[member] = (parameters, self._struct())
                case "error":
                    errors[member] = self._struct()
                case _:
                    raise self._wrong("type, method or error")
        return Interface(
            name,
            {key: _method(key, *fields) for key, fields in methods.items()},
            {key: _class(key, fields) for key, fields in errors.items()},
        )

    def _type(self) -> Callable[[], Type]:
        match self._next:
            case "?":
                element = self._after("?")
                return lambda: element() | None
            case "[]":
                element = self._after("[]")
                return lambda: list[element()]  # type: ignore[misc]
            case "[string]":
                element = self._after("[string]")
                return lambda: dict[str, element()]  # type: ignore[misc]
            case "(":
                return self._struct_or_enum()
        name = self._name()
        if name in _SIMPLE:
            return lambda: _SIMPLE[name]
        return lambda: self._defined(name)

    def _after(self, token: str) -> Callable[[], Type]:
        self._expect(token)
        return self._type()

    def _struct_or_enum(self) -> Callable[[], Type]:
        mark = self._position, self._next
        self._expect("(")
        if self._next != ")" and self._name() and self._next in {",", ")"}:
            self._position, self._next = mark
            words = tuple(self._enum())
            return lambda: Literal[words]
        self._position, self._next = mark
        fields = self._struct()
        return lambda: _class("Struct", fields)

    def _enum(self) -> list[str]:
        self._expect("(")
        words = [self._name()]
        while self._next == ",":
            self._expect(",")
            words.append(self._name())
        self._expect(")")
        return words

    def _struct(self) -> _Fields:
        fields: _Fields = {}
        self._expect("(")
        while self._next != ")":
            if fields:
                self._expect(",")
            name = self._name()
            self._expect(":")
            optional = self._next == "?"
            fields[name] = optional, self._type()
        self._expect(")")
        return fields

    def _defined(self, name: str) -> Type:
        if name not in self._types:
            raise IdlError(f"type {name} is used and not defined")
        return self._types[name]()

    def _name(self) -> str:
        name = self._next
        if not name[:1].isalpha():
            raise self._wrong("a name")
        self._advance()
        return name

    def _expect(self, token: str) -> None:
        if self._next != token:
            raise self._wrong(repr(token))
        self._advance()

    def _advance(self) -> None:
        blank = _BLANK.match(self._text, self._position)
        self._position = blank.end() if blank else self._position
        token = _TOKEN.match(self._text, self._position)
        if token is None and self._position < len(self._text):
            raise self._wrong("a word or a sign of the language")
        self._next = token[0] if token else ""
        self._position += len(self._next)

    def _wrong(self, expected: str) -> IdlError:
        line = self._text.count("\n", 0, self._position) + 1
        found = repr(self._next) if self._next else "the end"
        return IdlError(f"line {line}: expected {expected} before {found}")


_Fields = dict[str, tuple[bool, Callable[[], Type]]]


def _class(name: str, fields: _Fields) -> type[msgspec.Struct]:
    """Null and absent are the same for an optional field; a field nobody knows is an error."""
    return msgspec.defstruct(
        name,
        [
            (key, make(), None) if optional else (key, make())
            for key, (optional, make) in fields.items()
        ],
        kw_only=True,
        forbid_unknown_fields=True,
    )


def _method(name: str, parameters: _Fields, reply: _Fields) -> Method:
    types = {key: make() for key, (_, make) in parameters.items()}
    return Method(name, _class(f"{name}Call", parameters), _class(f"{name}Reply", reply), types)
