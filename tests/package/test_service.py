"""raftd@.service under a booted systemd: start, crash, hang, stop, reload, and who may do what."""

from __future__ import annotations

import re
import time

import pytest

from tests.package.conftest import MEMBERS
from tests.package.machine import Machine

NODE = "raftd@node1"
MAX_EXPOSURE = 1.2


def start(host: Machine, unit: str = NODE) -> None:
    host.run("systemctl", "start", unit)
    host.until("raftctl status")


def leader(host: Machine) -> str:
    return host.out("raftctl", "--node", "node2", "-o", "json", "leader").split('"')[3]


def test_after_installation_one_command_starts_a_node_that_takes_a_key(host: Machine) -> None:
    assert host.show(NODE, "ActiveState") == "inactive", "nothing starts by itself"
    host.run("systemctl", "start", NODE)
    assert host.show(NODE, "ActiveState") == "active"
    host.until("raftctl kv put greeting hello")
    assert host.out("raftctl", "kv", "get", "greeting") == "hello"
    assert host.show(NODE, "NotifyAccess") == "main"
    assert host.sh("stat -c '%U %a' /var/lib/raftd/node1 /run/raftd/node1") == (
        "raftd 700\nraftd 750"
    )


@pytest.mark.parametrize("unit", ["raftd@node1", "raftd-backup@node1"])
def test_the_services_are_confined(host: Machine, unit: str) -> None:
    text = host.out("systemd-analyze", "security", "--no-pager", f"{unit}.service")
    match = re.search(r"exposure level for \S+: (\d+\.\d+) ", text)
    assert match is not None, text
    assert float(match[1]) <= MAX_EXPOSURE, text


def test_the_status_line_tells_role_term_leader_and_lag(cluster: Machine) -> None:
    lines = {node: cluster.show(f"raftd@{node}", "StatusText") for node in nodes()}
    first = leader(cluster)
    cluster.until(
        f"systemctl show raftd@{first} -P StatusText |"
        " grep -qx 'leader in term [0-9]*, all others up to date'"
    )
    for follower in set(lines) - {first}:
        cluster.until(
            f"systemctl show raftd@{follower} -P StatusText |"
            f" grep -qx 'follower in term [0-9]*, leader {first}, up to date'"
        )


def nodes() -> list[str]:
    return ["node1", "node2", "node3"]


def test_who_may_use_the_socket_and_who_may_change_the_cluster(host: Machine) -> None:
    host.run("useradd", "--groups", "raftd", "member")
    host.run("useradd", "stranger")
    start(host)
    assert host.run("raftctl", "kv", "put", "a", "b", user="member").returncode == 0
    assert "member@node1" in host.out("raftctl", "log", "tail", "-n", "1")
    refused = host.run("raftctl", "--node", "node1", "reload", user="member", check=False)
    assert (refused.returncode, "not permitted" in refused.stderr) == (7, True)
    outside = host.run("raftctl", "--node", "node1", "kv", "get", "a", user="stranger", check=False)
    assert (outside.returncode, "not permitted" in outside.stderr) == (7, True)


def test_a_node_without_a_configuration_fails_at_once_and_says_why(host: Machine) -> None:
    done = host.run("systemctl", "start", "raftd@nobody", check=False)
    assert done.returncode != 0
    shown = host.properties("raftd@nobody", "NRestarts", "ExecMainStatus", "ActiveState")
    assert shown == {"NRestarts": "0", "ExecMainStatus": "2", "ActiveState": "failed"}
    assert "/etc/raftd/nobody.toml: cannot be read (No such file" in host.journal()


def test_a_killed_node_comes_back_with_what_it_had(host: Machine) -> None:
    start(host)
    host.run("raftctl", "kv", "put", "kept", "1")
    host.run("systemctl", "kill", "--signal=KILL", NODE)
    host.until(f"test $(systemctl show {NODE} -P NRestarts) = 1 && systemctl is-active {NODE}")
    assert host.until("raftctl kv get kept") == "1"


def test_the_watchdog_restarts_a_node_that_stands_still(host: Machine) -> None:
    start(host)
    host.run("systemctl", "kill", "--signal=STOP", NODE)
    host.until(f"test $(systemctl show {NODE} -P NRestarts) = 1 && systemctl is-active {NODE}")
    assert "Watchdog timeout" in host.journal("-u", NODE)
    host.until("raftctl kv put still here")


