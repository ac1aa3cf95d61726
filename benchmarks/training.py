"""Training against a raw PyTorch loop and against TRL by itself: same model, data, batches and updates.

What is timed is all that a user waits for: text to tokens, batches, updates, logging. The raw loop is what one would
write by hand: padded batches, the model's own forward pass, AdamW, no logging.
"""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path

import torch
from datasets import Dataset
from transformers import PrinterCallback
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from benchmarks.measure import Measure, Work, race
from benchmarks.models import DEVICE, nano, prompts
from common.learn.batches import SFTExample
from common.learn.policy import dpo, sft
from common.learn.settings import DPOSettings, TrainSettings
from common.lm.models import load_model, save_model
from common.types import PreferencePair

EXAMPLES, BATCH, LR, BETA, LONGEST = 512, 32, 1e-3, 0.1, 200


def examples() -> list[SFTExample]:
    """Pages of 40 to 110 tokens, answers of about 10."""
    answers = prompts(EXAMPLES, 4, seed=1)
    return [SFTExample(chat, answer[0]["content"]) for i in range(4) for chat, answer in zip(
        prompts(EXAMPLES // 4, 15 + 10 * i, seed=2 + i), answers[i::4], strict=True)]  # fmt: skip


def pairs() -> list[PreferencePair]:
    """Two answers to each of half as many prompts, so that a batch of pairs has as many rows."""
    asked = examples()[::2]
    other = prompts(len(asked), 4, seed=9)
    return [PreferencePair(e.prompt, e.completion, o[0]["content"], -60.0, -60.0, 1.0, 0.0, str(i))
            for i, (e, o) in enumerate(zip(asked, other, strict=True))]  # fmt: skip


def raw_loop(model, tokenizer, rows, loss_of, per_update: int) -> None:  # noqa: ANN001
    optimiser = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.0)
    model.train()
    for at in range(0, len(rows), per_update):
        loss = loss_of(rows[at : at + per_update])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)


def row_logps(model, tokenizer, texts: list[tuple[str, str]]) -> tuple[torch.Tensor, torch.Tensor]:  # noqa: ANN001
    """[R] log-probability and [R] length of each completion, by one padded forward pass."""
    sides = [tokenizer(list(side), add_special_tokens=False)["input_ids"] for side in zip(*texts, strict=True)]
    ids = [(prompt, [*answer, tokenizer.eos_token_id]) for prompt, answer in zip(*sides, strict=True)]
    width = max(len(p) + len(c) for p, c in ids)
    rows = [p + c + [tokenizer.pad_token_id] * (width - len(p) - len(c)) for p, c in ids]
    masks = [[0] * len(p) + [1] * len(c) + [0] * (width - len(p) - len(c)) for p, c in ids]
    inputs, scored = torch.tensor(rows).to(model.device), torch.tensor(masks).bool().to(model.device)
    log_p = torch.log_softmax(model(input_ids=inputs).logits[:, :-1], -1)
    token = log_p.gather(-1, inputs[:, 1:, None])[..., 0].masked_fill(~scored[:, 1:], 0.0)
    return token.sum(1), scored.sum(1)


def measures() -> list[Measure]:
    with tempfile.TemporaryDirectory() as folder:  # TRL loads the reference model from where the policy came from
        save_model(*nano(width=96, layers=2), folder)
        start, tokenizer = load_model(folder)
        return races(start.to(DEVICE), tokenizer)


def races(start, tokenizer) -> list[Measure]:  # noqa: ANN001
    demonstrations, preferred = examples(), pairs()

    def text(prompt) -> str:  # noqa: ANN001
        return tokenizer.apply_chat_template(list(prompt), tokenize=False, add_generation_prompt=True)

    def chat(words: str) -> list[dict[str, str]]:
        return [{"role": "assistant", "content": words}]

    def ours_sft() -> float:
        settings = TrainSettings(lr=LR, epochs=1, batch_size=BATCH, max_length=LONGEST)
        with tempfile.TemporaryDirectory() as folder:
            return sft(copy.deepcopy(start), tokenizer, demonstrations, settings, seed=0, out_dir=Path(folder)).updates

    def ours_dpo() -> float:
        settings = DPOSettings(lr=LR, epochs=1, batch_size=BATCH // 2, max_length=LONGEST, beta=BETA)
        with tempfile.TemporaryDirectory() as folder:
            return dpo(copy.deepcopy(start), tokenizer, preferred, settings, seed=0, out_dir=Path(folder)).updates

    def raw_sft() -> float:
        model = copy.deepcopy(start)

        def loss_of(batch: list[SFTExample]) -> torch.Tensor:
            logps, lengths = row_logps(model, tokenizer, [(text(e.prompt), e.completion) for e in batch])
            return -logps.sum() / lengths.sum()

        raw_loop(model, tokenizer, demonstrations, loss_of, BATCH)
        return len(demonstrations) / BATCH

    def raw_dpo() -> float:
        model = copy.deepcopy(start)

        def loss_of(batch: list[PreferencePair]) -> torch.Tensor:
            asked = [text(p.prompt) for p in batch]
            both = [*zip(asked, [p.chosen for p in batch]), *zip(asked, [p.rejected for p in batch])]
            won, lost = row_logps(model, tokenizer, both)[0].chunk(2)
            margin = won - lost - torch.tensor([p.ref_chosen - p.ref_rejected for p in batch]).to(won)
            return -torch.nn.functional.logsigmoid(BETA * margin).mean()

        raw_loop(model, tokenizer, preferred, loss_of, BATCH // 2)
        return len(preferred) / (BATCH // 2)

    def common(folder: str, rows: int) -> dict:
        return dict(output_dir=folder, learning_rate=LR, per_device_train_batch_size=rows, num_train_epochs=1,
                    use_cpu=DEVICE == "cpu", bf16=False, gradient_checkpointing=False, report_to=[], save_strategy="no",
                    disable_tqdm=True, logging_steps=1, max_length=LONGEST)  # fmt: skip

    def trl_sft() -> float:
        data = Dataset.from_list([{"prompt": list(e.prompt), "completion": chat(e.completion)} for e in demonstrations])
        with tempfile.TemporaryDirectory() as folder:
            trainer = SFTTrainer(copy.deepcopy(start), SFTConfig(**common(folder, BATCH)), train_dataset=data,
                                 processing_class=tokenizer)  # fmt: skip
            trainer.remove_callback(PrinterCallback)
            return trainer.train().global_step

    def trl_dpo() -> float:
        data = Dataset.from_list([{"prompt": list(p.prompt), "chosen": chat(p.chosen), "rejected": chat(p.rejected)}
                                  for p in preferred])  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            trainer = DPOTrainer(copy.deepcopy(start), args=DPOConfig(**common(folder, BATCH // 2), beta=BETA),
                                 train_dataset=data, processing_class=tokenizer)  # fmt: skip
            trainer.remove_callback(PrinterCallback)
            return trainer.train().global_step

    what = f"0.3 M parameters, {EXAMPLES} rows of 45 to 120 tokens, {BATCH} rows an update, text to weights"
    pairs_of_loops: list[tuple[str, Work, Work, str, float]] = [
        ("SFT", ours_sft, raw_sft, "a raw PyTorch loop", 1 / 1.05),
        ("DPO", ours_dpo, raw_dpo, "a raw PyTorch loop", 1 / 1.05),
        ("SFT", ours_sft, trl_sft, "TRL alone", 1.0),
        ("DPO", ours_dpo, trl_dpo, "TRL alone (it runs the reference model)", 1.0),
    ]
    return [race("training", f"{name} against {against}", "updates/s", ours, other, against=against, target=target,
                 rounds=3, note=what) for name, ours, other, against, target in pairs_of_loops]  # fmt: skip
