"""Text from outside, made plain; and the foldings that keys, search and pages share.

`plain` is the door: everything that a source yields goes through it once. TeX stays in the store as it was typed; whoever
renders chooses `tex_to_unicode` (mail, feeds, window titles) or `tex_to_mathml_html` (pages).
All functions take any string and are bounded in time: close to linear, with the number and the length of formulas capped.
"""

from __future__ import annotations

import hashlib
import html
import re
import unicodedata
from functools import lru_cache

import nh3


def _words(text: str) -> list[str]:
    return text.split()


# -- plain text -----------------------------------------------------------------------------------------------------

# Controls, lone surrogates, and the invisible marks that can turn the direction of a line around.
_UNWANTED = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ufffe\uffff]"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_TAG_NAMES = (
    "abbr|address|animate|applet|area|article|aside|audio|base|bdi|bdo|blink|blockquote|body|br|button|canvas|caption|center|cite|code|col|colgroup"
    "|data|datalist|dd|del|details|dfn|dialog|div|dl|dt|em|embed|fieldset|figcaption|figure|font|footer|form|frame|frameset"
    "|h[1-6]|head|header|hr|html|iframe|img|image|input|ins|isindex|jats:[a-z-]+|kbd|keygen|label|legend|li|link|listing|main|map|mark|marquee|math"
    "|menu|meta|meter|mi|mn|mo|mrow|mtext|msub|msup|mfrac|mglyph|malignmark|nav|noembed|noframes|noscript|object|ol|optgroup|option|output|param|picture|plaintext|portal"
    "|pre|progress|rb|rp|rt|rtc|ruby|samp|script|section|select|set|slot|small|source|span|strike|strong|style|sub|summary|sup|svg"
    "|table|tbody|td|template|textarea|tfoot|th|thead|time|title|tr|track|tt|use|var|video|wbr|xmp|x[a-z]*-[a-z-]+|foreignobject|annotation-xml"
)
# A '<' opens a tag only where a browser and a careful reader agree on it: 'n<d' and '$a<b$' are mathematics. Names of one
# letter count only when closed at once or when followed by an attribute.
_OPENS_TAG = re.compile(
    rf"<(?=(?:/?(?:{_TAG_NAMES})(?=[\s/>]|$)|/?[abipqsu]\s*/?>|[abipqsu](?:\s+|/)[a-z:-]+\s*=|!--|!doctype|!\[cdata|\?xml))",
    re.IGNORECASE,
)
MOST_TAGS = 1_000
_ANY_TAG = re.compile(r"<[^<>]*>?")
_STRAY = re.compile(r"<(?!\x00)")
_DROP_CONTENT = {
    "script",
    "style",
    "iframe",
    "object",
    "noscript",
    "template",
    "svg",
    "title",
    "xmp",
    "plaintext",
    "noembed",
    "noframes",
}
_BREAKS = re.compile(r"<(?=/?(?:p|br|div|li|tr|td|th|h[1-6]|jats:p|jats:title)\b)", re.IGNORECASE)
_MANY_AMP = re.compile(r"&(?:amp;|#38;|#x26;)+", re.IGNORECASE)


def plain(text: str) -> str:
    """Plain Unicode: HTML dropped (not repaired), entities resolved, white space folded to single blanks, NFC.

    A '<' that is mathematics stays. The result is text: whoever puts it on a page still escapes it. Applying it twice changes nothing.

    >>> plain("Fast <b>and</b>\\n small: a < b &amp; n<d<script>alert(1)</script>")
    'Fast and small: a < b & n<d'
    """
    text = _fold_space(text)
    if "<" not in text and "&" not in text:
        return text
    for _ in range(8):
        dropped = _drop_tags(text)
        if dropped == text:
            return text
        text = dropped
    return _fold_space(text.replace("<", " ").replace("&", " "))  # escaped nine times over: nobody meant that


def _fold_space(text: str) -> str:
    text = " ".join(text.split())
    if text.isascii() and text.isprintable():
        return text
    text = _SURROGATE.sub("\ufffd", text)
    text = unicodedata.normalize("NFC", _UNWANTED.sub("", text))
    return " ".join(text.split())


