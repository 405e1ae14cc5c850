"""Root conftest: what suites and tests share.

The `pytester` plugin has to be named here, since pytest takes `pytest_plugins` from the root only. Everything
else an audit needs comes from the installed plugin, so that suites run from any folder.
"""

pytest_plugins = ["pytester"]
