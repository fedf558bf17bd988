r"""Backslashes of LaTeX in the JSON of an answer: doubled as JSON requires, or single. Pure.

A model that writes LaTeX into JSON sometimes forgets to double the backslashes. Most commands are then no valid
escapes (``\alpha``), but ``\beta``, ``\frac``, ``\nu``, ``\rho`` and ``\theta`` are: JSON reads a control character
and the rest of the word, so valid JSON alone proves nothing. The rules, in this order:

1. Evidence is the cell, then the answer. Where commands are doubled, the escapes are read as JSON has them.
2. Where they are single, ``\b \f \n \r \t`` before the letters of a command are that command in formulas: in cells of
   the category Formula, between ``$``, ``$$``, ``\( \)``, ``\[ \]`` and in environments. There, ``\\`` ends a row.
3. Outside of formulas they are white space. ``\b`` and ``\f``, which no page has, are commands there as well, and so is
   a command that is followed by a brace, as ``\textbf{``.

Ambiguous, and decided so: ``$a\nu$`` in an answer without any other evidence is the command ``\nu``, not a line break
before "u"; a text between two amounts in dollars is no formula unless it has other signs of one.
"""

import bisect
import math
import re
from collections.abc import Callable, Iterator

_WITH_CONTROL_LETTER = """
    backepsilon backprime backsim backslash bar barwedge because begin beta beth between bf bfseries bgroup
    bibitem bicap big bigcap bigcirc bigcup bigg biggl biggm biggr bigl bigm bigodot bigoplus bigotimes bigr bigsqcup
    bigstar bigtriangledown bigtriangleup biguplus bigvee bigwedge binom blacklozenge blacksquare blacktriangle bm bmod
    boldmath boldsymbol bot bowtie box boxdot boxed boxminus boxplus boxtimes brace bra braket breve bullet bumpeq
    buildrel fallingdotseq fbox fcolorbox flat footnote footnotesize forall foreach frac frak framebox frown fint
    nabla natural ncong ne nearrow neg negthinspace neq newcommand newline newpage nexists ngeq ngeqq ngeqslant ngtr ni
    nleftarrow nleftrightarrow nleq nleqq nleqslant nless nmid nobreak nocite noindent nolimits nonumber norm normalsize
    not notag notin nparallel nprec npreceq nrightarrow nshortmid nsim nsubseteq nsucc nsucceq nsupseteq ntriangleleft
    ntriangleright nu numberline nvdash nVdash nvDash nVDash nwarrow
    raggedright raise raisebox rangle rank rbrace rbrack rceil ref relax renewcommand restriction rfloor rgroup rhd rho
    right rightarrow rightarrowtail rightharpoondown rightharpoonup rightleftarrows rightleftharpoons rightmoustache
    rightrightarrows rightsquigarrow rightthreetimes risingdotseq rlap rm rmfamily rmoustache root rotatebox rtimes rule
    rVert rvert row rowcolor
    tab tableofcontents tabularnewline tag tan tanh tau tbinom text textasciitilde textbackslash textbf textcircled
    textcolor textdegree textgreater textit textless textmd textnormal textquotedbl textregistered textrm textsc textsf
    textsl textstyle textsubscript textsuperscript texttrademark texttt textup tfrac thanks therefore theta thetasym
    thickapprox thicksim thinspace thispagestyle tilde times tiny title to today top triangle triangledown triangleleft
    trianglelefteq triangleq triangleright trianglerighteq tt ttfamily twoheadleftarrow twoheadrightarrow
"""
CONTROL_COMMANDS = frozenset(_WITH_CONTROL_LETTER.split())
"""Commands of LaTeX, AMS and common packages whose backslash and first letter are an escape of JSON."""
CONTROL_LETTERS = "bfnrt"

ESCAPE = re.compile(r'\\(?:(\\)|(["/]|u[0-9a-fA-F]{4})|([A-Za-z]+))?')
"""A backslash and what it is written with: another one; what only JSON has; a word."""
WORD = re.compile(r"\\([A-Za-z]+)")
DELIMITER = re.compile(r"(?<!\\)\$\$?|\\{1,2}([\[\]()])|\\{1,2}(begin|end)\{(\w+\*?)\}")
CLOSES = {"(": ")", "[": "]"}
SIGN_OF_FORMULA = re.compile(r"[\^_{}=]|\\(?![bfnrt\"/u\\])")
"""The signs that stand between two dollar signs of a formula and not between two amounts of money."""
MOST_RESTARTS = 20
"""Openings without an end in one text after which formulas are searched no further."""
FORMULA_CELL = re.compile(r"""["']category["']\s*+:\s*+["']Formula["']""")


