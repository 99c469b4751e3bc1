"""How the documentation is built: `nox -s docs`, once for each language (`-t en`, `-t zh`). Needs no network."""

import sys
from pathlib import Path

from sphinx.util.tags import Tags

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from gatepay_async import __version__  # noqa: E402 -- after the path, as `extension` below

tags: Tags = globals()["tags"]  # Sphinx's own, of `-t`
CHINESE = tags.has("zh")

project = "gatepay-async"
project_copyright = "The gatepay-async developers"
version = release = __version__
language = "zh_CN" if CHINESE else "en"
html_title = f"gatepay-async {version}"
locale_dirs = [str(HERE / "locale")]  # the theme's few words

extensions = [
    *("myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"),
    *("extension", "chinese_reference", "llms", "speed"),  # our own
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

# Chinese has quotation marks of its own; dashes are set in both.
smartquotes_action = "De" if CHINESE else "qDe"
smartquotes_excludes = {"languages": [], "builders": ["text"]}
myst_enable_extensions = ["deflist", "colon_fence"]
myst_heading_anchors = 3
# Code is written for readers of both languages; a lexer that meets `…` says nothing.
suppress_warnings = ["misc.highlighting_failure"]

# What is printed has no button; of a transcript only the commands are copied, without their `$`.
copybutton_selector = "div:not(.highlight-text) > div.highlight > pre"
copybutton_prompt_text = "$ "

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
autodoc_default_options = {"members": True}
napoleon_numpy_docstring = False
napoleon_use_ivar = True
