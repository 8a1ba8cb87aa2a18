"""What a page's origin looks like (RFC 6454, section 6.2), and patterns that none can ever match, or too many do."""

import re

_DEFAULT_PORTS = {"http": 80, "https": 443}
_SCHEME = re.compile(r"[a-z][-+.a-z0-9]*://|\*")


def problem_of_origin(pattern: str) -> str:
    """What is wrong with one of ``client.allowed_origins``; empty if nothing is."""
    text = pattern.strip()
    bare = text.lower().strip("\"'")
    if bare == "null":
        return "is what every sandboxed frame and local file says it is, whoever wrote it; name origins of your own"
    if text != pattern or bare != text.lower():
        return _never(bare, "without spaces and quotes")
    if not text or text == "*":
        return "" if text else 'matches no origin; leave it out, or write one such as "https://example.com"'
    if not _SCHEME.match(bare):
        return _never(f"https://{bare}", "with the scheme")
    if not text.isascii():
        return _never(_in_ascii(bare), "as browsers write such a name")
    scheme, separator, rest = bare.partition("://")
    place = re.split(r"[/?#]", rest)[0]
    if place != rest:
        return _never(scheme + separator + place, "without a path")
    if "@" in rest:
        return _never(scheme + separator + rest.rpartition("@")[2], "without a user")
    if re.match(r"\[[0-9a-f]*:[0-9a-f:]*\]", rest):
        return _never(
            f"{scheme}://[[]{rest[1:]}", 'with "[[]" for a bracket, which begins a set of letters in a pattern'
        )
    return _problem_of_end(scheme, separator, rest)


def _problem_of_end(scheme: str, separator: str, rest: str) -> str:
    host, _, port = rest.rpartition(":")
    if host and port == str(_DEFAULT_PORTS.get(scheme)):
        return _never(f"{scheme}{separator}{host}", "without the port that the scheme has by itself")
    if rest.endswith("*") and not rest.endswith(":*") and re.search(r"[a-z0-9]", rest):
        return f'matches "{scheme}{separator}{rest[:-1]}.attacker.example", too; let the name of the host end'
    if rest.startswith("*") and not rest.startswith("*.") and re.search(r"[a-z0-9]", rest):
        return f'matches "{scheme}{separator}attacker-{rest[1:]}", too; write "{scheme}{separator}*.{rest[1:]}"'
    return ""


def _never(right: str, how: str) -> str:
    return f'can match no origin; write it {how}: "{right}"'


def _in_ascii(text: str) -> str:
    scheme, separator, rest = text.partition("://")
    host, colon, port = re.split(r"[/?#]", rest)[0].partition(":")
    try:
        labels = [label if label == "*" else label.encode("idna").decode() for label in host.split(".")]
    except UnicodeError:
        return f"{scheme}{separator}xn--..."
    return f"{scheme}{separator}{'.'.join(labels)}{colon}{port}"
