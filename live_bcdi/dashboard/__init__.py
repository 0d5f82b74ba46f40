"""The live page: what the services say, in a browser."""

from .access import page_address, page_key
from .hub import Hub
from .server import create_app, page_server

__all__ = ["Hub", "create_app", "page_address", "page_key", "page_server"]
