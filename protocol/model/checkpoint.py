"""Reading a model directory: its JSON files, and which tensor files a half of the model needs."""

import json
from pathlib import Path
from typing import Any

from dotsctl.protocol.errors import MissingError
from dotsctl.protocol.model.files import read_file
from dotsctl.protocol.model.stored_layouts import half_of
from dotsctl.protocol.parts import Role

INDEX = "model.safetensors.index.json"


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """Content of a JSON file of the model; raises MissingError when it is absent or is no JSON object."""
    path = folder / name
    try:
        content = json.loads(read_file(path).decode("utf-8"))
    except FileNotFoundError:
        raise MissingError(
            f"{path} is missing", "download the complete dots.ocr snapshot, or use --model demo"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise MissingError(f"{path} cannot be read ({error})", "download the model again") from None
    if not isinstance(content, dict):
        raise MissingError(f"{path} holds a {type(content).__name__}, not an object", "download the model again")
    return content


def read_index(folder: Path) -> dict[str, str]:
    """File of each tensor by the tensor's stored name, from the index; empty where the model has no index.

    Raises:
        MissingError: the index is broken, or leads out of the folder.
    """
    if not (folder / INDEX).is_file():
        return {}
    places = read_json(folder, INDEX).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise MissingError(f"{folder / INDEX} has no weight_map", "download the model again")
    for name, file in places.items():
        if not isinstance(file, str) or not file.endswith(".safetensors") or Path(file).name != file:
            raise MissingError(
                f"{folder / INDEX} places {name!r} in {file!r}, which is not a .safetensors file in this folder",
                "download the model again",
            )
    return places


def all_tensor_files(folder: Path) -> list[Path]:
    """Every ``.safetensors`` file of the folder, hidden ones such as the companions that macOS writes excepted.

    Raises:
        MissingError: there is none.
    """
    if files := sorted(path for path in folder.glob("*.safetensors") if not path.name.startswith(".")):
        return files
    if any(folder.glob("*.bin")):
        raise MissingError(
            f"{folder} holds its weights as .bin files, which can run code when they are opened",
            "get the .safetensors files of the model",
        )
    raise MissingError(f"{folder} has no .safetensors file", "download the complete dots.ocr snapshot")


def tensor_files(folder: Path, half: Role) -> list[Path]:
    """The ``.safetensors`` files that hold tensors of a half of the model.

    Raises:
        MissingError: there are none, one that the index names is absent, or the weights are in another format.
    """
    places = read_index(folder)
    if not places:
        return all_tensor_files(folder)
    names = sorted({file for name, file in places.items() if half_of(name) is half})
    if not names:
        raise MissingError(f"{folder / INDEX} names no tensor of the {half}: this is not a dots.ocr model")
    if absent := [name for name in names if not (folder / name).is_file()]:
        raise MissingError(f"{folder} lacks {', '.join(absent)}", "download the model again")
    return [folder / name for name in names]
