"""Text from strangers: clean, foldable, safe on a page, and never slow."""

from __future__ import annotations

import html
import itertools
import re
import time
from html.parser import HTMLParser

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from paperworks.hub.text import (
    LONGEST_FORMULA,
    first_sentences,
    fold,
    name_key,
    plain,
    sentences,
    tex_to_mathml_html,
    tex_to_unicode,
    title_key,
)

ATTACKS = [
    "<script>alert(1)</script>",
    "<SCRIPT SRC=//evil.example/x.js></SCRIPT>",
    "<img src=x onerror=alert(1)>",
    "<img src=x onerror=alert(1)",
    "<svg/onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<a href=javascript:alert(1)>x</a>",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)></style></mglyph></table></mtext></math>",
    "<b onmouseover=alert(1)>x</b>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&amp;amp;lt;script&amp;amp;gt;alert(1)",
    "&#60;img src=x onerror=alert(1)&#62;",
    "<scr<script>ipt>alert(1)</scr</script>ipt>",
    "<!--<img src=--><img src=x onerror=alert(1)//>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<style>@import '//evil.example'</style>",
    "<template><img src=x onerror=alert(1)></template>",
    "<input autofocus onfocus=alert(1)>",
    "<body onload=alert(1)>",
    "<details open ontoggle=alert(1)>",
    "<meta http-equiv=refresh content='0;url=javascript:alert(1)'>",
    "<form action=javascript:alert(1)><button>x",
    "\"><script>alert(1)</script>",
    "'-alert(1)-'",
    r"$\href{javascript:alert(1)}{x}$",
    r"\href{javascript:alert(1)}{x}",
    r"$\text{<img src=x onerror=alert(1)>}$",
    r"$\class{x}{y} \style{background:url(//evil)}{z} \data{a}{b}$",
    r"$<script>alert(1)</script>$",
    r"$\begin{array}{c\" onclick=\"alert(1)} x \end{array}$",
    r"$\mathrm{</mtext></math><script>alert(1)</script>}$",
    r"$\color{red\" onmouseover=\"alert(1)}{x}$",
    "$x$<script>$y$</script>",
]  # fmt: skip

MATH_TAGS = {"math", "mrow", "mi", "mn", "mo", "ms", "mtext", "mspace", "msub", "msup", "msubsup", "munder", "mover", "munderover", "mfrac", "msqrt", "mroot", "mtable", "mtr", "mtd",
             "mpadded", "mphantom", "menclose", "mmultiscripts", "mprescripts", "none", "mstyle", "code"}  # fmt: skip


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


def rendered(text):
    reader = _Reader()
    reader.feed(tex_to_mathml_html(text))
    reader.close()
    return reader


@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_dangerous_reaches_a_page(attack):
    for text in (attack, plain(attack), f"before {attack} after", f"${attack}$"):
        reader = rendered(text)
        assert reader.tags <= MATH_TAGS
        for name, value in reader.attributes:
            assert not name.startswith("on")
            assert name not in ("href", "src", "style", "class", "xlink:href", "action")
            assert "javascript:" not in (value or "")


@pytest.mark.parametrize("attack", ATTACKS)
def test_plain_leaves_no_tag(attack):
    cleaned = plain(attack)
    assert not re.search(
        r"<\s*/?\s*(script|img|svg|iframe|style|meta|form|body|input|details|math|template|noscript)\b", cleaned, re.I
    )
    assert plain(cleaned) == cleaned


@pytest.mark.parametrize(
    ("dirty", "clean"),
    [
        ("  a\n\tb  c ", "a b c"),
        ("<p>One</p><p>Two</p>", "One Two"),
        ("<jats:p>One</jats:p> <jats:italic>two</jats:italic>", "One two"),
        ("a < b, n<d, p<0.05 and $a<b$ stay", "a < b, n<d, p<0.05 and $a<b$ stay"),
        ("R&D &amp; AT&T &lt; 5 &eacute;", "R&D & AT&T < 5 é"),
        ("x<sup>2</sup> <b>bold</b> <i class='x'>it</i>", "x2 bold it"),
        ("e\u0301", "é"),
        ("a\x00b\u202ec\u200bd\ufeff", "abcd"),
        ("lone \ud800 surrogate", "lone \ufffd surrogate"),
        ("if i<j and k>l then", "if i<j and k>l then"),
        ("List<T> and vector<int>", "List<T> and vector<int>"),
        ("<think> tokens", "<think> tokens"),
        ("", ""),
    ],
)  # fmt: skip
def test_plain_text(dirty, clean):
    assert plain(dirty) == clean