def _drop_tags(text: str) -> str:
    if "&" in text:
        text = _MANY_AMP.sub("&amp;", text)
    if "<" in text:
        marked = _OPENS_TAG.sub("<\x00", text)
        if "\x00" in marked:
            escaped = _STRAY.sub("&lt;", marked).replace("<\x00", "<")
            escaped = _BREAKS.sub(" <", escaped)
            if marked.count("\x00") > MOST_TAGS:  # the sanitiser takes quadratic time over nested tags left open
                text = _ANY_TAG.sub(" ", escaped)
            else:
                text = nh3.clean(escaped, tags=set(), clean_content_tags=_DROP_CONTENT)
    if "&" in text:
        text = html.unescape(text)
    return _fold_space(text)


# -- keys -----------------------------------------------------------------------------------------------------------

_LETTERS = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "æ": "ae", "œ": "oe", "ı": "i", "þ": "th", "ħ": "h", "’": "'", "‘": "'", "ʼ": "'",
     "“": '"', "”": '"', "–": "-", "—": "-", "‐": "-", "‑": "-", "−": "-"}
)  # fmt: skip


def fold(text: str) -> str:
    """Without case, accents and surplus white space; ligatures and typographic quotes made plain.

    >>> fold("  Éric  Łukasz, ﬁne “ß” ")
    'eric lukasz, fine "ss"'
    """
    if text.isascii():
        return " ".join(text.lower().split())
    spread = unicodedata.normalize("NFKD", text.casefold())
    if not spread.isascii():
        spread = "".join(char for char in spread if not unicodedata.combining(char)).translate(_LETTERS)
    return " ".join(spread.casefold().split())


_NOT_WORD = re.compile(r"[\W_]+")
_COMMAND = re.compile(r"\\([A-Za-z]+|[^A-Za-z])")
_STYLE_COMMANDS = frozenset(
    _words(
        "textbf textit emph textsc texttt textrm textsf textmd textup textnormal underline mathrm mathbf mathit mathcal mathbb mathfrak "
        "mathsf mathscr mathtt boldsymbol bm bfseries itshape normalsize small large xspace textsuperscript textsubscript text mbox hbox rm bf it sf tt sc em left right big Big bigl bigr Bigl Bigr displaystyle "
        "textstyle limits nolimits operatorname operatornamewithlimits ensuremath protect mathop mathbin mathrel"
    )
)


def title_key(title: str) -> str:
    """A title reduced to its letters and digits, so that other spellings of it meet: case, accents, hyphens, TeX.

    >>> title_key("On $\\\\ell_1$-Loss: A Study") == title_key("On ell_1-loss — a study")
    True
    """
    if "\\" in title:
        title = tex_to_unicode(title) if _ACCENTED.search(title) else title
        title = _COMMAND.sub(lambda match: "" if match[1] in _STYLE_COMMANDS else f" {match[1]} ", title)
    folded = fold(title)
    return _NOT_WORD.sub("", folded) or folded


def name_key(name: str) -> str:
    """A person's name as it stands in addresses (/author/KEY). 'Last, First' is turned around; never empty.

    >>> name_key("Tekin, Selim  Furkan"), name_key("José M. Peña")
    ('selim-furkan-tekin', 'jose-m-pena')
    """
    if "\\" in name:
        name = tex_to_unicode(name)
    last, comma, first = name.partition(",")
    if comma and first.strip() and "," not in first and fold(first).strip(". ") not in ("jr", "sr", "ii", "iii", "iv"):
        name = f"{first} {last}"
    key = _NOT_WORD.sub("-", fold(name)).strip("-")
    return key or f"name-{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:10]}"


# -- sentences ------------------------------------------------------------------------------------------------------

