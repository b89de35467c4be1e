"""Cleaners for one kind of source each, as LLaMA-1 had them (Touvron et al. 2023, arXiv 2302.13971, §2.1).

Each is a stage that looks at one document alone and takes time linear in its length, whatever the text. Which documents
a stage sees is the pipeline's business: none asks what source a document names.
"""
