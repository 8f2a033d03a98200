"""``make bench``: measuring the service and the alternatives on the same work, in one run.

    _service        ours
    _loop           no service at all: the encoder alone, transformers, sentence-transformers (in `_loops`)
    _litserve       LitServe with the same model (in `_peer_server`)
    _decode         from bytes to pixel values
    _waits          calls that wait for Triton's batcher, of a tiny model
    _priority       a caller beside bulk jobs, of a tiny model
    _rounds         everybody's turn, round after round
    _results        what was found
    _report         the tables, and `_plots` the pictures

Every contestant computes with the same number of threads, one by default. Threads are not bound to cores, so the other
work of a service may use other cores. All contestants run during the whole benchmark, and are idle while another is
measured. The peers run in their own environment, so that none of their packages is installed beside the service.
"""
