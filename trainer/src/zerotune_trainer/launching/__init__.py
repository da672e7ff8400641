"""What starts a node's ranks and reports how they fare: `zerotune-launch`.

It is our own and not torchrun: torchrun makes every exit code 1, hides which signal ended a rank, and its agents
never learn of a rank that hangs on another node. Here exit codes are classes of failures, every rank has a heartbeat,
and what all ranks import is imported once a node, in the process that they are forked from.
"""
