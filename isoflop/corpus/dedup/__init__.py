"""Deduplication and decontamination: the stages that must have seen the whole corpus, or the benchmarks, to judge.

Every stage surveys a shard into sorted runs on disk, compares all runs a range of keys at a time, and judges a shard by
looking up what was decided. Verdicts do not depend on how the corpus was cut into shards, nor on who worked when:
the first document in the order of the corpus stays, or where a stage offers it the longest.

What they cost, in million characters a second of one core that other work kept half busy (``benchmarks/dedup.py`` on 5
million characters; the proportions are what to go by): surveys of exact duplicates 32, books 20, near-duplicates 16,
repeated spans 8, paragraphs 6, lines 5, near-duplicates with RefinedWeb's 9,000 places 1. Judging looks up, and costs
little, but for lines and paragraphs, which are cut again. Comparing took less than 0.1 s. Near-duplicates against
datatrove and datasketch: ``benchmarks/neardup.py``.
"""
