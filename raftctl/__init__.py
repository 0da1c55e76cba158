"""raftctl: what an administrator types. It talks to the local daemon over its Unix socket.

It must start fast, so it imports the admin protocol and click, and everything else when needed.
"""
