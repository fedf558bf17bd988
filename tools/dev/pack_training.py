"""Packs a training for a machine without network: ``python -P -m dotsctl.tools.dev.pack_training RUN TARGET``.

TARGET gets what ``tools/dev/train_on_gpu.sh`` needs in addition to the repository: the state of the training in RUN, or
RUN itself if it is a model that a new training starts from; sets of pages, the list of words, and the fonts that are no
part of matplotlib.
"""

import shutil
from pathlib import Path

import click
from dotsctl.client.cli.printing import exiting_on_error
from dotsctl.protocol.errors import MissingError, UsageError
from dotsctl.tools.dev.demo.state import saved_state
from dotsctl.tools.pages import fonts as page_fonts

RUN_FILES = ("tokenizer.json", "log.jsonl")
START_FILES = ("model.safetensors", "tokenizer.json")


def pack(run: Path, target: Path, sets: tuple[Path, ...], families: tuple[str, ...]) -> int:
    """Fill ``target``, which must not exist; return its size in bytes.

    Raises:
        UsageError: ``target`` exists, or RUN holds neither a training nor a model.
        MissingError: the list of words or a font is not installed.
    """
    if target.exists():
        raise UsageError(f"{target} exists", "remove it, or name another folder")
    state = saved_state(run / "state")
    if state is None and not all((run / name).exists() for name in START_FILES):
        raise UsageError(
            f"{run} holds neither the state of a training nor a model",
            "let the training run until its first save, or name a folder with model.safetensors and tokenizer.json",
        )
    try:
        import english_words
    except ImportError:
        raise MissingError("english-words is not installed", "pip install 'dotsctl[train]'") from None
    folder, names = (target / "run", RUN_FILES) if state else (target / "start", START_FILES)
    folder.mkdir(parents=True)
    for name in names:
        if (run / name).exists():
            shutil.copy(run / name, folder / name)
    if state:
        shutil.copytree(state, folder / "state")
    (target / "sets").mkdir()
    for path in sets:
        shutil.copy(path, target / "sets" / path.name)
    package = Path(str(english_words.__file__)).parent
    unused = shutil.ignore_patterns("__pycache__", "web2*", "gcide.*", "*_lower.*")  # other lists, 15 MB
    shutil.copytree(package, target / "site" / package.name, ignore=unused)
    (target / "fonts").mkdir()
    for family in families:
        if page_fonts.FAMILIES[family].package != page_fonts.MATPLOTLIB:
            for bold in (False, True):
                shutil.copy(str(page_fonts.font(family, 16, bold).path), target / "fonts")
    return sum(path.stat().st_size for path in target.rglob("*") if path.is_file())


@click.command()
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--sets", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="File of pages made by dotsctl.tools.dev.page_sets; may be repeated.")  # fmt: skip
@click.option("--fonts", default="first", show_default=True, help="Families that the training prints.")
def main(run: Path, target: Path, sets: tuple[Path, ...], fonts: str) -> None:
    """Pack the training in RUN, or the model that one is to start from, into TARGET."""
    with exiting_on_error():
        size = pack(run, target, sets, page_fonts.families(fonts))
    click.echo(f"{target}: {size / 2**20:.1f} MiB", err=True)


if __name__ == "__main__":
    main()
