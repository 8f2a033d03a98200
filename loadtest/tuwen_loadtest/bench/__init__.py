"""``make bench``: the service and the alternatives, on the same work, in one run.

    _usage          what a process and its children used
    _loops          no service at all: the encoder alone, transformers, sentence-transformers
    _peer_server    LitServe with the same model
    _contestants    starts each of them and measures it
    _report         the table, the pictures and the numbers behind them

Every contestant computes with the same number of threads, one unless told otherwise, and nobody is bound to a core:
what a service does beside computing may use the others. The loops and the peers run in an environment of their own, so
that nothing of them is installed beside the service.
"""
