"""Sphinx's settings. `nox -s docs` builds the documentation once per language (`-t en`, `-t zh`), without a network."""

import sys
from pathlib import Path

from sphinx.util.tags import Tags

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from gatepay_async import __version__  # noqa: E402 -- after the change of sys.path

tags: Tags = globals()["tags"]  # Sphinx sets it from `-t`
CHINESE = tags.has("zh")

project = "gatepay-async"
project_copyright = "The gatepay-async developers"
version = release = __version__
language = "zh_CN" if CHINESE else "en"
html_title = f"gatepay-async {version}"
locale_dirs = [str(HERE / "locale")]  # translations of the theme

extensions = [
    *("myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"),
    *("extension", "chinese_reference", "llms", "speed"),  # in this folder
]
templates_path = [str(HERE / "_templates")]
html_static_path = [str(HERE / "_static")]
html_css_files = ["house.css"]
html_theme = "furo"
html_logo = str(HERE / "_static" / "logo.svg")
html_favicon = str(HERE / "_static" / "favicon.svg")
html_theme_options = {  # for the links that show and edit a page's source
    "source_repository": "https://github.com/gatepay-async/gatepay-async/",
    "source_branch": "main",
    "source_directory": f"docs/{'zh' if CHINESE else 'en'}/",
}
pygments_dark_style = "github-dark"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_context = {"other": "en" if CHINESE else "zh", "other_name": "English" if CHINESE else "中文"}

# Typographic quotation marks (q) only in English, because Chinese has its own; dashes (D) and ellipses (e) in both.
smartquotes_action = "De" if CHINESE else "qDe"
smartquotes_excludes = {"languages": [], "builders": ["text"]}
myst_enable_extensions = ["deflist", "colon_fence"]
myst_heading_anchors = 3
# Code examples contain `…`, which lexers don't know.
suppress_warnings = ["misc.highlighting_failure"]

# Blocks of output have no copy button. In transcripts the button copies only the commands, without `$`.
copybutton_selector = "div:not(.highlight-text) > div.highlight > pre"
copybutton_prompt_text = "$ "

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
autodoc_default_options = {"members": True}
napoleon_numpy_docstring = False
napoleon_use_ivar = True
