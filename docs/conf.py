"""How the pages are built: `python3 make.py docs`, into build/docs. Nothing is fetched, and a warning is an error.

What can be read from the code is not written twice: docstrings by autodoc, and the directive `from-code` for the
commands, the tables of a configuration and the updates, whose text is Markdown (`from_code.py`).
"""

import sys
from importlib.metadata import version as installed
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "live_bcdi"
author = "the live_bcdi team"
project_copyright = author
version = release = installed("live_bcdi")

extensions = ["myst_parser", "sphinx.ext.autodoc", "from_code"]
source_suffix = {".md": "markdown"}
myst_heading_anchors = 4

default_role = "literal"  # docstrings write `code` as Markdown does
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_class_signature = "mixed"
python_maximum_signature_line_length = 88

html_theme = "furo"
html_title = "live_bcdi"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_show_sphinx = False
html_copy_source = False
