"""The life of the package on a host: upgrade, remove, install again, purge."""

from __future__ import annotations

import pytest

from tests.package.conftest import NEXT_VERSION
from tests.package.machine import Machine


def test_an_upgrade_restarts_nobody_and_keeps_everything(cluster: Machine) -> None:
    cluster.run("raftctl", "--node", "node1", "kv", "put", "kept", "1")
    cluster.sh("echo '# edited' >>/etc/raftd/node1.toml")
    before = pids(cluster)
    said = cluster.out("apt-get", "install", "--yes", "/shared/next.deb")
    assert pids(cluster) == before
    assert "still running the version before: raftd@node1 raftd@node2 raftd@node3" in said
    assert "# edited" in cluster.sh("cat /etc/raftd/node1.toml")
    versions = cluster.out("raftctl", "--node", "node1", "version")
    assert NEXT_VERSION in versions
    assert cluster.out("raftctl", "--node", "node1", "kv", "get", "kept") == "1"
    for node in ("node1", "node2", "node3"):
        cluster.run("systemctl", "restart", f"raftd@{node}")
        cluster.until(f"raftctl --node {node} kv put {node} restarted")
    assert cluster.out("raftctl", "--node", "node2", "kv", "get", "kept") == "1"
    (line, *_) = cluster.sh("raftctl --node node1 -o json status").splitlines()
    assert line.count(f'"version":"{NEXT_VERSION}"') == 3


def pids(cluster: Machine) -> list[str]:
    return [cluster.show(f"raftd@node{n}", "MainPID") for n in (1, 2, 3)]


def test_installed_by_apt_kept_by_removal_gone_after_a_purge(machine: Machine) -> None:
    host = machine
    host.run("apt-get", "install", "--yes", "/shared/raftd.deb")
    assert host.show("raftd@node1", "ActiveState") == "inactive", "nothing starts by itself"
    host.run("systemctl", "enable", "--now", "raftd@node1")
    host.until("raftctl kv put kept 1")
    host.run("systemctl", "enable", "--now", "raftd-backup@node1.timer")
    host.run("apt-get", "remove", "--yes", "raftd")
    assert host.show("raftd@node1", "ActiveState") == "inactive"
    host.run("test", "-e", "/etc/raftd/node1.toml", "-a", "-d", "/var/lib/raftd/node1/wal")
    assert host.sh("ls /usr/lib/raftd 2>/dev/null || true") == ""

    host.run("apt-get", "install", "--yes", "/shared/raftd.deb")
    host.run("systemctl", "start", "raftd@node1")
    assert host.until("raftctl kv get kept") == "1"

    host.sh("mkdir -p /var/backups/raftd/node1 && echo x >/var/backups/raftd/node1/saved.db")
    host.run("apt-get", "purge", "--yes", "raftd")
    left = host.sh("find / -xdev -name '*raftd*' -not -path '/proc/*' 2>/dev/null | sort")
    allowed = (
        *("/var/backups/raftd", "/var/lib/apt", "/var/lib/systemd", "/var/log", "/var/tmp"),
        *("/tmp/systemd-private", "/var/cache", "/sys/"),
    )
    assert [path for path in left.splitlines() if not path.startswith(allowed)] == []
    assert host.sh("cat /var/backups/raftd/node1/saved.db") == "x"
    assert "raftd" not in host.sh("ls /var/lib/systemd/timers")


def test_nothing_of_it_is_in_the_way_of_other_python_programs(host: Machine) -> None:
    for module in ("raftd", "trio", "click", "msgspec"):
        done = host.run("python3", "-c", f"import {module}", check=False)
        assert "ModuleNotFoundError" in done.stderr, module
    # and nothing of theirs in its own way
    host.sh(
        "mkdir -p /tmp/x && cd /tmp/x && echo 'raise SystemExit(9)' >click.py && raftd --version"
    )
    paths = host.sh("PYTHONPATH=/tmp/x raftctl --version; PYTHONPATH=/tmp/x raftd --version")
    assert paths == "raftctl 0.1.0\nraftd 0.1.0"


