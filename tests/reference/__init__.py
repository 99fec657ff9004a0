"""A second evaluator, slow and plain, against which the compiled one is held.

It reads the source documents as dicts, looks at one field at a time and keeps nothing between questions.
It shares the vocabulary of ``policyd.model`` and ``policyd.reasons`` with the engine, and no other code.
docs/adr/0010-two-evaluators.md says why it is kept, and what it has found.
"""
