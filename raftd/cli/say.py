"""Sentences on standard error: on a terminal as they are, in the journal with their priority."""

from __future__ import annotations

import logging

import click

from raftd import logs


def error(sentence: str) -> None:
    _say(logging.ERROR, f"error: {sentence}")


def warning(sentence: str) -> None:
    _say(logging.WARNING, f"warning: {sentence}")


def _say(level: int, sentence: str) -> None:
    click.echo(f"{logs.priority(level)}{sentence}", err=True)
