"""The reading of forms (``multipart/form-data``). Images in forms are raw bytes, a quarter smaller than base64."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from tuwen import ItemFailure
from tuwen.pixels import open_image
from tuwen_edge.errors import EdgeError, refused_items

__all__ = ["Form", "FormLimits", "Part", "read_form"]

_HEADER_BYTES = 4096  # maximum size of the headers of one part
_IMAGE_HEADER = 1 << 16  # in nearly every file, these first bytes tell the number of pixels


@dataclass(frozen=True)
class FormLimits:
    """The limits of a form.

    Attributes:
        max_parts: the maximum number of parts.
        max_pixels: the maximum number of pixels of an image.
    """

    max_parts: int
    max_pixels: int


@dataclass(frozen=True)
class Part:
    """One part of a form.

    Attributes:
        name: the name of the field.
        data: the content of the part.
        is_file: whether the part is a file: it has a file name, or a media type other than text.
    """

    name: str
    data: bytes
    is_file: bool

    def text(self) -> str:
        """Return the content as a text.

        Raises:
            EdgeError: 400: the content is not UTF-8.
        """
        try:
            return self.data.decode("utf-8")
        except UnicodeDecodeError:
            raise EdgeError(
                400, f"The field {self.name!r} is not a text in UTF-8.", code="invalid_form", param=self.name
            ) from None


@dataclass
class Form:
    """The parts of a form, in order."""

    parts: list[Part] = field(default_factory=list)

    def fields(self, allowed: Mapping[str, bool]) -> dict[str, list[Part]]:
        """Return the parts by name.

        Args:
            allowed: the names of the allowed fields as keys. The value True allows the field to be repeated.

        Raises:
            EdgeError: 400: a field is unknown, or is repeated although this is not allowed.
        """
        found: dict[str, list[Part]] = {}
        for part in self.parts:
            if part.name not in allowed:
                shown = ", ".join(allowed)
                raise EdgeError(
                    400,
                    f"Unknown field {part.name[:50]!r}; expected {shown}.",
                    code="invalid_form",
                    param=part.name[:50],
                )
            found.setdefault(part.name, []).append(part)
            if len(found[part.name]) > 1 and not allowed[part.name]:
                raise EdgeError(
                    400, f"The field {part.name!r} is repeated; send it once.", code="invalid_form", param=part.name
                )
        return found


async def read_form(pieces: AsyncIterator[bytes], content_type: str, limits: FormLimits) -> Form:
    """Read a form while it arrives.

    Args:
        pieces: the pieces of the body, as they arrive.
        content_type: the header ``Content-Type``, which contains the boundary.

    Raises:
        EdgeError: 400: the body is not a form; 413: it has too many parts; 422: an image has too many pixels.
    """
    boundary = parse_options_header(content_type.encode("latin-1", "replace"))[1].get(b"boundary")
    if not boundary or len(boundary) > 256:
        raise EdgeError(400, "The header Content-Type of the form has no boundary.", code="invalid_form")
    reader = _Reader(limits)
    parser = MultipartParser(boundary, reader.callbacks())  # type: ignore[arg-type]
    try:
        async for piece in pieces:
            parser.write(piece)
        parser.finalize()
    except MultipartParseError as error:
        raise EdgeError(400, "The body is not a valid form.", code="invalid_form") from error
    if not reader.is_complete:
        raise EdgeError(400, "The form ends before its last boundary.", code="invalid_form")
    return reader.form


class _Reader:
    """The callbacks of the parser, which collect the parts of one form."""

    def __init__(self, limits: FormLimits) -> None:
        self.form = Form()
        self.is_complete = False
        self._limits = limits
        self._files = 0
        self._begin()

    def callbacks(self) -> dict[str, object]:
        """Return the callbacks for the parser."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._complete,
        }

    def _begin(self) -> None:
        self._headers: dict[bytes, bytes] = {}
        self._field = self._value = b""
        self._header_size = 0
        self._content = bytearray()
        self._name, self._is_file, self._is_checked = "", False, False

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._field += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._count_header(end - start)
        self._value += data[start:end]

    def _count_header(self, size: int) -> None:
        self._header_size += size
        if self._header_size > _HEADER_BYTES:
            raise EdgeError(
                400, f"A part of the form has more than {_HEADER_BYTES} bytes of headers.", code="invalid_form"
            )

    def _header_end(self) -> None:
        self._headers[self._field.lower()] = self._value
        self._field = self._value = b""

    def _headers_finished(self) -> None:
        disposition, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if disposition != b"form-data" or b"name" not in options:
            raise EdgeError(
                400, "A part of the form has no field name in its header Content-Disposition.", code="invalid_form"
            )
        if len(self.form.parts) >= self._limits.max_parts:
            raise EdgeError(
                413, f"The form has more than {self._limits.max_parts} parts. Split the form.", code="too_many_items"
            )
        self._name = options[b"name"].decode("utf-8", "replace")
        media_type = self._headers.get(b"content-type", b"text/plain").partition(b";")[0].strip().lower()
        self._is_file = b"filename" in options or not media_type.startswith(b"text/")

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._content += data[start:end]
        if self._is_file and not self._is_checked and len(self._content) >= _IMAGE_HEADER:
            self._check_pixels()

    def _end(self) -> None:
        if self._is_file and not self._is_checked:
            self._check_pixels()
        self._files += self._is_file
        self.form.parts.append(Part(self._name, bytes(self._content), self._is_file))
        self._content = bytearray()

    def _complete(self) -> None:
        self.is_complete = True

    def _check_pixels(self) -> None:
        """Check the number of pixels in an image's header, before the rest of the image arrives."""
        self._is_checked = True
        try:
            with open_image(bytes(self._content)) as image:
                width, height = image.size
        except Exception:  # The header is incomplete or broken: the server refuses the image with a reason.
            return
        if width * height > self._limits.max_pixels:
            index = sum(part.name == self._name for part in self.form.parts)
            message = f"the image has {width}x{height} pixels, the limit is {self._limits.max_pixels}"
            raise refused_items([ItemFailure(index, "too_many_pixels", message)], index + 1)
