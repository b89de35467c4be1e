"""Llama 3's chat format as a Jinja template, for those who render text first and look for special tokens in it.

``posttraining.chat`` builds the same ids without a template; tests hold the two against each other on texts that spell
no special token. The ``generation`` marks say what an assistant says and its end, so that transformers'
``return_assistant_tokens_mask`` finds what supervised fine-tuning trains on.

Whether a model was trained to answer in this format is known by the template itself: it lies beside the weights of one
that was (``FILE``, or inside Hugging Face's ``tokenizer_config.json``), and of no other. Left out: ``tools`` and
``tool_calls`` as arguments of the template; calls are text that the assistant says.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

FILE = "chat_template.jinja"
END = "<|eot_id|>"
TOKENS = ("<|start_header_id|>", "<|end_header_id|>", END)
"""The special tokens that the format is made of."""

TEMPLATE = """\
{{- bos_token }}
{%- for message in messages %}
    {%- if message.role not in ['system', 'user', 'assistant', 'tool'] %}
        {{- raise_exception('there is no role ' ~ message.role) }}
    {%- endif %}
    {%- if message.content is not string %}
        {{- raise_exception('the content of a message must be text') }}
    {%- endif %}
    {%- set header = 'ipython' if message.role == 'tool' else message.role %}
    {{- '<|start_header_id|>' ~ header ~ '<|end_header_id|>\\n\\n' }}
    {%- if message.role == 'assistant' %}
        {%- generation %}{{- (message.content | trim) ~ '<|eot_id|>' }}{% endgeneration %}
    {%- else %}
        {{- (message.content | trim) ~ '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""


def without_marks() -> str:
    """The template for readers that know plain Jinja alone; it writes the same text."""
    return re.sub(r"\{%-? (end)?generation %\}", "", TEMPLATE)


def template_beside(model: Path) -> str | None:
    """The chat template that lies beside the weights at ``model``, ours or another's; None for a model without one."""
    folder = model if model.is_dir() else model.parent
    try:
        if (folder / FILE).is_file():
            return (folder / FILE).read_text(encoding="utf-8")
        found = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8")).get("chat_template")
    except (OSError, ValueError, AttributeError):
        return None  # a file that cannot be read is no mark; what is wrong with it is others' to say
    return found if isinstance(found, str) else None


def answers(model: Path) -> bool:
    """Whether the model at ``model`` was trained to answer in this format: by the template beside it, any spelling."""
    template = template_beside(model)
    return template is not None and all(token in template for token in TOKENS)
