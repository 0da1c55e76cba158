"""State traces: what the algorithm does, as lines of JSON, for a formal specification to judge.

Events and fields are those of etcd-io/raft's state_trace.go, as its tla/Traceetcdraft.tla reads
them: https://github.com/etcd-io/raft/tree/main/tla. One way in, `traced.TracedRaft`, in place of a
`Raft`: where no trace is wanted nothing of this runs.

What the trace says differs from what raftd says where the specification has other words for it:

* The members of a cluster's first start are an entry 1 of term 1 for it: indexes are one larger.
* It knows no pre-vote. A pre-candidate is a follower; a term learned from a pre-vote's answer is
  shown with the next message, or as elections that nobody heard of.
* Messages that a server takes no notice of are left out, as if lost: a vote refused because a
  leader is heard, an answer that came too late.
* "Ready" stands where messages leave, and where what they speak of is durable.
* A restart brings back the commit index of the last "Ready".

It has no words for some of what raftd does, and refuses the rest of a trace behind it:

* a snapshot for a server that has a log, and joint configurations;
* a term that a leader learned from a server which knows it from a pre-vote only;
* an AppendEntries that begins in front of what its receiver knows as committed and reaches beyond,
  as happens when messages were lost or overtaken: etcd answers that, and drops the rest;
* a server that is killed between a sync and its taking notice, or a leader between its entries'
  leaving for others and their being on its own disk (thesis 10.2.1).
"""
