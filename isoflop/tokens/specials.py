"""Tokens that stand for no text: Llama 3's, in its order. They enter a sequence as ids and in no other way."""

BOS = "<|begin_of_text|>"
EOS = "<|end_of_text|>"
PAD = "<|finetune_right_pad_id|>"
SPECIAL_TOKENS = (
    BOS,
    EOS,
    "<|reserved_special_token_0|>",
    "<|reserved_special_token_1|>",
    PAD,
    "<|reserved_special_token_2|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|eot_id|>",
    "<|python_tag|>",
    *(f"<|reserved_special_token_{number}|>" for number in range(3, 8)),
)

# How families of tokenizers name the begin and the end of a document: Llama 3, and Llama 1 and 2.
BOUNDARIES = ((BOS, EOS), ("<s>", "</s>"))
