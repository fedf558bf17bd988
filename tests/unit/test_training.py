"""The training of the demo model: targets, losses, how it begins and how it resumes. Needs PyTorch."""

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import asdict
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("matplotlib", reason="matplotlib is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")
pytest.importorskip("english_words", reason="english-words is not installed")
import torch
from dotsctl.decoder_worker.prompt import PromptBuilder
from dotsctl.decoder_worker.tasks import read_prompts
from dotsctl.encoder_worker.image import patchify
from dotsctl.protocol.geometry import PixelLimits, fit
from dotsctl.tools.dev import pack_training, train
from dotsctl.tools.dev.demo import batches as demo_batches
from dotsctl.tools.dev.demo import loss as demo_loss
from dotsctl.tools.dev.demo import start as demo_start
from dotsctl.tools.dev.demo.attention import attend
from dotsctl.tools.dev.demo.batches import (
    CURRICULUM,
    TASKS,
    UNUSED,
    Batch,
    Batches,
    BatchMaker,
    Glances,
    PageSource,
    Stage,
    answer_cells,
    cell_targets,
)
from dotsctl.tools.dev.demo.checkpoint import export, prompt_ids, write_files
from dotsctl.tools.dev.demo.loss import NearNumbers, loss_of
from dotsctl.tools.dev.demo.network import NOTHING, DemoNetwork
from dotsctl.tools.dev.demo.start import order_numbers, start_from
from dotsctl.tools.dev.demo.state import TrainingState, read_facts, saved_state
from dotsctl.tools.dev.demo.together import Shared, Together, run_together
from dotsctl.tools.dev.demo.tokenizer import make_tokenizer, number_ids
from dotsctl.tools.dev.demo.tower import NetworkShape
from dotsctl.tools.dev.train import Progress
from dotsctl.tools.dev.training_plot import main as plot
from dotsctl.tools.pages.characters import CHARACTERS
from dotsctl.tools.pages.elements import CATEGORIES, Element, GeneratedPage, Glyph
from dotsctl.tools.pages.fonts import EVERYWHERE
from dotsctl.tools.pages.generator import STYLES, generate_page
from PIL import Image
from tokenizers import Tokenizer
from torch.utils.data import DataLoader

ROOT = Path(__file__).parents[2]
SHAPE = {"vision_width": 32, "vision_heads": 1, "vision_intermediate": 32, "text_intermediate": 32}


@cache
def tokenizer() -> Tokenizer:
    return make_tokenizer()