def test_everything_is_compiled_so_that_commands_start_at_once(host: Machine) -> None:
    count = host.sh("find /usr/lib/raftd/raftctl -name '*.pyc' | wc -l")
    assert int(count) > 10


def test_manual_pages_and_completions_are_there(host: Machine) -> None:
    listed = host.sh("dpkg -L raftd")
    for path in (
        "/usr/share/man/man8/raftd.8.gz",
        "/usr/share/man/man1/raftctl.1.gz",
        "/usr/share/man/man5/raftd.toml.5.gz",
        "/usr/share/bash-completion/completions/raftctl",
        "/usr/share/zsh/vendor-completions/_raftctl",
        "/usr/share/fish/vendor_completions.d/raftctl.fish",
    ):
        assert path in listed


def test_completion_knows_live_members_and_keys(cluster: Machine) -> None:
    cluster.run("raftctl", "--node", "node1", "kv", "put", "app/mode", "blue")

    def completed(words: str, count: int) -> list[str]:
        script = f"COMP_WORDS='{words}' COMP_CWORD={count} _RAFTCTL_COMPLETE=bash_complete raftctl"
        return [line.partition(",")[2] for line in cluster.sh(script).splitlines()]

    assert completed("raftctl --node n", 2) == ["node1", "node2", "node3"]
    assert completed("raftctl --node node1 leader transfer n", 5) == ["node1", "node2", "node3"]
    assert completed("raftctl --node node1 kv get app/", 5) == ["app/mode"]


def test_a_backup_of_the_state_is_saved_and_old_ones_go(host: Machine) -> None:
    if host.run("raftctl", "snapshot", "save", "--help", check=False).returncode != 0:
        pytest.skip("this raftctl has no `snapshot save`")
    host.run("systemctl", "start", "raftd@node1")
    host.until("raftctl kv put kept 1")
    host.sh(
        "mkdir -p /var/backups/raftd/node1; cd /var/backups/raftd/node1; umask 027;"
        " for n in $(seq -w 1 20); do echo old >202001${n}T000000Z.db; done;"
        " echo mine >notes.db; chown -R raftd: ."
    )
    host.run("systemctl", "start", "raftd-backup@node1")
    names = host.sh("ls /var/backups/raftd/node1").splitlines()
    assert len(names) == 14 + 1, names
    assert "notes.db" in names
    newest = max(set(names) - {"notes.db"})
    assert host.sh(f"head -c 15 /var/backups/raftd/node1/{newest}") == "SQLite format 3"


def test_a_backup_that_cannot_be_made_is_a_failure_to_be_seen(host: Machine) -> None:
    assert host.run("systemctl", "start", "raftd-backup@node1", check=False).returncode != 0
    assert "raftd-backup@node1" in host.out("systemctl", "--failed", "--plain")
    assert "no daemon for node1" in host.journal("-u", "raftd-backup@node1")
    host.run("systemctl", "start", "raftd@node1")
    host.until("raftctl kv put kept 1")
    host.run("systemctl", "start", "raftd-backup@node1")
    assert "raftd-backup" not in host.out("systemctl", "--failed", "--plain")


def test_how_many_backups_are_kept_is_looked_at_before_anything_is_done(host: Machine) -> None:
    host.run("systemctl", "start", "raftd@node1")
    host.until("raftctl kv put kept 1")
    for kept in ("0", "abc", "08", "-1", "3x", "10000"):
        command = ("env", f"BACKUPS_KEPT={kept}", "/usr/lib/raftd/backup", "node1")
        done = host.run(*command, check=False, user="raftd")
        assert (done.returncode, done.stdout) == (2, ""), kept
        assert done.stderr.endswith(
            f"raftd-backup: BACKUPS_KEPT is '{kept}', no number from 1 to 9999; nothing was saved\n"
        )
    assert host.sh("ls -A /var/backups/raftd") == ""
    host.run("env", "BACKUPS_KEPT=1", "/usr/lib/raftd/backup", "node1", user="raftd")
    assert len(host.sh("ls /var/backups/raftd/node1").splitlines()) == 1