@given(st.text() | st.text(alphabet="<>&;/ablpscriptmg#x0=\"'! -"))
@example("&" + "amp;" * 30 + "lt;b>")
@example("&#38;" * 12 + "lt;script&gt;")
def test_plain_twice_is_plain_once(text):
    once = plain(text)
    assert plain(once) == once
    assert once == once.strip()
    assert "  " not in once
    once.encode("utf-8")


@given(st.text())
def test_text_without_markup_keeps_its_words(text):
    if not set("<&") & set(text) and text.isprintable() and text.isascii():
        assert plain(text) == " ".join(text.split())


@given(st.text())
def test_fold_is_idempotent(text):
    assert fold(fold(text)) == fold(text)


def test_fold_meets_other_spellings():
    assert fold("ÅNGSTRÖM") == fold("a\u030angstro\u0308m") == "angstrom"
    assert fold("Łukasz Øst") == "lukasz ost"


def test_keys_of_titles_meet_over_tex_and_typography():
    same = ["On $\\ell_1$-Loss: A {S}tudy", "On ell_1-loss: a study", "ON ELL-1 LOSS — A STUDY"]
    assert len({title_key(title) for title in same}) == 1
    assert title_key("Low-rank \\textbf{recovery}") == title_key("low rank recovery")
    assert title_key("3times faster") == title_key("3$\\times$ faster")
    assert title_key("???") == "???"
    assert title_key("A study") != title_key("Another study")


def test_keys_of_names():
    assert name_key("Peña, José") == name_key("José  PEÑA") == name_key("Jos\\'e Pe\\~na") == "jose-pena"
    assert name_key("Martin Luther King, Jr.") == "martin-luther-king-jr"
    assert name_key("王小明") == "王小明"
    assert name_key("???").startswith("name-")
    assert name_key("???") != name_key("!!!")


@given(st.text())
def test_a_key_of_a_name_can_stand_in_an_address(name):
    key = name_key(name)
    assert key
    assert not set("/?#% \n") & set(key)


def test_sentences_are_not_cut_at_abbreviations():
    text = "See Fig. 3 and Smith et al. 2020 for details. J. Smith agrees, i.e. it holds! Does it? \u201cYes.\u201d It took 3.5 s. $x$ is real."
    assert [text[a:b] for a, b in sentences(text)] == [
        "See Fig. 3 and Smith et al. 2020 for details.", "J. Smith agrees, i.e. it holds!", "Does it?", "\u201cYes.\u201d", "It took 3.5 s.", "$x$ is real.",
    ]  # fmt: skip
    assert first_sentences(text, 1).endswith("details.")
    assert first_sentences("no stop", 3) == "no stop"
    assert first_sentences("", 2) == first_sentences("A b.", 0) == ""


@given(st.text() | st.text(alphabet='Ab .!?()"e.g'))
def test_sentences_cover_all_but_the_blanks(text):
    spans = sentences(text)
    assert all(a < b for a, b in spans)
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(spans))
    assert "".join(text[a:b] for a, b in spans).split() == text.split() or "".join(
        "".join(text[a:b] for a, b in spans).split()
    ) == "".join(text.split())


