"""Lazy modules: layers that learn their input size from the first input that they get."""

from __future__ import annotations

from .module import Module
from .parameter import UninitializedParameter, is_lazy


class LazyModuleMixin(Module):
    """Mixed into a layer whose parameters wait for the first input; then the layer becomes a ``cls_to_become``.

    The layer says in ``_parameter_shapes`` which shapes its tensors have; ``_size_name`` is the attribute that the
    input fills in, ``_size_dim`` the input's dimension that it comes from.
    """

    cls_to_become: type | None = None
    _size_name = "in_features"
    _size_dim = -1

    def _wait(self, names, make=UninitializedParameter, **kind):
        for name in names:
            setattr(self, name, make(**kind))

    def __call__(self, *args, **kwargs):
        self.initialize_parameters(*args, **kwargs)
        if self.has_uninitialized_params():
            raise RuntimeError(f"module {self._get_name()} has not been fully initialized")
        if self.cls_to_become is None:
            return super().__call__(*args, **kwargs)
        self.__class__ = self.cls_to_become
        return self(*args, **kwargs)

    def has_uninitialized_params(self) -> bool:
        """Whether a parameter or buffer still waits for its shape."""
        return any(is_lazy(t) for t in (*self._parameters.values(), *self._buffers.values()))

    def initialize_parameters(self, input) -> None:
        """Make the parameters for the sizes of ``input``."""
        self._check_input_dim(input)
        size = input.shape[self._size_dim]
        if self.has_uninitialized_params():
            self.__dict__[self._size_name] = size
            for name, shape in self._parameter_shapes().items():
                if is_lazy(getattr(self, name)):
                    getattr(self, name).materialize(shape)
            self.reset_parameters()
        elif self.__dict__.get(self._size_name) == 0:
            self.__dict__[self._size_name] = size

    def _check_input_dim(self, input):
        """Raise where the input has the wrong number of dimensions."""

    def reset_parameters(self) -> None:
        """Draw new values, where there are any."""
        if not self.has_uninitialized_params() and self.__dict__.get(self._size_name) != 0:
            super().reset_parameters()  # type: ignore[misc]  # of the layer that this is mixed into

    def _load_from_state_dict(self, state_dict, prefix, *args):
        for name, tensor in (*self._parameters.items(), *self._buffers.items()):
            given = state_dict.get(prefix + name)
            if tensor is not None and is_lazy(tensor) and given is not None and not is_lazy(given):
                tensor.materialize(given.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)
