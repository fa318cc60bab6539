"""Text that may hold passwords, tokens and keys in, the same text without them out.

What leaves Baton goes through here: what it prints, tags, parameters, artifacts, closing sentences.
Inside, nothing is masked, so that addresses work and cache keys mean what they say.
"""

from __future__ import annotations

import re
from typing import Any

MASK = "***"

# How the name of a secret ends, whatever stands before it: fs.s3a.secret.key, SharedAccessKey, DB_PASSWORD.
_KEY = r"(?:api|access|account|secret|private|encryption)[_.\-]?key"
_LONG = rf"password|passwd|passphrase|secret|token|credentials?|signature|authorization|{_KEY}"
# The same for words that other words end with.
_SHORT = r"(?<![A-Za-z0-9])(?:sig|sas|pwd|pass)"
# A whole word of names and dots that is such a name. Strangers' text comes here, so nothing may be looked at twice
# for long: a word is tried from its start alone, and what was taken of it is not given back.
_NAME = rf"(?>[\w.\-]*?(?:{_KEY}\.[\w.\-]++|(?:{_LONG}|{_SHORT})\d*+(?![\w.\-])))"
_WORD = rf"(?<![\w.\-]){_NAME}"
# A quoted value, or one that ends where an address, a list or a mapping goes on.
_VALUE = r"""(?:"[^"]*"|'[^']*'|(?:(?!,(?:\s|$|[A-Za-z_][\w\-.]*=))[^\s&;"<>}\]])+)"""


def _hidden(match: re.Match[str]) -> str:
    """The name of a secret and the mask, in the quotes that the value had."""
    last = match[0][-1]
    quote = last if last in "\"'" and match[0][len(match[1])] == last else ""
    return f"{match[1]}{quote}{MASK}{quote}"


_RULES: list[tuple[str, Any]] = [
    # scheme://user:password@host; raw slashes and the like in a password are wrong, and happen
    (r"(://)(?![^\s/?#:@\"<>]+:\d+/)[^\s/?#:@\"<>]*:(?:(?!://)[^\s\"<>])*@", rf"\1{MASK}@"),
    (r"(://)[^\s/?#\"<>]*@", rf"\1{MASK}@"),
    (r"(?i)(?<![^\s@])((?>[^\s@]*?jdbc:oracle:\w+:(?!/)))[^\s/@]++/[^\s@]++@", rf"\1{MASK}@"),
    (r"(?i)\b(bearer\s+)[\w.~+/=\-]{8,}", rf"\1{MASK}"),
    (rf"(?i)([?&]key=|{_WORD}[\"']?\s*=\s*)(?:(?:bearer|basic)\s+)?{_VALUE}", _hidden),
    # in mappings; elsewhere a colon is only a colon
    (rf"(?i)([\"']{_NAME}[\"']\s*:\s*){_VALUE}", _hidden),
    (rf"(?i)([{{,]\s*{_NAME}\s*:\s*){_VALUE}", _hidden),
]
_COMPILED = [(re.compile(pattern), replacement) for pattern, replacement in _RULES]
# Most of a page is pictures, and to look for names in them takes longer than to make the page.
_PICTURE = re.compile(r'("data:image/png;base64,[A-Za-z0-9+/]+={0,2}")')
_SECRET_KEY = re.compile(rf"(?i){_WORD}$")


def masked(text: str) -> str:
    """Text → the same with `***` for the user part of every URI and the value of every key that names a secret."""
    if len(parts := _PICTURE.split(text)) > 1:
        return "".join(part if number % 2 else masked(part) for number, part in enumerate(parts))
    for pattern, replacement in _COMPILED:
        text = pattern.sub(replacement, text)
    return text


def masked_values(tree: Any) -> Any:
    """What JSON or YAML holds → the same with every text masked, whole where its key names a secret."""
    if isinstance(tree, dict):
        return {_text(key): _entry(key, value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [masked_values(value) for value in tree]
    return _text(tree)


def names_secret(name: str) -> bool:
    """Whether a key, plain or dotted, is called as passwords, tokens and keys are."""
    return _SECRET_KEY.search(name) is not None


def _entry(key: Any, value: Any) -> Any:
    secret = isinstance(value, str) and value and isinstance(key, str) and names_secret(key)
    return MASK if secret else masked_values(value)


def _text(value: Any) -> Any:
    return masked(value) if isinstance(value, str) else value
