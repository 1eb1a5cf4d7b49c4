"""How fast and how exact this engine is, beside the libraries that are installed: ``python -m benchmarks --help``.

A row is a `cases.Case`; who runs it is an `engines.Engine`. `ops`, `steps`, `kernels` make rows, `processes` measures
what needs a process of its own (start-up, memory), `measure` takes the times, `report` writes tables and pictures.
"""