@pytest.mark.parametrize(
    ("tex", "said"),
    [
        (r"Erd\H{o}s, Pe\~na, G\"odel, {\'E}tale, \c{c}a, {\o}re, stra{\ss}e, na\"{\i}ve", "Erdős, Peña, Gödel, Étale, ça, øre, straße, naïve"),
        (r"$\alpha_1 \leq x^{2} \times 10^{-3}$", "α₁ ≤ x² × 10⁻³"),
        (r"$O(n^{2/3})$ and $x_{\mathrm{max}}$", "O(n^{2/3}) and xₘₐₓ"),
        (r"\textbf{bold} and \emph{it \textsc{deep}}", "bold and it deep"),
        (r"$\frac{a}{b+c}$, $\sqrt{x}$, $\hat{y}$, $\mathbb{R}^n$", "a/(b+c), √x, ŷ, ℝⁿ"),
        (r"5\% of \$10 \& more~here -- and ``so'' on", "5% of $10 & more here – and “so” on"),
        ("it costs $5 and $10", "it costs $5 and $10"),
        (r"\unknown{x} stays", r"\unknown{x} stays"),
        ("a {1,2} set and snake_case", "a {1,2} set and snake_case"),
        (r"\href{https://x.org}{here} \url{https://y.org}", "here https://y.org"),
        (r"\[ x \] and \( y \)", " x  and  y "),
        ("plain", "plain"),
    ],
)  # fmt: skip
def test_tex_as_unicode(tex, said):
    assert tex_to_unicode(tex) == said


def test_formulas_become_mathml():
    made = tex_to_mathml_html(r"Let $x^2 < y$ & so: \[ \sum_{i=1}^n x_i \]")
    assert made.count("<math") == made.count("</math>") == 2
    assert "<msup><mi>x</mi><mn>2</mn></msup>" in made
    assert "&amp; so" in made
    assert 'display="block"' in made


def test_what_cannot_be_converted_is_shown_as_typed():
    assert tex_to_mathml_html(r"$\nosuch{x}$") == r"<code>$\nosuch{x}$</code>"
    assert tex_to_mathml_html(r"$\frac{a$") == r"<code>$\frac{a$</code>"
    long = "$" + "x+" * LONGEST_FORMULA + "y$"
    assert tex_to_mathml_html(long) == f"<code>{long}</code>"
    deep = "$" + "{" * 500 + "x" + "}" * 500 + "$"
    assert tex_to_mathml_html(deep) == f"<code>{deep}</code>"


@given(st.text() | st.text(alphabet="$\\{}^_xa ()[]frac<&\"'"))
def test_any_text_becomes_safe_html(text):
    made = tex_to_mathml_html(text)
    reader = _Reader()
    reader.feed(made)
    reader.close()
    assert reader.tags <= MATH_TAGS
    tex_to_unicode(text)


@given(st.text(alphabet=st.characters(blacklist_characters="$\\~`'-{}\x00", blacklist_categories=("Cs",))))
def test_text_without_tex_comes_through_html_unchanged(text):
    assert html.unescape(tex_to_mathml_html(text)) == text


HUGE = {
    "formulas": "$x$ " * 250_000, "different formulas": "".join(f"${n}+x$ " for n in range(60_000)), "open dollars": "$x " * 330_000, "braces": "{" * 1_000_000,
    "fractions": "\\frac" * 200_000, "open fractions": "$" + "\\frac{" * 150_000 + "$", "less than": "<" * 1_000_000, "open bold": "<b " * 330_000, "nested": "<div>" * 200_000,
    "comments": "<!--" * 250_000, "amp": "&" + "amp;" * 250_000, "numeric": "&#38;" * 200_000, "stops": ". A" * 330_000, "dots": "." * 1_000_000, "accents": "\\'" * 500_000,
    "carets": "$" + "^" * 999_000 + "$", "scripts": "$" + "^{" * 499_000 + "$", "openings": "\\(" * 500_000, "letters": "é" * 500_000, "quotes": ".)" * 500_000,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", HUGE)
@pytest.mark.parametrize("function", [plain, fold, title_key, name_key, sentences, tex_to_unicode, tex_to_mathml_html])
def test_a_megabyte_takes_bounded_time(function, name):
    began = time.process_time()
    function(HUGE[name])
    assert time.process_time() - began < 5  # the slowest took 1.3 s of CPU; quadratic ones took minutes
