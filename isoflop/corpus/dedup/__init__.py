"""Deduplication and decontamination: the stages that must have seen the whole corpus, or the benchmarks, to judge.

Every stage surveys a shard into sorted runs on disk, compares all runs a range of keys at a time, and judges a shard by
looking up what was decided. Verdicts do not depend on how the corpus was cut into shards, nor on who worked when:
the first document in the order of the corpus stays, or where a stage offers it the longest.
"""