_ABBREVIATIONS = frozenset(
    _words(
        "e.g i.e et al etc cf vs fig figs eq eqs sec secs tab ref refs resp approx dr prof mr mrs ms st no nos vol pp ch thm lem prop def "
        "w.r.t w.l.o.g i.i.d a.k.a aka viz ca dept univ inc ltd jr sr"
    )
)
_STOP = re.compile(r"[.!?]+[\"'”’)\]]*(?=\s+(?:\$|[\"'“‘(\[\\]*[^\Wa-z_]))|[.!?]+[\"'”’)\]]*\s*\Z")
_LAST_WORD = re.compile(r"[\w.]+\Z")


def sentences(text: str) -> list[tuple[int, int]]:
    """Offsets (start, end) of the sentences of `text`; blanks between them belong to none.

    >>> text = "It is fast, e.g. 3.5 times. Is it? Yes."
    >>> [text[start:end] for start, end in sentences(text)]
    ['It is fast, e.g. 3.5 times.', 'Is it?', 'Yes.']
    """
    spans: list[tuple[int, int]] = []
    start = len(text) - len(text.lstrip())
    for stop in _STOP.finditer(text):
        end = stop.end() if stop.end() <= len(text.rstrip()) else len(text.rstrip())
        if stop[0].startswith(".") and stop.end() < len(text):
            word = _LAST_WORD.search(text[max(start, stop.start() - 12) : stop.start()])
            if word and (
                word[0].lower().strip(".") in _ABBREVIATIONS or re.fullmatch(r"[A-Z]|(?:[A-Z]\.)+[A-Z]", word[0])
            ):
                continue
        if end > start:
            spans.append((start, end))
        rest = re.compile(r"\s*").match(text, stop.end())
        start = rest.end() if rest else stop.end()
    end = len(text.rstrip())
    if start < end:
        spans.append((start, end))
    return spans


def first_sentences(text: str, n: int) -> str:
    """The first `n` sentences, as they stand.

    >>> first_sentences("One here. Two here. Three here.", 2)
    'One here. Two here.'
    """
    spans = sentences(text)[:n] if n > 0 else []
    return text[spans[0][0] : spans[-1][1]] if spans else ""


# -- TeX to Unicode -------------------------------------------------------------------------------------------------

_ACCENTS = {"'": "\u0301", "`": "\u0300", "^": "\u0302", '"': "\u0308", "~": "\u0303", "=": "\u0304", ".": "\u0307", "c": "\u0327",
            "v": "\u030c", "u": "\u0306", "H": "\u030b", "k": "\u0328", "r": "\u030a", "d": "\u0323", "b": "\u0331"}  # fmt: skip
