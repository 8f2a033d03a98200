"""``make gpu-check``: measure the exactness and the speed of the encoders and the service on an NVIDIA card.

    _encoders       the exported encoders on the device: deviation from fp32 on the CPU, and speed by batch size
    _served         the embedded server with the card: speed with JPEG bytes, with pixels, with one caller; memory
    _results        the results
    _report         the table and the plots, with the card's name

Models have the published sizes and seeded random weights. Nothing is downloaded.
"""
