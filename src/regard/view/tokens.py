"""Tokens as people read them: the markers of subword tokenizers cleaned.

Leaves to others: where the labels stand (`alignment`), their fonts (`fonts`).
"""

from collections.abc import Sequence
from functools import lru_cache

# Before a piece that goes on with a word.
JOINS = "·"
_SPACE, _CUT = "␣", "…"
_SPECIAL = (("<", ">"), ("[", "]"))


def clean_tokens(tokens: Sequence[str], longest: int = 18) -> list[str]:
    """Return tokens without the markers of their tokenizer; a piece inside a word starts with "·".

    Understands sentencepiece (▁word), byte-level BPE (Ġword, bytes decoded), WordPiece (##piece)
    and the BPE of subword-nmt (piece@@, word</w>). Names such as </s> and [SEP] stay as they are.

    Args:
        tokens: As the tokenizer gives them.
        longest: More letters than this are cut, with an ellipsis.

    Returns:
        As many labels.
    """
    tokens = [str(token) for token in tokens]
    pieces = [token for token in tokens if not _is_special(token)]
    if any(piece.startswith("▁") for piece in pieces):
        read = _read_by_prefix("▁")
    elif any(piece.startswith("Ġ") for piece in pieces):
        read = _read_bytes
    elif any(piece.startswith("##") for piece in pieces):
        read = _read_wordpiece
    elif any(piece.endswith(("@@", "</w>")) for piece in pieces):
        return [_shorten(label, longest) for label in _read_suffixes(tokens)]
    else:
        read = _read_whole
    labels = []
    for number, token in enumerate(tokens):
        text, joins = (token, False) if _is_special(token) else read(token)
        after_word = number > 0 and not _is_special(tokens[number - 1])
        labels.append(_shorten(JOINS * (joins and after_word) + text, longest))
    return labels


def _is_special(token: str) -> bool:
    return len(token) > 2 and any(token.startswith(a) and token.endswith(z) for a, z in _SPECIAL)


def _shorten(label: str, longest: int) -> str:
    label = "".join(
        letter if letter.isprintable() and letter != " " else _SPACE for letter in label
    )
    return label[: longest - 1] + _CUT if len(label) > longest else label or _SPACE


def _read_by_prefix(marker: str):
    return lambda token: (token.removeprefix(marker) or _SPACE, not token.startswith(marker))


def _read_wordpiece(token: str) -> tuple[str, bool]:
    return token.removeprefix("##"), token.startswith("##")


def _read_whole(token: str) -> tuple[str, bool]:
    return token, False


def _read_bytes(token: str) -> tuple[str, bool]:
    """Decode a token of byte-level BPE: each letter stands for a byte, Ġ for a space."""
    letters = _byte_of_letter()
    if not all(letter in letters for letter in token):
        return token.removeprefix("Ġ"), not token.startswith("Ġ")
    text = bytes(letters[letter] for letter in token).decode("utf-8", errors="replace")
    return text.removeprefix(" ") or _SPACE, not text.startswith(" ")


@lru_cache(maxsize=1)
def _byte_of_letter() -> dict[str, int]:
    """Return GPT-2's alphabet: printable Latin-1 is itself, other bytes follow from 256 on."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {
        chr(256 + n): byte for n, byte in enumerate(others)
    }


def _read_suffixes(tokens: Sequence[str]) -> list[str]:
    ends_marked = any(token.endswith("</w>") for token in tokens)
    labels, joins = [], False
    for token in tokens:
        if _is_special(token) and not token.endswith("</w>"):
            labels.append(token)
            joins = False
            continue
        labels.append(JOINS * joins + token.removesuffix("@@").removesuffix("</w>"))
        joins = not token.endswith("</w>") if ends_marked else token.endswith("@@")
    return labels
