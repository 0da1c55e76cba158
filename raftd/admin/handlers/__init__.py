"""What the methods of the socket's interfaces do: `Handlers` maps a call to the driver and back."""

from raftd.admin.handlers.dispatch import Handlers

__all__ = ["Handlers"]