@pytest.mark.parametrize("status", [2, 4, 5])
def test_what_a_restart_cannot_mend_is_not_restarted(host: Machine, status: int) -> None:
    host.run("mkdir", "-p", f"/run/systemd/system/{NODE}.service.d")
    host.write(
        f"/run/systemd/system/{NODE}.service.d/fail.conf",
        f"[Service]\nExecStart=\nExecStart=/bin/sh -c 'exit {status}'\n",
    )
    host.run("systemctl", "daemon-reload")
    assert host.run("systemctl", "start", NODE, check=False).returncode != 0
    host.until(f"systemctl is-failed {NODE}")
    time.sleep(1)  # several times RestartSec
    shown = host.properties(NODE, "NRestarts", "ExecMainStatus", "ActiveState")
    assert shown == {"NRestarts": "0", "ExecMainStatus": str(status), "ActiveState": "failed"}


def test_a_bad_configuration_is_told_in_the_journal(host: Machine) -> None:
    host.write("/etc/raftd/node1.toml", 'election_timeout_ms = "soon"\n' + MEMBERS)
    assert host.run("systemctl", "start", NODE, check=False).returncode != 0
    assert "election_timeout_ms: 'soon' is no range" in host.journal("-u", NODE)
    assert host.properties(NODE, "NRestarts", "ExecMainStatus") == {
        "NRestarts": "0",
        "ExecMainStatus": "2",
    }


def test_damaged_data_is_told_with_its_way_out(host: Machine) -> None:
    start(host)
    host.run("systemctl", "stop", NODE)
    host.sh("cd /var/lib/raftd/node1 && for f in hard-state*; do echo rubbish >$f; done")
    assert host.run("systemctl", "start", NODE, check=False).returncode != 0
    assert host.properties(NODE, "NRestarts", "ExecMainStatus")["ExecMainStatus"] == "4"
    told = host.journal("-x", "-u", NODE)
    assert "has found damage in its data" in told
    assert "replace the member by a new one" in told


def test_a_leader_that_is_stopped_hands_over_first(cluster: Machine) -> None:
    first = leader_known_to_all(cluster)
    cluster.run("systemctl", "stop", f"raftd@{first}")
    assert cluster.show(f"raftd@{first}", "Result") == "success"
    assert f"{first} hands leadership of term" in cluster.journal("-u", f"raftd@{first}")
    other = "node1" if first != "node1" else "node2"
    cluster.until(f"raftctl --node {other} kv put after stop")


def leader_known_to_all(cluster: Machine) -> str:
    names = {
        cluster.until(
            f"raftctl --node {node} -o json status | python3 -c"
            " 'import json, sys; print(json.load(sys.stdin)[\"leader\"])'"
        )
        for node in nodes()
    }
    assert len(names) == 1
    return names.pop()


def test_the_target_stops_and_starts_all_nodes_that_are_enabled(cluster: Machine) -> None:
    cluster.run("systemctl", "enable", "raftd@node1", "raftd@node2")
    cluster.run("systemctl", "stop", "raftd.target")
    states = [cluster.show(f"raftd@{node}", "ActiveState") for node in nodes()]
    assert states == ["inactive"] * 3, "stopping the target has waited for its nodes"
    cluster.run("systemctl", "start", "raftd.target")
    cluster.until("raftctl --node node2 kv put a b")
    assert cluster.show("raftd@node3", "ActiveState") == "inactive"


def test_a_reload_reads_the_log_levels_and_a_bad_one_changes_nothing(host: Machine) -> None:
    start(host)
    own = host.sh("cat /etc/raftd/node1.toml")
    host.write("/etc/raftd/node1.toml", 'log = "info,kv=debug"\n' + own)
    host.run("systemctl", "reload", NODE)
    assert "log levels are info,kv=debug now" in host.journal("-u", NODE)
    host.write("/etc/raftd/node1.toml", 'log = "loud"\n' + own)
    assert host.run("systemctl", "reload", NODE, check=False).returncode != 0
    assert "'loud' is no log level" in host.journal("-u", NODE)
    shown = host.properties(NODE, "ActiveState", "NRestarts")
    assert shown == {"ActiveState": "active", "NRestarts": "0"}
    host.run("raftctl", "kv", "put", "still", "here")


