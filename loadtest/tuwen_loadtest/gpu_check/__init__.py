"""The check of ``make gpu-check``: it measures exactness and speed of the encoders and the service on an NVIDIA GPU.

    _encoders       the exported encoders on the device: deviation from fp32 on the CPU, and speed by batch size
    _served         the embedded server on the GPU: its speed with JPEG files and with pixels, and its memory
    _results        the results
    _report         the table and the plots, with the name of the GPU

Models have the published sizes and seeded random weights. Nothing is downloaded.
"""
