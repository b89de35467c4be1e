"""Post-training on real conversations and preferences: fine-tuning, reward models on held-out pairs, DPO's losses.

A base is pre-trained on general text, fine-tuned on instructions; reward models learn politeness and harmlessness from
a part of their pairs and are asked about the others; three variants of DPO go on from the fine-tuned model. Everything
is a directory below ``--out``, so that the same command goes on after a stop.

    python benchmarks/real_data.py --data DIR --corpus FILES --out runs/real [--parameters 5e5] [--tokens 6e6]

``--data`` is a folder with ``preference/``, ``hh-rlhf/`` and ``demos/``, ``--corpus`` what ``isoflop prepare`` reads.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from isoflop.planning.lora import Lora
from isoflop.posttraining.base import Base, pretrain
from isoflop.posttraining.launch import perform_here
from isoflop.posttraining.settings import DPOConfig, Preference, RewardConfig, SFTConfig
from isoflop.progress import console

INSTRUCTIONS = ("preference/ch07/01_main-chapter-code/instruction-data.json", "demos/data/alpaca_en_demo.json")
POLITENESS = "preference/ch07/04_preference-tuning-with-dpo/instruction-data-with-preference.json"
HARMLESSNESS = "hh-rlhf/harmless-base/test.jsonl.gz"
LOSSES: dict[str, dict[str, Any]] = {
    "Llama 3's": {"rate": 3e-4},
    "plain": {"rate": 3e-4, "loss": Preference(nll=0, end_in_dpo=True)},
    "Llama 3's, LoRA 16": {"rate": 2e-3, "lora": Lora(rank=16)},
}


def share(found: dict[str, Any], name: str) -> str:
    """A share with its interval, where there is one."""
    value = f"{found[f'validation_{name}']:.1%}"
    if f"validation_{name}_low" not in found:
        return value
    return f"{value} ({found[f'validation_{name}_low']:.1%} to {found[f'validation_{name}_high']:.1%})"


def main() -> None:
    """Go through all stages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--parameters", type=float, default=5e5)
    parser.add_argument("--tokens", type=float, default=6e6)
    parser.add_argument("--ranks", type=int, default=1)
    a = parser.parse_args()
    data, out = a.data.resolve(), a.out.resolve()
    with console() as report:
        base = pretrain(
            Base(a.corpus, a.parameters, a.tokens, vocab=2048, context=256, share=0), (), 0, out / "base", report
        )

        def stage(kind: type[Any], name: str, model: Path, *files: str, **settings: Any) -> dict[str, Any]:
            names = tuple(str(data / file) for file in files)
            config = kind(model=str(model), data=names, compile="never", **settings)
            return perform_here(config, out / name, report, a.ranks)

        tuned = stage(SFTConfig, "sft", base, *INSTRUCTIONS, rate=1e-3, batch=32, epochs=3)
        print(f"fine-tuned: {tuned['data']}; held out {tuned['validation_loss']:.3f} nats a token")
        for name, file in {"politeness": POLITENESS, "harmlessness": HARMLESSNESS}.items():
            found = stage(RewardConfig, f"reward-{name}", base, file, rate=1e-3, batch=32, epochs=3, validation=0.2)
            lengths = "; ".join(
                f"better is {side}: {share(found, f'accuracy_{side}')}"
                for side in ("shorter", "longer")
                if f"validation_accuracy_{side}" in found
            )
            print(f"reward model of {name}: {share(found, 'accuracy')} of held-out pairs; {lengths}; {found['data']}")
        for number, (name, settings) in enumerate(LOSSES.items(), 1):
            found = stage(DPOConfig, f"dpo-{number}", out / "sft", POLITENESS, batch=16, epochs=2, validation=0.1,
                          **settings)  # fmt: skip
            print(
                f"DPO, {name}: {share(found, 'accuracy')} of held-out pairs, margin {found['validation_margin']:.2f}, "
                f"better answers {found['validation_chosen_shift']:+.3f} nats a token, "
                f"worse {found['validation_rejected_shift']:+.3f}"
            )


if __name__ == "__main__":
    main()
