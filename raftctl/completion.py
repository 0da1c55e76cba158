"""What the shell completes: names of live members, and keys. Quick, and silent when it fails."""

from __future__ import annotations

from binascii import Error, a2b_base64, b2a_base64
from collections.abc import Callable
from typing import Any

import click
from click.shell_completion import CompletionItem

from raftctl.failure import Failure
from raftctl.session import Session
from raftd.admin.protocol import KV, NODE

TIMEOUT_S = 0.5
MAX_KEYS = 200


def complete_members(
    ctx: click.Context, _argument: click.Parameter, start: str
) -> list[CompletionItem]:
    """The members of the cluster, as the node of this host knows them."""
    return _completed(ctx, start, _members)


def complete_keys(
    ctx: click.Context, _argument: click.Parameter, start: str
) -> list[CompletionItem]:
    """The first keys that begin with what there is; beyond a "/" only as far as the next one."""
    return _completed(ctx, start, _keys)


def _completed(
    ctx: click.Context, start: str, find: Callable[[Session, str], list[str]]
) -> list[CompletionItem]:
    session = ctx.ensure_object(Session)
    session.timeout = TIMEOUT_S
    try:
        found = find(session, start)
    except (Failure, LookupError, TypeError, ValueError, Error):
        return []  # on the command line of somebody who has not asked anything yet
    return [CompletionItem(word) for word in found if word.startswith(start)]


def _members(session: Session, _start: str) -> list[str]:
    answer = session.call(f"{NODE}.GetStatus", {"timeout_ms": session.timeout_ms})
    return [member["name"] for member in answer["status"]["members"]]


def _keys(session: Session, start: str) -> list[str]:
    parameters: dict[str, Any] = {
        "prefix": b2a_base64(start.encode(), newline=False).decode(),
        "limit": MAX_KEYS,
        "stale": True,  # needs no quorum, and a key more or less does no harm
        "timeout_ms": session.timeout_ms,
    }
    items = session.call(f"{KV}.Range", parameters)["items"]
    texts = (a2b_base64(item["key"]).decode(errors="replace") for item in items)
    found = dict.fromkeys(_to_next_slash(text, len(start)) for text in texts)
    return [text for text in found if text.isprintable() and "\ufffd" not in text]


def _to_next_slash(text: str, begin: int) -> str:
    end = text.find("/", begin)
    return text if end < 0 else text[: end + 1]
