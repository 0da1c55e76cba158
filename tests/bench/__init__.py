"""How fast raftd is, and how fast etcd is beside it: `make bench`."""
