"""Texts on which tokenizers tend to go wrong: what two encoders must agree on, and a tokenizer must give back."""

PROBES = (
    "".join(map(chr, range(256))),
    # Every byte that UTF-8 can begin a character with, and so, with the line above, all bytes that it has.
    "".join(map(chr, (*range(0x80, 0x800, 0x40), *range(0x800, 0xD800, 0x1000), *range(0xE000, 0x110000, 0x1000)))),
    "".join(chr(code) for code in (*range(0x2000, 0x2070), 0xFEFF, 0xFFFD, 0x3000, 0x2581, 0x2585, 0x120, 0x10A)),
    " leading, trailing   and\t\tinner   spaces \n\n\r\n \n   x\n\t\ty  ",
    "▁literal▁lower▁blocks▁ and Ġ, Ċ, <0x0A><0x00>, <unk>, <s></s>",
    "it's IT'S we'LL they've I'd 'tis 'sting x'll'd",
    "1234567890 3.14159e-10 ٣٤٥ ½ ²³ Ⅷ １２３ v2.0.1 0x1F600",
    "žluťoučký kůň, naïve café, ﬁne, ẞ, İstanbul",
    "e\u0301a\u0308\u0323 \u0301alone, हिन्दी नमस्ते, தமிழ், ไทย, ພາສາລາວ, עִבְרִית, العربيّة",
    "自然言語処理、中文分词。한국어 띄어쓰기, 𠮷野家, 古文",
    "👩‍👩‍👧‍👦🏳️‍🌈👍🏽 e\u200dz \u202eabc\u202c \U0010ffff",
    "----------======####...!!!!???? (((([[[[{{{{ aaaaaaaaaaaaaaaaaaaaaaa ababababababab",
    "def f(x):\n    if x['key'] == \"it's\":\n\t\treturn x**2  # squared\n\n\n\\frac{a_{1}}{b^{2}} $\\alpha$\n",
    "word" * 300 + " " * 300 + "\n" * 300,
)
