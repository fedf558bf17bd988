"""An evaluation for readers: the verdict, and the tables as rows of text. Pure."""

from collections.abc import Sequence

from dotsctl.tools.dev.evaluate.evaluation import Evaluation
from dotsctl.tools.measuring.scores import LOOSE, STRICT, Score

GROUP_COLUMNS = ("group", "pages", "characters", "edits", "error rate", "exact", "failed")
BOX_COLUMNS = ("category", "there", "answered", "overlap", f"F1 at {LOOSE}", f"F1 at {STRICT}")


def verdict(evaluation: Evaluation, model: str) -> str:
    """Return the error rate in one sentence, and for a layout how well the boxes fit."""
    total, boxes = evaluation.total, evaluation.all_boxes.f1(strict=True)
    pages = f"{total.pages} page{'s' * (total.pages != 1)}"
    if total.characters:
        exact = f"({total.exact} without an error)"
        text = f"{model} reads {total.error_rate:.2%} of {total.characters:,} characters wrongly on {pages} {exact}"
    elif evaluation.task == "layout-only":
        text = f"{model} looks for elements on {pages}"
    else:
        text = f"{model} reads {total.edits:,} characters on {pages} without text"
    has_boxes = boxes is not None and evaluation.all_boxes.true
    parts = [text, f"its boxes have an F1 of {boxes:.2f} at an overlap of {STRICT}" if has_boxes else ""]
    parts.append(f"{total.failed} of {total.pages} failed" if total.failed else "")
    return "; ".join(filter(None, parts)) + "."


def group_rows(evaluation: Evaluation) -> list[tuple[str, ...]]:
    """Return a row for each group, worst first, and one for all."""
    groups = sorted(evaluation.groups.items(), key=lambda item: -item[1].error_rate)
    return [_group_row(name, score) for name, score in [*groups, ("all", evaluation.total)]]


def _group_row(name: str, score: Score) -> tuple[str, ...]:
    numbers = (score.pages, score.characters, score.edits)
    return (name, *map(str, numbers), f"{score.error_rate:.2%}", str(score.exact), str(score.failed))


def box_rows(evaluation: Evaluation) -> list[tuple[str, ...]]:
    """Return a row for each category, and one for all; none where no element is known."""
    rows = []
    for name, score in [*sorted(evaluation.boxes.items()), ("all", evaluation.all_boxes)]:
        shares = (score.mean_overlap, score.f1(strict=False), score.f1(strict=True))
        written = ("-" if share is None else f"{share:.2f}" for share in shares)
        rows.append((name, str(score.true), str(score.answered), *written))
    return rows if evaluation.all_boxes.true else []


def notes(evaluation: Evaluation) -> list[str]:
    """Return the lines below the tables."""
    found, matched = list[str](), evaluation.matched
    if evaluation.all_boxes.true and matched.pages:
        found.append(f"text of the {matched.pages} elements found at {STRICT}: error rate {matched.error_rate:.2%}")
    if (share := evaluation.json_share) is not None:
        found.append(f"{share:.1%} of {evaluation.answers} answers are JSON as they are")
    mean = evaluation.total.characters / max(1, evaluation.total.pages)
    return [*found, f"{mean:.0f} characters a page on average, {evaluation.seconds:.1f} s"]


def table(evaluation: Evaluation) -> str:
    """Return the evaluation as text: a line for each group, worst first, one for all, then the boxes."""
    lines = aligned(GROUP_COLUMNS, group_rows(evaluation))
    if boxes := box_rows(evaluation):
        lines += ["", *aligned(BOX_COLUMNS, boxes), ""]
    return "\n".join([*lines, *notes(evaluation)])


def aligned(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table: names on the left, numbers under the ends of their headings."""
    lines = [columns, *rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    return ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in lines]
