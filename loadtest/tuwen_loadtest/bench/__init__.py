"""``make bench``: the service and the alternatives, on the same work, in one run.

    _service        ours
    _loop           no service at all: the encoder alone, transformers, sentence-transformers (in `_loops`)
    _litserve       LitServe with the same model (in `_peer_server`)
    _decode         from bytes to pixel values
    _waits          calls that wait for Triton's batcher, of a tiny model
    _priority       a caller beside bulk jobs, of a tiny model
    _rounds         everybody's turn, round after round
    _results        what was found
    _report         the tables, and `_plots` the pictures

Every contestant computes with the same number of threads, one unless told otherwise, and nobody is bound to a core:
what a service does beside computing may use the others. All of them run from the beginning to the end, and rest while
another is measured. The peers run in an environment of their own, so that nothing of them is installed beside the
service.
"""