def commands_are_doubled(written: str) -> bool | None:
    r"""Return whether the commands in a piece of an answer have two backslashes; none: it shows neither.

    ``\\frac`` counts for doubled. ``\alpha``, which is no JSON, counts against it; ``\frac``, which is, does not.
    """
    doubled = single = 0
    for found in ESCAPE.finditer(written):
        if found[1]:
            following = written[found.end() : found.end() + 2]
            doubled += len(following) == 2 and following.isascii() and following.isalpha()
        elif found[3]:
            single += len(found[3]) > 1 and found[3][0] not in CONTROL_LETTERS
    return doubled >= single if doubled or single else None


def escapes_of(cell: str, answer_is_doubled: bool | None) -> Callable[[str], str]:
    """Return what makes sound JSON of the strings of one cell.

    Args:
        cell: as it was written, with all its fields.
        answer_is_doubled: evidence of the answer, for cells that have none.
    """
    evidence = commands_are_doubled(cell)
    is_doubled = answer_is_doubled if evidence is None else evidence
    is_formula = FORMULA_CELL.search(cell) is not None
    return lambda written: sound_escapes(written, is_doubled=is_doubled, is_formula=is_formula)


def sound_escapes(written: str, *, is_doubled: bool | None = None, is_formula: bool = False) -> str:
    r"""Return a string of an answer with the backslashes doubled that are not escapes of JSON.

    Args:
        written: between the quotes, or with what stands around them.
        is_doubled: whether the commands around have two backslashes; none: unknown, commands are single where one of
            them is found.
        is_formula: all of it is a formula.
    """
    if "\\" not in written:
        return written
    formulas = [] if is_doubled else [(0, len(written))] if is_formula else list(_formulas(written))
    places = {found.start(): _is_within(found.start(), formulas) for found in ESCAPE.finditer(written)}

    def is_command(found: re.Match[str]) -> bool:
        word = found[3]
        if not word or is_doubled or word not in CONTROL_COMMANDS:
            return bool(word) and is_doubled is False and word[0] != "n" and len(word) > 1 and places[found.start()]
        return places[found.start()] or word[0] in "bf" or written[found.end() : found.end() + 1] == "{"

    commands = {
        found.start()
        for found in ESCAPE.finditer(written)
        if found[3] and found[3][0] in CONTROL_LETTERS and is_command(found)
    }
    has_rows = is_doubled is False or (is_doubled is None and bool(commands))

    def sound(found: re.Match[str]) -> str:
        if found[2]:
            return found[0]
        if found[1]:
            is_row = has_rows and places[found.start()] and not written[found.end() : found.end() + 2].isalpha()
            return found[0] * 2 if is_row else found[0]
        is_escape = found[3] and found[3][0] in CONTROL_LETTERS and found.start() not in commands
        return found[0] if is_escape else "\\" + found[0]

    return ESCAPE.sub(sound, written)


def _is_within(place: int, spans: list[tuple[int, int]]) -> bool:
    """Return whether a place is in one of the spans, which are in order and apart."""
    before = bisect.bisect_right(spans, (place, math.inf)) - 1
    return before >= 0 and place < spans[before][1]


def _formulas(written: str) -> Iterator[tuple[int, int]]:
    """Yield where formulas begin and end; one without an end is none, and its content is searched for others."""
    at = 0
    for _ in range(MOST_RESTARTS):
        opened: re.Match[str] | None = None
        for found in DELIMITER.finditer(written, at):
            if opened is None:
                opened = found if found[0][0] == "$" or found[1] in CLOSES or found[2] == "begin" else None
            elif _closes(found, opened):
                if found[0] != "$" or _is_formula(written[opened.end() : found.start()]):
                    yield opened.start(), found.end()
                    opened = None
                else:
                    opened = found  # the second amount may be the beginning of a formula
        if opened is None:
            return
        at = opened.end()


def _closes(found: re.Match[str], opened: re.Match[str]) -> bool:
    if opened[1]:
        return found[1] == CLOSES[opened[1]]
    if opened[2]:
        return found[2] == "end" and found[3] == opened[3]
    return found[0] == opened[0]


def _is_formula(content: str) -> bool:
    """Return whether it is one between two dollar signs: the rule of Pandoc, or signs that amounts do not have."""
    if any(len(word) > 2 and word in CONTROL_COMMANDS for word in WORD.findall(content)):
        return True
    is_close = bool(content) and not content[0].isspace() and not content[-1].isspace() and content[-2:] != "\\n"
    return is_close or SIGN_OF_FORMULA.search(content) is not None
