"""The project's folder, where pytest took the value of an option of ours for a test path.

pytest decides on its rootdir and its ini file before it knows the options of any plugin. Until then `../tuned` in
`--model ../tuned` looks like a path of tests, and the rootdir becomes a folder that holds both: node ids change, and
the commit of the project is no longer found.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pytest
from _pytest.config.findpaths import determine_setup  # there is no public name


def keep_rootdir(config: pytest.Config, parser: pytest.Parser, args: list[str], values: Collection[str]) -> None:
    """Decide on the rootdir again, without the `values` of our options.

    Raises:
        pytest.UsageError: another ini file was read because of them, which cannot be taken back.
    """
    paths, inifile, override, rootdir = _known_paths(parser, args)
    if rootdir or inifile or not any(Path(config.invocation_params.dir, value).exists() for value in values):
        return
    known = {
        "inifile": None,
        "override_ini": override,
        "args": [path for path in paths if path not in values],
        "rootdir_cmd_arg": None,
        "invocation_dir": config.invocation_params.dir,
    }
    wanted = inspect.signature(determine_setup).parameters
    root, ini = determine_setup(**{name: value for name, value in known.items() if name in wanted})[:2]
    if ini != config.inipath:
        value = next(iter(values))
        raise pytest.UsageError(
            f"pytest read {config.inipath or 'no configuration'} in place of {ini or 'none'}, since it took the value "
            f"of an option for a path of tests; write it with '=', as in --model={value}"
        )
    if root != config.rootpath:
        namespace = config.known_args_namespace
        if namespace.confcutdir == str(config.rootpath):
            namespace.confcutdir = str(root)
        config._rootpath = root


def _known_paths(parser: pytest.Parser, args: Sequence[str]) -> tuple[list[str], str | None, Any, str | None]:
    """What pytest knows of a command line before options of plugins are known: test paths as it takes them, the ini
    file, the ini values and the rootdir that were given."""
    found = parser.parse_known_args(list(args))
    inifile = getattr(found, "inifilename", None)
    return list(found.file_or_dir), inifile, getattr(found, "override_ini", None), found.rootdir
