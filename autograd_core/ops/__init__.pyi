# What the records define is known at run time alone; users see it typed as `ag.name`.
from typing import Any

def __getattr__(name: str) -> Any: ...
