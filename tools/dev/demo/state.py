"""The state of a training in files: weights, running mean and each moment of Adam, each file at most 16 MiB.

A machine that is lent for minutes returns files of a limited size. The state is a folder of its own, which is replaced
as one; a training that was interrupted while saving resumes from the save before.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from dotsctl.client.files.folders import install
from dotsctl.protocol.model.files import flush_tree
from dotsctl.tools.pages.characters import CHARACTERS
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

FORMS = {"weights": torch.float32, "mean": torch.float16}
"""Numbers of a file; the moments, which need a range rather than digits, are bfloat16."""
AUXILIARY = "auxiliary"
"""Beginning of the names of what only the training needs."""
MOMENTS = {"first_moments": "exp_avg", "second_moments": "exp_avg_sq"}
"""Files of Adam's moments, with PyTorch's name of each."""


@dataclass
class TrainingState:
    """The state that a training resumes from."""

    network: nn.Module
    optimizer: torch.optim.AdamW
    mean: dict[str, Tensor]
    """Running mean of the exported weights."""

    def save(self, folder: Path, facts: dict[str, Any]) -> None:
        """Replace the state in ``folder``.

        Args:
            folder: of the state alone.
            facts: JSON values that belong to it.
        """
        new, old = folder.with_name(f"{folder.name}.part"), folder.with_name(f"{folder.name}.old")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        tensors = {"weights": dict(self.network.state_dict()), "mean": self.mean}
        tensors |= {name: self._moments(key) for name, key in MOMENTS.items()}
        auxiliary = dict[str, Tensor]()
        for name, values in tensors.items():
            form = FORMS.get(name, torch.bfloat16)
            stored = {key: value.detach().to("cpu", form).contiguous() for key, value in values.items()}
            auxiliary |= {f"{name}/{key}": value for key, value in stored.items() if key.startswith(AUXILIARY)}
            _save({key: value for key, value in stored.items() if not key.startswith(AUXILIARY)}, new / name)
        _save(auxiliary, new / AUXILIARY)
        steps = {
            name: int(self.optimizer.state[p]["step"]) for name, p in self._parameters() if p in self.optimizer.state
        }
        (new / "facts.json").write_text(json.dumps(facts | {"characters": CHARACTERS, "steps": steps}) + "\n")
        flush_tree(new)
        install(new, folder, old)

    def load(self, folder: Path) -> list[str]:
        """Load the tensors of a saved state that still fit; the others keep their present values.

        Returns:
            Names of the tensors that did not fit: programs that changed in between have other heads.
        """
        files = {path.stem: load_file(str(path)) for path in folder.glob("*.safetensors")}
        for key, value in files.pop(AUXILIARY).items():
            name, _, tensor = key.partition("/")
            files[name][tensor] = value
        own, facts = self.network.state_dict(), read_facts(folder)
        heads = {name for name in own if name.startswith((f"{AUXILIARY}.glyphs", f"{AUXILIARY}.characters"))}
        stale = heads if facts["characters"] != CHARACTERS else set()
        found = {
            name: value
            for name, value in files["weights"].items()
            if name in own and value.shape == own[name].shape and name not in stale
        }
        self.network.load_state_dict(found, strict=False)
        for name, value in self.mean.items():
            value.copy_(files["mean"][name] if name in found and name in files["mean"] else own[name])
        for name, parameter in self._parameters():
            if name in found and name in facts["steps"]:
                moments = {key: files[file][name].to(parameter) for file, key in MOMENTS.items()}
                self.optimizer.state[parameter] = {"step": torch.tensor(float(facts["steps"][name])), **moments}
        return sorted(set(own) - set(found))

    def _parameters(self) -> list[tuple[str, nn.Parameter]]:
        return list(self.network.named_parameters())

    def _moments(self, key: str) -> dict[str, Tensor]:
        return {name: self.optimizer.state[p][key] for name, p in self._parameters() if p in self.optimizer.state}


def saved_state(folder: Path) -> Path | None:
    """Return the newest complete state that ``folder`` names; none: there is none."""
    old = folder.with_name(f"{folder.name}.old")
    return folder if folder.exists() else old if old.exists() else None


def read_facts(folder: Path) -> dict[str, Any]:
    """Return the facts of a saved state."""
    facts: dict[str, Any] = json.loads((folder / "facts.json").read_text())
    return facts


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    save_file(tensors, str(path.with_suffix(".safetensors")))
