"""The reason why a connection failed, read from the message of gRPC, and what to try."""

from __future__ import annotations

from collections.abc import Sequence

from tuwen._errors import AccessDeniedError, AddressError, ServerError, ServerUnavailableError

__all__ = ["connection_error"]

# Fragments of gRPC's messages (1.60 to 1.85), the error that each stands for, and the advice. The first match counts.
_REASONS: Sequence[tuple[tuple[str, ...], type[ServerError], str]] = (
    (
        ("Expected SETTINGS frame", "http1.x server", "Received http2 header with status"),
        AddressError,
        "this port does not speak gRPC but plain HTTP; Triton's gRPC port is usually 8001",
    ),
    (
        ("WRONG_VERSION_NUMBER",),
        AddressError,
        "this port does not speak TLS; connect without tls (--tls, --ca), or use the port that is encrypted",
    ),
    (
        ("Hostname Verification Check failed",),
        AccessDeniedError,
        "the server's certificate is for another host name; pass Tls(server_name=...) with a name of the certificate",
    ),
    (
        ("CERTIFICATE_VERIFY_FAILED",),
        AccessDeniedError,
        "the server's certificate is not trusted; pass Tls(ca=...) (--ca) with the authority that signed it",
    ),
    (
        ("TLSV1_ALERT", "TLSV1_CERTIFICATE_REQUIRED", "SSLV3_ALERT"),
        AccessDeniedError,
        "the server refused the TLS handshake; check Tls(certificate=..., key=...) (--certificate, --key)",
    ),
    (
        ("Domain name not found", "DNS resolution failed", "errors resolving"),
        ServerUnavailableError,
        "the host name cannot be resolved; check its spelling and the DNS",
    ),
    (
        ("Connection refused",),
        ServerUnavailableError,
        "nothing listens at this address; check the port, and whether the server runs",
    ),
    (
        ("Socket closed", "Connection reset"),
        ServerUnavailableError,
        "the server closed the new connection; if it uses TLS, pass tls=Tls(...) (--tls), with a certificate if it "
        "asks for one",
    ),
)
# What a message begins with if no connection could be made. A connection that broke during a call has none of these.
_NO_CONNECTION = ("connections to all backends failing", "failed to connect to all addresses", "errors resolving")
_ALWAYS = ("DNS resolution failed", "Received http2 header with status")


def connection_error(message: str) -> tuple[type[ServerError], str] | None:
    """Return the error and the sentence for a connection that could not be made.

    Args:
        message: the details of a status of gRPC.

    Returns:
        the type of the error and its message, which ends with the message of gRPC; None: the status has another cause.
    """
    if not message.startswith(_NO_CONNECTION) and not any(fragment in message for fragment in _ALWAYS):
        return None
    for fragments, kind, advice in _REASONS:
        if any(fragment in message for fragment in fragments):
            return kind, f"cannot connect: {advice} [{message}]"
    return None