_ACCENTED = re.compile(
    r"""\{?\\(['`^"~=.]\s*|[cvuHkrdb](?=[\s{\\])\s*)(?:\{\s*\\?([A-Za-z])\s*\}|\\([ij])(?![A-Za-z])\s?|([A-Za-z]))\}?"""
)
_LETTER_COMMANDS = {
    "ss": "ß",
    "o": "ø",
    "O": "Ø",
    "l": "ł",
    "L": "Ł",
    "ae": "æ",
    "AE": "Æ",
    "oe": "œ",
    "OE": "Œ",
    "aa": "å",
    "AA": "Å",
    "i": "ı",
    "dh": "ð",
    "th": "þ",
}
_BRACED_LETTER = re.compile(rf"\{{\\({'|'.join(_LETTER_COMMANDS)})\s*\}}")
_SYMBOLS = {
    **dict(zip(_words("alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi omega"),
               "αβγδεζηθικλμνξπρστυφχψω", strict=True)),
    **dict(zip(_words("Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega"), "ΓΔΘΛΞΠΣΥΦΨΩ", strict=True)),
    "varepsilon": "ε", "varphi": "φ", "vartheta": "ϑ", "varrho": "ϱ", "varsigma": "ς", "ell": "ℓ", "hbar": "ℏ", "partial": "∂", "nabla": "∇",
    "infty": "∞", "times": "×", "cdot": "·", "div": "÷", "pm": "±", "mp": "∓", "leq": "≤", "le": "≤", "geq": "≥", "ge": "≥", "neq": "≠", "ne": "≠",
    "ll": "≪", "gg": "≫", "approx": "≈", "sim": "∼", "simeq": "≃", "cong": "≅", "equiv": "≡", "propto": "∝", "in": "∈", "notin": "∉", "subset": "⊂",
    "subseteq": "⊆", "supset": "⊃", "supseteq": "⊇", "cup": "∪", "cap": "∩", "setminus": "∖", "emptyset": "∅", "forall": "∀", "exists": "∃",
    "to": "→", "rightarrow": "→", "leftarrow": "←", "leftrightarrow": "↔", "Rightarrow": "⇒", "Leftarrow": "⇐", "Leftrightarrow": "⇔", "mapsto": "↦",
    "uparrow": "↑", "downarrow": "↓", "sum": "∑", "prod": "∏", "int": "∫", "sqrt": "√", "oplus": "⊕", "otimes": "⊗", "odot": "⊙", "circ": "∘",
    "bullet": "•", "star": "⋆", "ast": "∗", "dagger": "†", "perp": "⊥", "parallel": "∥", "langle": "⟨", "rangle": "⟩", "lceil": "⌈", "rceil": "⌉",
    "lfloor": "⌊", "rfloor": "⌋", "ldots": "…", "dots": "…", "cdots": "⋯", "textellipsis": "…", "land": "∧", "wedge": "∧", "lor": "∨", "vee": "∨",
    "neg": "¬", "lnot": "¬", "checkmark": "✓", "degree": "°", "deg": "deg", "prime": "′", "lesssim": "≲", "gtrsim": "≳", "top": "⊤", "bot": "⊥",
    "Vert": "‖", "vert": "|", "mid": "|", "lVert": "‖", "rVert": "‖", "lvert": "|", "rvert": "|", "log": "log", "exp": "exp", "min": "min", "max": "max",
    "sup": "sup", "inf": "inf", "lim": "lim", "ln": "ln", "sin": "sin", "cos": "cos", "tan": "tan", "arg": "arg", "argmax": "argmax",
    "argmin": "argmin", "det": "det", "dim": "dim", "Pr": "Pr", "quad": " ", "qquad": " ", "S": "§", "P": "¶", "copyright": "©", "pounds": "£",
    "textregistered": "®", "texttrademark": "™", "textdegree": "°", "textendash": "–", "textemdash": "—", "textbackslash": "\\", "textgreater": ">",
    "textless": "<", "textasciitilde": "~", "models": "⊨", "vdash": "⊢", "slash": "/", "eg": "e.g.", "ie": "i.e.", "etal": "et al.", "lbrace": "{", "rbrace": "}", "LaTeX": "LaTeX", "TeX": "TeX", "lt": "<", "gt": ">",
}  # fmt: skip
_DOUBLE_STRUCK = dict(zip("CEHNPQRZ", "ℂ𝔼ℍℕℙℚℝℤ", strict=True))
_SUPER = dict(zip("0123456789+-=()niTtk*", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱᵀᵗᵏ*", strict=True))
_SUB = dict(zip("0123456789+-=()aeoxijkrtnmpul", "₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎ₐₑₒₓᵢⱼₖᵣₜₙₘₚᵤₗ", strict=True))
_DEPTH = 24
_TEX_SIGNS = re.compile(r"[\\$~^]|--|``|''")


def tex_to_unicode(text: str) -> str:
    """TeX as Unicode where it can be said so, else as typed.

    >>> tex_to_unicode(r"Erd\\H{o}s: $\\alpha \\leq x^2$ on $\\mathbb{R}^n$, 5\\% \\textbf{faster}")
    'Erdős: α ≤ x² on ℝⁿ, 5% faster'
    """
    if not _TEX_SIGNS.search(text):
        return text
    if "\\" in text:
        text = _BRACED_LETTER.sub(lambda match: _LETTER_COMMANDS[match[1]], _ACCENTED.sub(_accent, text))
    parts: list[str] = []
    for is_math, source in _formulas(text):
        if is_math:
            parts.append(_said(_strip_delimiters(source), math=True))
        elif "\\" in source or "~" in source or "--" in source or "``" in source or "''" in source:
            parts.append(_said(source, math=False))
        else:
            parts.append(source)
    return "".join(parts)


def _accent(match: re.Match[str]) -> str:
    letter = match[2] or match[3] or match[4]
    whole = unicodedata.normalize("NFC", letter + _ACCENTS[match[1].strip()])
    opened, closed = match[0].startswith("{"), match[0].endswith("}") and not (match[2] and not match[0].endswith("}}"))
    if match[2]:
        closed = match[0].endswith("}}") or (
            match[0].endswith("}") and re.search(r"\{\s*\\?[A-Za-z]\s*\}\}$", match[0]) is not None
        )
    return ("{" if opened and not closed else "") + whole + ("}" if closed and not opened else "")


_TOKEN = re.compile(r"\\[A-Za-z]+\*?\s*|\\.|[{}^_~]|---?|``|''|[^\\{}^_~`'-]+|.", re.DOTALL)


class _Tokens:
    """The pieces of one TeX source, read once from left to right."""

    def __init__(self, source: str) -> None:
        self.items = _TOKEN.findall(source)
        self.at = 0

    def peek(self) -> str:
        return self.items[self.at] if self.at < len(self.items) else ""

    def next(self) -> str:
        item = self.peek()
        self.at += 1
        return item

    def argument(self, math: bool, depth: int) -> str:
        """The next group or single sign, already said."""
        if self.peek().isspace():
            self.next()
        if self.peek() == "{":
            self.next()
            return _say(self, math, depth + 1, until="}")
        item = self.peek()
        if item.startswith("\\"):
            return _command(self, self.next(), math, depth + 1)
        if len(item) > 1:
            self.items[self.at] = item[1:]
            return item[0]
        return self.next() if item not in ("}", "") else ""

    def skip_group(self) -> str:
        """The next group as it is typed, without its braces."""
        if self.peek() != "{":
            return ""
        self.next()
        level, parts = 1, []
        while self.at < len(self.items):
            item = self.next()
            level += (item == "{") - (item == "}")
            if not level:
                break
            parts.append(item)
        return "".join(parts)


def _said(source: str, math: bool) -> str:
    return _say(_Tokens(source), math, 0)


def _say(tokens: _Tokens, math: bool, depth: int, until: str = "") -> str:
    out: list[str] = []
    while tokens.at < len(tokens.items):
        item = tokens.next()
        if item == until:
            break
        if item.startswith("\\"):
            out.append(_command(tokens, item, math, depth))
        elif item == "{" and depth < _DEPTH and math:
            out.append(_say(tokens, math, depth + 1, until="}"))
        elif item in ("{", "}"):
            out.append("" if math else item)
        elif math and item in "^_" and depth < _DEPTH:
            out.append(_script(tokens, item, depth))
        elif item == "~":
            out.append(" ")
        elif not math and item in ("--", "---", "``", "''"):
            out.append({"--": "–", "---": "—", "``": "“", "''": "”"}[item])
        else:
            out.append(item)
    return "".join(out)


def _script(tokens: _Tokens, sign: str, depth: int) -> str:
    said = tokens.argument(True, depth)
    table = _SUPER if sign == "^" else _SUB
    if said in ("∘", "°") and sign == "^":
        return "°"
    if said and all(char in table for char in said):
        return "".join(table[char] for char in said)
    return f"{sign}{said}" if len(said) <= 1 else f"{sign}{{{said}}}"


def _command(tokens: _Tokens, item: str, math: bool, depth: int) -> str:
    name = item[1:].rstrip().rstrip("*")
    gap = " " if item[-1:].isspace() else ""
    if not name.isalpha():  # an escaped sign: \% \& \$ \_ \{, or a space: \, \; \:
        return {
            ",": " ",
            ";": " ",
            ":": " ",
            "!": "",
            " ": " ",
            "\\": " ",
            "|": "‖",
            "-": "",
            "/": "",
            "(": "",
            ")": "",
            "[": "",
            "]": "",
            "\n": " ",
        }.get(name, name)
    if depth >= _DEPTH:
        return item
    if name in _SYMBOLS:
        if name == "sqrt":
            said = tokens.argument(math, depth)
            return f"√{said}" if len(said) <= 1 else f"√({said})"
        return _SYMBOLS[name] + gap
    if name in _LETTER_COMMANDS:
        if tokens.peek() == "{":
            tokens.skip_group()
        return _LETTER_COMMANDS[name]
    if name in ("R", "N", "Z", "Q", "E") and math:
        return _DOUBLE_STRUCK[name]
    if name == "mathbb":
        said = tokens.argument(True, depth)
        return "".join(_DOUBLE_STRUCK.get(char, char) for char in said)
    if name in ("frac", "dfrac", "tfrac"):
        above, below = tokens.argument(True, depth), tokens.argument(True, depth)
        return f"{above if len(above) <= 2 else f'({above})'}/{below if len(below) <= 2 else f'({below})'}"
    if name == "href":
        tokens.skip_group()
        return tokens.argument(math, depth)
    if name == "url":
        return tokens.skip_group()
    if name in ("cite", "citep", "citet", "citeauthor", "ref", "label", "footnote"):
        inside = tokens.skip_group()
        return f"[{inside}]" if name.startswith("cite") and inside else ""
    if name in ("hat", "widehat", "tilde", "widetilde", "bar", "overline", "vec", "dot"):
        said = tokens.argument(math, depth)
        mark = {
            "hat": "\u0302",
            "widehat": "\u0302",
            "tilde": "\u0303",
            "widetilde": "\u0303",
            "vec": "\u20d7",
            "dot": "\u0307",
        }.get(name, "\u0304")
        return unicodedata.normalize("NFC", said + mark) if len(said) == 1 else said
    if name in _STYLE_COMMANDS:
        inside_math = math and name not in (
            "text",
            "mbox",
            "hbox",
            "textrm",
            "textbf",
            "textit",
            "textsc",
            "texttt",
            "textsf",
            "emph",
        )
        return tokens.argument(inside_math, depth) if tokens.peek() == "{" else ""
    if tokens.peek() == "{":  # not known: as typed, argument included
        tokens.next()
        return f"{item}{{{_say(tokens, math, depth + 1, until='}')}}}"
    return item


# -- TeX to MathML --------------------------------------------------------------------------------------------------

LONGEST_FORMULA = 2_000
MOST_FORMULAS = 400  # in one text; the rest is shown as typed
_MATH_TAGS = {
    "math", "mrow", "mi", "mn", "mo", "ms", "mtext", "mspace", "msub", "msup", "msubsup", "munder", "mover", "munderover", "mfrac",
    "msqrt", "mroot", "mtable", "mtr", "mtd", "mpadded", "mphantom", "menclose", "mmultiscripts", "mprescripts", "none", "mstyle",
}  # fmt: skip
_MATH_ATTRIBUTES = {
    "*": {"mathvariant", "displaystyle", "scriptlevel", "dir"},
    "math": {"xmlns", "display"},
    "mo": {"stretchy", "fence", "separator", "form", "lspace", "rspace", "minsize", "maxsize", "movablelimits", "accent", "symmetric", "largeop"},
    "mspace": {"width", "height", "depth"},
    "mfrac": {"linethickness"},
    "mover": {"accent"}, "munder": {"accentunder"}, "munderover": {"accent", "accentunder"},
    "mtable": {"columnalign", "rowspacing", "columnspacing"},
    "mtd": {"columnalign"},
    "mpadded": {"width", "height", "depth", "lspace", "voffset"},
    "menclose": {"notation"},
}  # fmt: skip
_FORMULA_START = re.compile(r"\\[\\$(\[]|\$\$?")


def _formulas(text: str) -> list[tuple[bool, str]]:
    """`text` cut into (is mathematics, source with its delimiters). A '$' is money unless it hugs something on both sides."""
    parts: list[tuple[bool, str]] = []
    at = shown = 0
    missing: set[str] = set()  # closings that do not occur any more: not looked for again
    while found := _FORMULA_START.search(text, at):
        opening = found[0]
        at = found.end()
        if opening in ("\\\\", "\\$"):
            continue
        closing = {"\\(": "\\)", "\\[": "\\]"}.get(opening, opening)
        end = -1 if closing in missing else _closing(text, at, closing)
        if end < 0:
            if end == -1:
                missing.add(closing)
            continue
        if found.start() > shown:
            parts.append((False, text[shown : found.start()]))
        at = shown = end + len(closing)
        parts.append((True, text[found.start() : at]))
    if shown < len(text):
        parts.append((False, text[shown:]))
    return parts


def _closing(text: str, start: int, closing: str) -> int:
    """Where a formula that starts at `start` is closed; -1: nowhere in the rest of the text, -2: not a formula."""
    if closing != "$":
        end = text.find(closing, start)
        return end if end != start else -2
    if start >= len(text) or text[start].isspace():
        return -2
    end = start
    while True:
        end = text.find("$", end)
        if end < 0:
            return -1
        if text[end - 1] == "\\":
            end += 1
            continue
        if end == start or text[end - 1].isspace() or text[end + 1 : end + 2].isdigit():
            return -2
        return end


def _strip_delimiters(source: str) -> str:
    width = 1 if source.startswith("$") and not source.startswith("$$") else 2
    return source[width:-width]


_SHORTHAND = re.compile(r"\\([RNZQE])(?![A-Za-z])")  # many authors define these, and abstracts lose the definition


@lru_cache(maxsize=8192)
def _mathml(formula: str, display: str) -> str | None:
    """Clean MathML, or None when the converter cannot read the formula. Formulas come from strangers: the result is sanitised."""
    from latex2mathml.converter import convert

    if len(formula) > LONGEST_FORMULA or _nesting(formula) > 60:
        return None
    try:
        raw = convert(_SHORTHAND.sub(r"\\mathbb{\1}", formula), display=display)
    except Exception:  # noqa: BLE001 - the converter raises whatever it stumbles over; the source is shown instead
        return None
    if len(raw) > 60 * LONGEST_FORMULA or re.search(
        r">\\[A-Za-z]", raw
    ):  # a command it does not know is left in the result
        return None
    clean: str = nh3.clean(
        raw, tags=_MATH_TAGS, attributes=_MATH_ATTRIBUTES, clean_content_tags={"script", "style"}, link_rel=None
    )
    return clean if clean.startswith("<math") else None


def _nesting(formula: str) -> int:
    """How deep brackets go; far too deep when braces do not match, since such a formula cannot be read."""
    level = deepest = braces = 0
    for char in re.sub(r"\\.", "", formula, flags=re.DOTALL):
        level += (char in "{[(") - (char in "}])")
        braces += (char == "{") - (char == "}")
        deepest = max(deepest, level)
        if braces < 0:
            return LONGEST_FORMULA
    return LONGEST_FORMULA if braces else deepest


@lru_cache(maxsize=4096)
def _short_text_to_html(text: str) -> str:
    return _to_html(text)


def tex_to_mathml_html(text: str) -> str:
    """Safe HTML of a text with TeX: formulas as MathML, the rest escaped, with TeX of running text as Unicode.

    A formula that cannot be converted, or is longer than 2,000 characters, is shown as typed in `<code>`.

    >>> tex_to_mathml_html("a < b, 5$ or $x$")
    'a &lt; b, 5$ or <math xmlns="http://www.w3.org/1998/Math/MathML" display="inline"><mrow><mi>x</mi></mrow></math>'
    """
    return _short_text_to_html(text) if len(text) <= 10_000 else _to_html(text)


def _to_html(text: str) -> str:
    text = _SURROGATE.sub("\ufffd", text).replace("\x00", "")
    if "$" not in text and "\\" not in text:
        return html.escape(tex_to_unicode(text))
    parts: list[str] = []
    n_formulas = 0
    for is_math, source in _formulas(text):
        if not is_math:
            parts.append(html.escape(tex_to_unicode(source).replace("\\$", "$")))
            continue
        n_formulas += 1
        display = "block" if source.startswith(("$$", "\\[")) else "inline"
        made = _mathml(_strip_delimiters(source).strip(), display) if n_formulas <= MOST_FORMULAS else None
        parts.append(made if made is not None else f"<code>{html.escape(source)}</code>")
    return "".join(parts)
