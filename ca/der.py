"""DER: a value of it, and one after the other, as the Workload API has a chain in one field.

Source: X.690 section 8.1 (identifier and length octets); Workload API, section 5.2.1.
"""

from collections.abc import Sequence

__all__ = ["InvalidDerError", "der_value", "split_der"]

_SEQUENCE = 0x30
_LONG = 0x80
_MAX_LENGTH_BYTES = 4


class InvalidDerError(ValueError):
    """The bytes are no sequence of DER values; the message says where that shows."""


def der_value(tag: int, content: bytes) -> bytes:
    """Encode one value: tag, length in as few bytes as it takes, content."""
    length = len(content)
    if length < _LONG:
        return bytes((tag, length)) + content
    long = length.to_bytes((length.bit_length() + 7) // 8)
    return bytes((tag, _LONG | len(long))) + long + content


def split_der(data: bytes, most: int) -> Sequence[bytes]:
    """Take apart values that stand one after the other.

    Args:
        data: Each a SEQUENCE, as a certificate is.
        most: How many there may be.

    Raises:
        InvalidDerError: They are cut off, or too many.
    """
    parts: list[bytes] = []
    start = 0
    while start < len(data):
        if len(parts) == most:
            raise InvalidDerError(f"there are more than {most} certificates")
        end = start + _length(data[start : start + 2 + _MAX_LENGTH_BYTES])
        if end > len(data):
            raise InvalidDerError(f"the certificate at byte {start} is cut off")
        parts.append(data[start:end])
        start = end
    if not parts:
        raise InvalidDerError("there is no certificate")
    return parts


def _length(head: bytes) -> int:
    """Give the length of the whole value that begins with these bytes."""
    if len(head) < 2 or head[0] != _SEQUENCE:  # noqa: PLR2004 - a tag and a length
        raise InvalidDerError("this is no certificate in DER")
    if head[1] < _LONG:
        return 2 + head[1]
    count = head[1] - _LONG
    if not 1 <= count <= _MAX_LENGTH_BYTES or len(head) < 2 + count:
        raise InvalidDerError("this is no certificate in DER")
    return 2 + count + int.from_bytes(head[2 : 2 + count], "big")