def network(layers: int, width: int = 32) -> DemoNetwork:
    torch.manual_seed(layers + width)
    heads = {"width": width, "heads": width // 16, "kv_heads": width // 32}
    shape = NetworkShape(
        **SHAPE, **heads, vision_layers=layers, text_layers=layers, vocabulary=tokenizer().get_vocab_size()
    )
    return DemoNetwork(shape)


def batch(monkeypatch: pytest.MonkeyPatch, misread: float = 0.0) -> Batch:
    monkeypatch.setattr(demo_batches, "MISREAD_SHARE", misread)
    return BatchMaker(tokenizer(), PageSource(EVERYWHERE)).make(random.Random(5), 1)


def test_each_target_is_the_token_that_comes_next(monkeypatch: pytest.MonkeyPatch) -> None:
    found = batch(monkeypatch)
    end = tokenizer().token_to_id("<|endofassistant|>")
    for ids, targets in zip(found.after.tolist(), found.targets.tolist(), strict=True):
        places = [place for place, target in enumerate(targets) if target != UNUSED]
        assert places == list(range(places[0], places[-1] + 1))
        assert [targets[place] for place in places[:-1]] == [ids[place + 1] for place in places[:-1]]
        assert targets[places[-1]] == end
        assert tokenizer().decode(ids[: places[0] + 1], skip_special_tokens=False).endswith("<|assistant|>")


def test_a_batch_has_the_patches_that_the_encoder_makes() -> None:
    page = generate_page(random.Random(3), STYLES["small"], EVERYWHERE, (4, 7))
    found = BatchMaker(tokenizer(), PageSource(EVERYWHERE))._batch(random.Random(1), 0, (4, 7), [page], [])
    image = page.image.resize((7 * 28, 4 * 28), Image.Resampling.BICUBIC)
    expected = patchify(image, image.size, 1, PixelLimits(784, 10**6)).values
    assert found.patches.shape == (1, 112, 588)
    assert torch.allclose(found.patches[0], torch.from_numpy(expected), atol=1e-5)


def test_two_workers_make_different_pages() -> None:
    source = Batches(torch.tensor(0), "seed", tokenizer().to_str(), PageSource(EVERYWHERE), Glances())
    first, second = islice(DataLoader(source, batch_size=None, num_workers=2), 2)
    assert first.pixels.shape != second.pixels.shape or not torch.equal(first.pixels, second.pixels)


def test_pages_are_used_again_as_often_as_was_requested() -> None:
    maker = BatchMaker(tokenizer(), PageSource(EVERYWHERE, reuse=0.5))
    rng = random.Random(0)
    pages = [maker._pages(rng, 0)[1] for _ in range(40)]
    assert 12 <= len({id(page) for page in pages}) <= 28


def test_misread_tokens_are_fed_but_are_never_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    true, noisy = batch(monkeypatch), batch(monkeypatch, 0.3)
    shared = min(true.targets.shape[1], noisy.targets.shape[1])
    assert torch.equal(true.targets[:, :shared], noisy.targets[:, :shared])
    assert not torch.equal(true.after[:, :shared], noisy.after[:, :shared])


def test_cells_know_their_characters_by_patch_and_their_kind() -> None:
    glyphs = (Glyph(5, 5, "a", 0), Glyph(12, 5, "b", 0), Glyph(20, 20, "c", 0))
    elements = (Element((0, 0, 28, 28), "Title", "", ""), Element((28, 0, 56, 28), "Picture", "", ""))
    characters, kinds = cell_targets(GeneratedPage(Image.new("RGB", (84, 28)), elements, glyphs, ""), 1, 3)
    index = [CHARACTERS.index(character) for character in "abc"]
    assert characters[0].tolist() == [*index[:2], NOTHING, *[NOTHING] * 6, index[2], NOTHING, NOTHING]
    assert (characters[1:] == NOTHING).all()
    assert kinds.tolist() == [1 + CATEGORIES.index("Title"), 1 + CATEGORIES.index("Picture"), 0]


@pytest.mark.parametrize(("task", "share"), [("text", 0.9), ("layout", 0.6), ("layout-only", 0.0)])
def test_each_character_of_an_answer_knows_the_cell_that_shows_it(task: str, share: float) -> None:
    rng, known, letters = random.Random(3), 0, 0
    for _ in range(20):
        page = generate_page(rng, STYLES["medium"], EVERYWHERE, (8, 10), 0.0)
        across, down = 10 / page.image.width, 8 / page.image.height
        answer = page.text if task == "text" else page.layout(page.image.size, with_text=task == "layout")
        cells = answer_cells(page, answer, task, 8, 10)
        assert len(cells) == len(answer)
        printed = Counter((glyph.character, int(glyph.y * down) * 10 + int(glyph.x * across)) for glyph in page.glyphs)
        reported = Counter(pair for pair in zip(answer, cells, strict=True) if pair[1] != UNUSED)
        assert reported <= printed, "a cell is reported that does not show the character"
        known += reported.total()
        letters += sum(not character.isspace() for character in page.text)
    assert known >= share * letters and (known > 0) == (share > 0)


def test_each_token_that_is_text_knows_its_cell_and_the_others_none() -> None:
    found = BatchMaker(tokenizer(), PageSource(EVERYWHERE)).make(random.Random(5), 1)
    of_task = dict.fromkeys(TASKS, 0)
    for answer, task in enumerate(found.tasks):
        known = found.cells[answer] != UNUSED
        of_task[task] += int(known.sum())
        assert (found.targets[answer][known] != UNUSED).all()
    assert of_task["text"] > 0 and of_task["layout"] > 0 and of_task["layout-only"] == 0
    assert len(set(found.tasks)) == 3


def test_a_near_number_costs_less_than_a_far_one_and_text_is_hard() -> None:
    ids = number_ids(tokenizer())
    numbers = NearNumbers(ids, tokenizer().get_vocab_size(), torch.device("cpu"))
    targets = torch.tensor([ids[100]] * 3)
    logits = torch.zeros(3, tokenizer().get_vocab_size())
    for row, answer in enumerate((100, 101, 140)):
        logits[row, ids[answer]] = 8.0
    right, near, far = numbers.loss(logits, targets)[0].tolist()
    assert right < near < far
    word = tokenizer().encode("a").ids[0]
    losses, of_box = numbers.loss(torch.zeros(1, 1000), torch.tensor([word]))
    assert not of_box.any() and losses.item() == pytest.approx(6.908, abs=1e-3)  # log 1000


def test_a_step_lowers_the_loss_of_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    net, found = network(1), batch(monkeypatch)
    numbers = NearNumbers(number_ids(tokenizer()), tokenizer().get_vocab_size(), torch.device("cpu"))
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    losses = []
    for _ in range(6):
        loss = loss_of(net, found, numbers)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        losses.append(loss.total.item())
    assert losses[-1] < losses[0] - 0.2


def test_a_glance_teaches_the_tower_and_leaves_the_text_half_alone() -> None:
    net, numbers = network(1), NearNumbers(number_ids(tokenizer()), tokenizer().get_vocab_size(), torch.device("cpu"))
    glance = BatchMaker(tokenizer(), PageSource(EVERYWHERE)).glance(random.Random(5))
    loss = loss_of(net, glance, numbers)
    loss.total.backward()
    assert "glyphs_right" in loss.figures and "loss" not in loss.figures
    assert all(parameter.grad is not None for parameter in net.vision_tower.parameters())
    assert all(parameter.grad is None for parameter in [*net.model.parameters(), net.lm_head.weight])


@pytest.mark.parametrize(("share", "least", "most"), [(0.0, 0, 0), (0.3, 60, 120), (1.0, 300, 300)])
def test_as_many_batches_are_glances_as_were_requested(
    share: float, least: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    monkeypatch.setattr(BatchMaker, "make", lambda *_: made.append("answers"))
    monkeypatch.setattr(BatchMaker, "glance", lambda *_: made.append("glance"))
    batches = iter(Batches(torch.tensor(0), "seed", tokenizer().to_str(), PageSource(EVERYWHERE), Glances(share)))
    for _ in range(300):
        next(batches)
    assert least <= made.count("glance") <= most and len(made) == 300


def test_a_stage_opens_when_the_one_before_is_learnt_or_its_time_is_over() -> None:
    last = len(CURRICULUM) - 1
    progress = Progress()
    progress.note(None, last, 0.0)
    progress.note(1.0, last, 0.0)
    assert (progress.step, progress.stage, progress.accuracy) == (2, 0, 0.02)
    for _ in range(200):
        progress.note(1.0, last, 0.0)
        if progress.stage:
            break
    assert progress.stage == 1
    progress.note(0.1, last, CURRICULUM[1].latest + 0.01)
    assert (progress.stage, progress.accuracy) == (2, 0.0)
    progress.note(0.1, 2, 1.0)
    assert progress.stage == 2, "it was to be the last one"


def _one_of_two(folder: Path, together: Together) -> None:
    """What a process has after the average, as a file."""
    first, second, unused = (torch.nn.Parameter(torch.ones(2)) for _ in range(3))
    first.grad = torch.tensor([1.0, 2.0]) * (together.rank + 1)
    if together.rank == 1:
        second.grad = torch.tensor([8.0, 8.0])
    shared = together.average(
        [first, second, unused], 5.0 + together.rank, 0.25 if together.rank else None, is_stopped=bool(together.rank)
    )
    seen = [each.grad.tolist() if each.grad is not None else None for each in (first, second, unused)]
    (folder / f"{together.rank}.json").write_text(
        json.dumps([seen, shared.seconds, shared.accuracy, shared.is_stopped])
    )


def test_processes_that_train_together_take_the_mean_of_their_gradients(tmp_path: Path) -> None:
    run_together(partial(_one_of_two, tmp_path), 2, tmp_path)
    for rank in range(2):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == [[[1.5, 3.0], [4.0, 4.0], None], 5.0, 0.25, True]
    assert not (tmp_path / "together").exists()


def plain_pass(net: DemoNetwork, found: Batch, page: torch.Tensor) -> torch.Tensor:
    """Hidden states as the mathematics has them: one sequence for each answer."""
    text = net.model
    x = torch.cat(
        [
            text.embed_tokens(found.before).expand(len(found.after), -1, -1),
            page[found.page_of],
            text.embed_tokens(found.after),
        ],
        1,
    )
    cos, sin = text._angles(0, x.shape[1], x.device)
    for layer in text.layers:
        x = layer(x, cos, sin, layer.keys(x, cos, sin))
    return text.norm(x)[:, -found.after.shape[1] :]


def test_answers_that_share_a_page_are_as_if_each_had_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    net, found = network(2, 64), batch(monkeypatch)
    with torch.no_grad():
        page = net.vision_tower(found.patches, found.rows, found.columns)
        shared, _ = net.answer(net.read(page, found.before), found.page_of, found.after)
        assert torch.allclose(shared, plain_pass(net, found, page), atol=1e-4)
        logits, targets, answer_of, _ = demo_loss._answer(net, found, page)
        used = found.targets != UNUSED
        rows = torch.arange(len(used))[:, None].expand_as(used)[used]
        assert torch.equal(targets.sort().values, found.targets[used].sort().values)
        for number in range(len(used)):
            expected = net.lm_head(shared[number][used[number]])
            assert torch.allclose(logits[answer_of == number], expected, atol=1e-3)
        assert torch.equal(answer_of.bincount(), rows.bincount())


def test_layers_that_the_start_lacks_change_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    small, large, found = network(1), network(2), batch(monkeypatch)
    small.half().float()  # as the file keeps it
    export(tmp_path, small.model.shape, tokenizer(), small.state_dict(), 3136)
    taken = start_from(large, tokenizer(), tmp_path)
    assert "vision_tower.blocks.0.attn.qkv.weight" in taken
    with torch.no_grad():
        pages = [net.vision_tower(found.patches, found.rows, found.columns) for net in (small, large)]
        assert torch.allclose(*pages, atol=1e-5)
        table, other = (net.model.embed_tokens.weight for net in (small, large))
        word = tokenizer().encode("t").ids[0]
        assert torch.allclose(table[word], other[word], atol=1e-3)
        ids = number_ids(tokenizer())
        near, far = (other[ids[200]] - other[ids[n]] for n in (201, 400))
        assert near.norm() < far.norm()


def test_a_wider_text_half_begins_with_what_the_narrow_one_computes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    narrow, wide, found = network(2), network(2, 64), batch(monkeypatch)
    narrow.half().float()
    monkeypatch.setattr(demo_start, "NOISE", 0.0)
    with torch.no_grad():
        for name, weight in narrow.named_parameters():
            if weight.dim() == 1 and name.endswith(("norm.weight", "bias")):
                weight.copy_(torch.rand(len(weight)).half())
    export(tmp_path, narrow.model.shape, tokenizer(), narrow.state_dict(), 3136)
    start_from(wide, tokenizer(), tmp_path)
    answers = []
    with torch.no_grad():
        for net in (narrow, wide):
            order_numbers(net, tokenizer())  # the wide one has made its own
            net.model.embed_tokens.weight[number_ids(tokenizer())] = 0
            page = net.vision_tower(found.patches, found.rows, found.columns)
            hidden, _ = net.answer(net.read(page, found.before), found.page_of, found.after)
            answers.append((hidden @ net.lm_head.weight[:256].T).softmax(-1))
    assert answers[0].max() > 1.2 / 256  # no flat answers that would be equal anyway
    assert torch.allclose(*answers, rtol=1e-3, atol=1e-6)


def test_the_served_prompt_is_the_one_of_the_training(tmp_path: Path) -> None:
    write_files(tmp_path, network(1).model.shape, tokenizer(), 3136)
    served = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    builder = PromptBuilder(served, read_prompts(tmp_path), tokenizer().token_to_id("<|imgpad|>"))
    geometry = fit((300, 410), 1, PixelLimits())
    for task in demo_batches.TASKS:
        before, after = prompt_ids(tokenizer(), task, geometry.resized)
        ids = builder.build(task, None, [3], geometry).ids
        assert ids == [*before, *[tokenizer().token_to_id("<|imgpad|>")] * 3, *after]
    sides = set(number_ids(tokenizer())) & set(after)
    assert {tokenizer().id_to_token(number) for number in sides} >= {str(side) for side in geometry.resized}


def test_a_stop_that_comes_while_the_processes_share_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Told(Together):
        def average(self, *arguments: Any, is_stopped: bool) -> Shared:
            shared = super().average(*arguments, is_stopped=is_stopped)
            signal.raise_signal(signal.SIGTERM)  # after what is shared was written down
            return shared

    stage = Stage("small", 2, 1.0, 1.0, (0.5, 0.3, 0.2))
    monkeypatch.setattr(train, "CURRICULUM", (stage,))
    monkeypatch.setattr(demo_batches, "CURRICULUM", (stage,))
    monkeypatch.setattr(train, "run_together", lambda work, count, folder: work(Told()))
    arguments = ["--width", "32", "--vision-width", "32", "--layers", "1", "--last", "small", "--fonts", "everywhere"]
    before = signal.getsignal(signal.SIGTERM)
    try:
        outcome = CliRunner().invoke(train.main, ["--seconds", "60", *arguments, str(tmp_path)])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert outcome.exit_code == 0, outcome.output
    assert read_facts(tmp_path / "state")["progress"]["step"] == 2


def trained(net: DemoNetwork, found: Batch) -> TrainingState:
    """The state of a network after one step."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    numbers = NearNumbers(number_ids(tokenizer()), tokenizer().get_vocab_size(), torch.device("cpu"))
    loss_of(net, found, numbers).total.backward()
    optimizer.step()
    mean = {name: value * 0.5 for name, value in net.state_dict().items() if not name.startswith("auxiliary")}
    return TrainingState(net, optimizer, mean)


def fresh_state() -> TrainingState:
    return fresh_state_of(network(2))


def fresh_state_of(net: DemoNetwork) -> TrainingState:
    mean = {name: value.clone() for name, value in net.state_dict().items() if not name.startswith("auxiliary")}
    return TrainingState(net, torch.optim.AdamW(net.parameters()), mean)


def test_a_state_comes_back_with_its_moments_and_its_mean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before, after = trained(network(2), batch(monkeypatch)), fresh_state()
    before.save(tmp_path / "state", {"progress": {"step": 7}})
    assert after.load(tmp_path / "state") == []
    for (name, value), other in zip(
        before.network.state_dict().items(), after.network.state_dict().values(), strict=True
    ):
        assert torch.equal(value, other), name
    assert all(torch.allclose(value, after.mean[name], rtol=1e-3, atol=1e-6) for name, value in before.mean.items())
    pairs = list(zip(before.network.parameters(), after.network.parameters(), strict=True))
    for key in ("step", "exp_avg", "exp_avg_sq"):
        stored = [(before.optimizer.state[a][key], after.optimizer.state[b][key]) for a, b in pairs]
        assert all(value.dtype == other.dtype and torch.allclose(value, other, rtol=5e-3) for value, other in stored)
    assert read_facts(tmp_path / "state")["progress"] == {"step": 7}
    assert {path.name for path in tmp_path.iterdir()} == {"state"}


def test_a_state_of_other_heads_is_resumed_without_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before, after = trained(network(2), batch(monkeypatch)), fresh_state()
    before.save(tmp_path / "state", {})
    facts = read_facts(tmp_path / "state") | {"characters": "abc"}
    (tmp_path / "state" / "facts.json").write_text(json.dumps(facts))
    own = after.network.auxiliary.glyphs.weight.clone()
    lost = after.load(tmp_path / "state")
    assert lost == [f"auxiliary.{head}.{part}" for head in ("characters", "glyphs") for part in ("bias", "weight")]
    assert torch.equal(after.network.auxiliary.glyphs.weight, own)
    assert torch.equal(after.network.lm_head.weight, before.network.lm_head.weight)
    assert after.network.auxiliary.glyphs.weight not in after.optimizer.state


def test_a_save_that_was_interrupted_leaves_the_one_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    state, folder = trained(network(1), batch(monkeypatch)), tmp_path / "state"
    assert saved_state(folder) is None
    state.save(folder, {"number": 1})

    def interrupted(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    renamed = Path.rename
    monkeypatch.setattr(Path, "rename", lambda self, to: interrupted(self, to) if to == folder else renamed(self, to))
    with pytest.raises(KeyboardInterrupt):
        state.save(folder, {"number": 2})
    found = saved_state(folder)
    assert found is not None and read_facts(found)["number"] == 1
    monkeypatch.undo()
    state.save(folder, {"number": 3})
    assert read_facts(folder)["number"] == 3 and saved_state(folder) == folder


def test_each_file_of_the_state_is_small_enough_to_be_returned_by_a_lent_machine(tmp_path: Path) -> None:
    net = DemoNetwork(NetworkShape(vocabulary=tokenizer().get_vocab_size()))
    optimizer = torch.optim.AdamW(net.parameters())
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    mean = {name: value for name, value in net.state_dict().items() if not name.startswith("auxiliary")}
    TrainingState(net, optimizer, mean).save(tmp_path / "state", {})
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "state").iterdir()}
    assert len(sizes) <= 6 and max(sizes.values()) < 16 << 20 and sum(sizes.values()) < 42 << 20


@pytest.mark.parametrize("is_causal", [True, False])
def test_attention_in_bfloat16_is_nearly_that_in_single(is_causal: bool) -> None:
    torch.manual_seed(0)
    n, m = (7, 7) if is_causal else (5, 7)
    q, k, v = torch.randn(3, 4, n, 8), torch.randn(3, 2, m, 8), torch.randn(3, 2, m, 8)
    mask = None if is_causal else torch.ones(n, m, dtype=torch.bool).tril(m - n)
    exact = attend(q, k, v, mask, is_causal=is_causal)
    with torch.autocast("cpu", torch.bfloat16):
        half = attend(q, k, v, mask, is_causal=is_causal)
    assert half.dtype == torch.bfloat16
    assert torch.allclose(half.float(), exact, atol=0.03)
    assert not torch.allclose(half.float(), attend(q, k, v), atol=0.3)


@pytest.mark.timeout(300)
def test_a_packed_training_is_resumed_by_the_command_for_a_lent_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    state = trained(network(1), batch(monkeypatch))
    facts = {"shape": asdict(state.network.model.shape), "progress": vars(Progress(step=5))}
    state.save(tmp_path / "run" / "state", facts)
    tokenizer().save(str(tmp_path / "run" / "tokenizer.json"))
    packed, out = tmp_path / "packed", tmp_path / "out"
    for expected, problem in ((0, ""), (2, "exists")):
        outcome = CliRunner().invoke(pack_training.main, ["--fonts", "everywhere", str(tmp_path / "run"), str(packed)])
        assert outcome.exit_code == expected and problem in outcome.output
    options = [
        "--seconds",
        "900",
        "--half",
        "--workers",
        "1",
        "--scale",
        "2",
        "--last",
        "small",
        "--fonts",
        "everywhere",
    ]
    command = [str(ROOT / "tools" / "dev" / "train_on_gpu.sh"), str(packed), str(out), "1", *options]
    environment = os.environ | {"PYTHON": sys.executable, "HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    (tmp_path / "home").mkdir()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    files = [path for path in out.rglob("*") if path.is_file()]
    assert len(files) <= 8 and (out / "run" / "tokenizer.json") in files
    assert read_facts(out / "run" / "state")["progress"]["step"] > 5
    assert fresh_state_of(network(1)).load(out / "run" / "state") == []


def test_a_training_resumes_and_exports_a_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stage = Stage("small", 2, 1.0, 1.0, (0.5, 0.3, 0.2))
    monkeypatch.setattr(train, "CURRICULUM", (stage,))
    monkeypatch.setattr(demo_batches, "CURRICULUM", (stage,))
    monkeypatch.setattr(train, "LOG_EVERY", 1)
    arguments = ["--width", "32", "--vision-width", "32", "--layers", "1", "--last", "small"]
    arguments += ["--fonts", "everywhere", "--glances", "0.3", str(tmp_path)]
    for seconds in ("0.2", "0.4"):
        outcome = CliRunner().invoke(train.main, ["--seconds", seconds, *arguments])
        assert outcome.exit_code == 0, outcome.output
    steps = [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert steps == list(range(1, len(steps) + 1)) and len(steps) >= 2
    names = {"config.json", "generation_config.json", "model.safetensors", "preprocessor_config.json"}
    assert names | {"prompts.json", "tokenizer.json", "tokenizer_config.json"} == {
        path.name for path in (tmp_path / "model").iterdir()
    }
    assert CliRunner().invoke(plot, [str(tmp_path)]).exit_code == 0
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
