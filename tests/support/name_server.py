"""A DNS server that gives every name several addresses, as the DNS of Kubernetes does for a headless Service."""

from __future__ import annotations

import socket
import struct
import threading

__all__ = ["NameServer"]

_A, _IN = 1, 1


class NameServer:
    """A DNS server that answers every question for an IPv4 address with `addresses`; a context manager.

    Attributes:
        addresses: the IPv4 addresses of every answer. A test may change the list while the server runs.
        questions: the number of questions that the server has answered.
    """

    def __init__(self, addresses: list[str]) -> None:
        self.addresses = addresses
        self.questions = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)

    @property
    def port(self) -> int:
        """The UDP port of the server."""
        found: int = self._socket.getsockname()[1]
        return found

    def target(self, name: str, port: int) -> str:
        """Return the target with which a gRPC channel asks this server for the addresses of the name."""
        return f"dns://127.0.0.1:{self.port}/{name}:{port}"

    def __enter__(self) -> NameServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            question, sender = self._socket.recvfrom(4096)
            if not question:
                return
            self.questions += 1
            self._socket.sendto(self._answer(question), sender)

    def _answer(self, question: bytes) -> bytes:
        """Return a DNS response: a header, the question, and a record for each address (RFC 1035, section 4)."""
        end = question.index(b"\0", 12) + 5
        (kind,) = struct.unpack_from(">H", question, end - 4)
        addresses = self.addresses if kind == _A else []
        header = question[:2] + struct.pack(">HHHHH", 0x8180, 1, len(addresses), 0, 0)
        answers = b"".join(
            struct.pack(">HHHIH", 0xC00C, _A, _IN, 1, 4) + socket.inet_aton(address) for address in addresses
        )
        return header + question[12:end] + answers
