"""The benchmark of ``make bench``: it measures the service and other software with equal work, in one run.

    _service        the service of this project
    _loop           loops without a service: the encoder alone, transformers, sentence-transformers (in `_loops`)
    _litserve       LitServe with the same model (in `_peer_server`)
    _decode         the conversion of bytes to pixel values
    _waits          calls that wait for Triton's batcher, with a tiny model
    _priority       the calls of a single caller while bulk jobs run, with a tiny model
    _rounds         the order of measurements: in every round, each contestant is measured once
    _results        the results
    _report         the tables, and `_plots` the pictures

The measured programs are called contestants, and the contestants other than this project are called peers. Every
contestant computes with the same number of threads, one by default. Threads are not bound to cores, so a service may
decode and tokenize on other cores. All contestants run during the whole benchmark, and are idle while another
contestant is measured. The peers run in a virtual environment of their own.
"""
