"""Run several processes in the foreground and show what they say, each line with its name in front.

One way in, `supervise`. Nobody is restarted. A signal stops them one after the other, so that a
leader can hand over to those who are left; a second signal kills. Should this process itself be
killed, the kernel stops its children (prctl(2), PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import click
import msgspec
import trio

STOP_EACH_S = 3.0
STOP_ALL_S = 10.0
MAX_LINE_BYTES = 64 << 10
_COLOURS = ("cyan", "green", "yellow", "magenta", "blue", "red")
_PR_SET_PDEATHSIG = 1
_MEANINGS = {
    2: "bad configuration or usage",
    3: "data directory locked by another daemon",
    4: "data directory damaged, or of another node, cluster or version",
    5: "a write or fsync failed",
    6: "address or socket in use",
    7: "no space on the disk",
}


class Child(msgspec.Struct, frozen=True):
    """A process to be started. `about` is said when it has."""

    name: str
    command: Sequence[str]
    about: str


def supervise(children: Sequence[Child]) -> int:
    """Run `children` until they have all ended; SIGINT, SIGTERM or SIGHUP stops them.

    Returns the exit status: 0 if they were stopped and did so in order, else 1.
    """
    return trio.run(_Supervisor(children).run)


class _Process:
    """A child that was started."""

    def __init__(self, child: Child, prefix: str) -> None:
        self.name = child.name
        self.prefix = prefix
        self.ended = trio.Event()
        self.failed = False
        self._popen = subprocess.Popen(  # noqa: S603 - our own command
            child.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONPATH": _import_path()},
            start_new_session=True,  # Ctrl-C is for us alone
            preexec_fn=_end_with(os.getpid()),  # noqa: PLW1509 - there are no threads
        )
        assert self._popen.stdout is not None
        self.output = trio.lowlevel.FdStream(os.dup(self._popen.stdout.fileno()))
        self._popen.stdout.close()
        self._pidfd = os.pidfd_open(self._popen.pid)

    @property
    def pid(self) -> int:
        return self._popen.pid

    def send(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    async def wait(self) -> int:
        """The exit status; negative: the signal that killed it."""
        await trio.lowlevel.wait_readable(self._pidfd)
        os.close(self._pidfd)
        return self._popen.wait()


class _Supervisor:
    def __init__(self, children: Sequence[Child]) -> None:
        self._children = children
        self._width = max(len("cluster"), *(len(child.name) for child in children))
        self._processes: list[_Process] = []
        self._stop = trio.Event()

    async def run(self) -> int:
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup(1) wants to go on
            numbers.append(signal.SIGHUP)
        with trio.open_signal_receiver(*numbers) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._obey, signals)
                nursery.start_soon(self._stop_when_told)
                async with trio.open_nursery() as watchers:
                    for number, child in enumerate(self._children):
                        process = _Process(child, self._prefix(child.name, number))
                        self._processes.append(process)
                        self._say(f"{child.name} started, pid {process.pid}: {child.about}")
                        watchers.start_soon(self._watch, process)
                nursery.cancel_scope.cancel()
        if not self._stop.is_set():
            self._say("all nodes have ended")
            return 1
        return int(any(process.failed for process in self._processes))

    async def _obey(self, signals: AsyncIterator[int]) -> None:
        async for number in signals:
            if self._stop.is_set():
                self._kill_the_rest("killed at once")
                continue
            self._say(f"{signal.Signals(number).name}: stopping all nodes; once more kills them")
            self._stop.set()

    async def _stop_when_told(self) -> None:
        await self._stop.wait()
        for process in self._processes:
            if not process.ended.is_set():
                process.send(signal.SIGTERM)
                with trio.move_on_after(STOP_EACH_S):
                    await process.ended.wait()
        with trio.move_on_after(STOP_ALL_S):
            for process in self._processes:
                await process.ended.wait()
        self._kill_the_rest(f"has not stopped within {STOP_ALL_S:.0f} s: killed")

    def _kill_the_rest(self, why: str) -> None:
        for process in self._processes:
            if not process.ended.is_set():
                self._say(f"{process.name} {why}")
                process.failed = True
                process.send(signal.SIGKILL)

    async def _watch(self, process: _Process) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._relay, process)
            status = await process.wait()
            nursery.cancel_scope.deadline = trio.current_time() + 1  # what is left in the pipe
        process.failed |= self._stop.is_set() and status not in {0, -signal.SIGTERM}
        process.ended.set()
        self._say(f"{process.name} {_ending(status)}")

    async def _relay(self, process: _Process) -> None:
        rest = b""
        async with process.output:
            async for chunk in process.output:
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > MAX_LINE_BYTES:
                    lines, rest = [*lines, rest], b""
                for line in lines:
                    self._write(process.prefix, line.decode(errors="replace"))
        if rest:
            self._write(process.prefix, rest.decode(errors="replace"))

    def _prefix(self, name: str, number: int | None) -> str:
        text = f"{name:{self._width}} |"
        return text if number is None else click.style(text, fg=_COLOURS[number % len(_COLOURS)])

    def _say(self, sentence: str) -> None:
        self._write(click.style(self._prefix("cluster", None), bold=True), sentence)

    def _write(self, prefix: str, line: str) -> None:
        """To stdout, in colour if that is a terminal. When nobody reads it any more, stop."""
        try:
            click.echo(f"{prefix} {line}", color=False if "NO_COLOR" in os.environ else None)
        except OSError:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, sys.stdout.fileno())
            os.close(null)
            self._stop.set()


def _ending(status: int) -> str:
    if status == 0:
        return "stopped"
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"ended with status {status} ({_MEANINGS.get(status, 'unexpected failure')})"


def _import_path() -> str:
    """For a child that must find what we have found, wherever that is installed."""
    own = str(Path(__file__).parents[2])
    rest = os.environ.get("PYTHONPATH")
    return os.pathsep.join([own, rest] if rest else [own])


def _end_with(parent: int) -> Callable[[], None]:
    """What a new child does first: have the kernel send it SIGTERM when `parent` dies."""
    prctl = ctypes.CDLL(None).prctl

    def set_it() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before that
            os._exit(1)

    return set_it
