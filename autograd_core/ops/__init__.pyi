# What the records define is known at run time alone; users see it typed as `ag.name`.
from typing import Any

matmul: Any  # the function; the module of that name is reached by no one

def __getattr__(name: str) -> Any: ...
