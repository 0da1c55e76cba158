"""The load generator for raftd where there is no Go: `python -m tests.bench.python_load -target …`.

The options are those of load/main.go. One thread and one epoll for all clients; every call is made
of bytes that were put together beforehand.
"""

from __future__ import annotations

import base64
import os
import select
import socket
import sys
import time
from collections import deque

from tests.bench.measuring import Measurement, Options, parse, print_sample

_RECEIVE = 256 << 10


def main() -> int:
    options = parse(sys.argv[1:])
    calls = _calls(options)
    measurement = Measurement(options)
    if options.pipeline:
        _pipelined(options, calls, measurement)
    else:
        _one_each(options, calls, measurement)
    print_sample(measurement.sample())
    return 0


def _calls(options: Options) -> list[bytes]:
    """One for each key."""
    value = base64.b64encode(os.urandom(options.size)).decode()
    end = '"}}\0' if options.operation == "get" else f'","value":"{value}"}}}}\0'
    method = "Get" if options.operation == "get" else "Put"
    return [
        f'{{"method":"io.raftd.KV.{method}","parameters":{{"key":"'
        f"{base64.b64encode(b'key%09d' % number).decode()}{end}".encode()
        for number in range(options.keys)
    ]


def _connect(options: Options) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(options.target)
    return connection


def _one_each(options: Options, calls: list[bytes], measurement: Measurement) -> None:
    connections = [_connect(options) for _ in range(options.clients)]
    by_file = {each.fileno(): each for each in connections}
    starts: dict[int, float] = {}
    errors: dict[int, str] = {}
    poll = select.epoll()

    def issue(file: int) -> None:
        now = time.perf_counter()
        key = measurement.more(now)
        if key is None:
            by_file.pop(file)
            poll.unregister(file)
            return
        starts[file] = now
        by_file[file].sendall(calls[key])

    for each in connections:
        poll.register(each.fileno(), select.EPOLLIN)
        issue(each.fileno())
    while by_file:
        for file, _ in poll.poll():
            data = by_file[file].recv(_RECEIVE)
            if not data:
                sys.exit("the daemon closed the connection")
            if data.startswith(b'{"error"'):
                errors[file] = data.decode(errors="replace")
            if data.endswith(b"\0"):
                measurement.ended(starts[file], time.perf_counter(), errors.pop(file, ""))
                issue(file)


def _pipelined(options: Options, calls: list[bytes], measurement: Measurement) -> None:
    """Sends when half of the window is free, so that one write carries many calls."""
    connection = _connect(options)
    connection.setblocking(False)
    starts: deque[float] = deque()
    out = memoryview(b"")
    more = True
    while more or starts:
        if more and not out and len(starts) <= options.pipeline // 2:
            now = time.perf_counter()
            batch = []
            while more and len(starts) < options.pipeline:
                key = measurement.more(now)
                if key is None:
                    more = False
                else:
                    starts.append(now)
                    batch.append(calls[key])
            out = memoryview(b"".join(batch))
        if not starts:
            break  # the time was over, and nothing was on its way
        select.select([connection], [connection] if out else [], [])
        try:
            while out:
                out = out[connection.send(out) :]
        except BlockingIOError:
            pass
        try:
            data = connection.recv(_RECEIVE)
        except BlockingIOError:
            continue
        if not data:
            sys.exit("the daemon closed the connection")
        now = time.perf_counter()
        failed = data.count(b'{"error"')
        for number in range(data.count(b"\0")):
            measurement.ended(starts.popleft(), now, "an error" if number < failed else "")


if __name__ == "__main__":
    sys.exit(main())
