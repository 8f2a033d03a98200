"""``make bench``: measure the service and its alternatives on the same work, in one run.

    _service        the service
    _loop           loops without a service: the encoder alone, transformers, sentence-transformers (in `_loops`)
    _litserve       LitServe with the same model (in `_peer_server`)
    _decode         the conversion of bytes to pixel values
    _waits          calls that wait for Triton's batcher, with a tiny model
    _priority       a caller beside bulk jobs, with a tiny model
    _rounds         the turns of all contestants, in rounds
    _results        the results
    _report         the tables, and `_plots` the pictures

Every contestant computes with the same number of threads, one by default. Threads are not bound to cores, so the other
work of a service may use other cores. All contestants run during the whole benchmark, and are idle while another is
measured. The peers run in their own environment, so that none of their packages is installed beside the service.
"""