def test_the_journal_has_fields_to_ask_for_and_explains_events(host: Machine) -> None:
    start(host)
    (entry,) = host.entries("RAFTD_NODE=node1", "MESSAGE_ID=9257a00d59d24c7394a2e19f11033039")
    assert entry["MESSAGE"] == "raft: node1 leads term 1"
    told = {key: entry[key] for key in ("RAFTD_TERM", "RAFTD_PEER", "RAFTD_MODULE", "PRIORITY")}
    assert told == {
        "RAFTD_TERM": "1",
        "RAFTD_PEER": "node1",
        "RAFTD_MODULE": "raft",
        "PRIORITY": "6",
    }
    assert entry["_SYSTEMD_UNIT"] == "raftd@node1.service"
    assert "Subject: node1 leads in term 1" in host.journal("-x", "RAFTD_TERM=1")


def test_root_cannot_take_a_node_away_from_its_service(host: Machine) -> None:
    run = ("timeout", "--signal=INT", "3", "raftd", "run", "--config", "/etc/raftd/node1.toml")
    # What root makes anew, systemd gives to the service.
    assert host.run(*run, check=False).returncode == 124
    start(host)
    host.run("systemctl", "stop", NODE)
    done = host.run(*run, check=False)
    assert done.returncode == 2, done.stderr
    assert "/var/lib/raftd/node1 belongs to raftd, who could not use" in done.stderr
    assert "`systemctl start raftd@node1`" in done.stderr
    assert host.sh("find /var/lib/raftd/node1 ! -user raftd") == ""
    start(host)
    host.run("systemctl", "stop", NODE)
    for name in ("node-id", "state/kv.db"):
        file = f"/var/lib/raftd/node1/{name}"
        host.sh(f"chown root: {file} && chmod 600 {file}")
        assert host.run("systemctl", "start", NODE, check=False).returncode != 0
        assert f"{file}: Permission denied; a data directory, with everything in it, must" in (
            host.journal("-u", NODE)
        )
        host.sh(f"chown raftd: {file}")
    start(host)


def test_data_and_socket_elsewhere_take_a_drop_in_as_the_manual_has_it(host: Machine) -> None:
    own = host.sh("cat /etc/raftd/node1.toml")
    host.sh("install -d -o raftd -g raftd -m 700 /srv/raftd/node1 /srv/raftd/run")
    for setting, path in (("data_dir", "/srv/raftd/node1"), ("socket", "/srv/raftd/run/sock")):
        host.write("/etc/raftd/node1.toml", f'{setting} = "{path}"\n{own}')
        assert host.run("systemctl", "start", NODE, check=False).returncode != 0
        host.run("systemctl", "stop", NODE)  # one without a socket would try again
        (line,) = {
            each
            for each in host.journal("--output=cat", "-u", NODE).splitlines()
            if "Read-only file system" in each and path in each
        }
        assert f"ReadWritePaths=: see {setting} in raftd.toml(5)" in line
    host.write(
        "/etc/raftd/node1.toml",
        f'data_dir = "/srv/raftd/node1"\nsocket = "/srv/raftd/run/sock"\n{own}',
    )
    host.run("mkdir", "-p", f"/etc/systemd/system/{NODE}.service.d")
    host.write(
        f"/etc/systemd/system/{NODE}.service.d/override.conf",
        "[Unit]\nRequiresMountsFor=/srv/raftd/node1\n"
        "[Service]\nReadWritePaths=/srv/raftd/node1 /srv/raftd/run\n",
    )
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "start", NODE)
    host.until("raftctl --socket /srv/raftd/run/sock kv put a b")
    host.run("test", "-d", "/srv/raftd/node1/wal")
    # and in the foreground, as root is told when it tries to
    host.run("systemctl", "stop", NODE)
    host.sh("install -m 644 /etc/raftd/node1.toml /srv/node1.toml")
    run = ("raftd", "run", "--config", "/srv/node1.toml")
    assert f"`runuser -u raftd -- {' '.join(run)}`" in host.run(*run, check=False).stderr
    done = host.run(
        "timeout", "--signal=INT", "3", "runuser", "-u", "raftd", "--", *run, check=False
    )
    assert "node1 runs raftd" in done.stderr
