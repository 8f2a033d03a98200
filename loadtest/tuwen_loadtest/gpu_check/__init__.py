"""``make gpu-check``: measuring the exactness and the speed of encoders and service on an NVIDIA card.

    _encoders       the exported encoders on the device: deviation from fp32 on the CPU, and speed by batch size
    _served         the embedded server with the card: from JPEG bytes, from pixels, one caller, memory, instances
    _results        what was found
    _report         the table and the plots, with the card's name

Models have the published sizes and seeded random weights. Nothing is downloaded.
"""
