"""The command line before anything is collected: what of it is refused, and the project's folder.

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

from auditkit.pytest_plugin.options import DEFAULTS, RunOptions


def check_options(options: RunOptions, processes: object, dist: str) -> None:
    """Refuse what can be told from the command line alone.

    Args:
        processes: what pytest-xdist is told to start, if anything.
        dist: how pytest-xdist is told to send out tests.

    Raises:
        ValueError: in one line.
    """
    specs, sites = options.models, options.cross_check
    if options.items is not None and options.effort != DEFAULTS["effort"]:
        raise ValueError("--items and --effort both say how many items are measured; leave one of them out")
    _check_stepwise(options)
    if len(specs) > 1:
        if len(set(specs)) < len(specs):
            raise ValueError(f"--model {next(s for s in specs if specs.count(s) > 1)} is given twice")
        if options.resume is not None:
            raise ValueError(
                "--resume continues one run: give the --model and the folder of each in a call of its own"
            )
        if sites is not None:
            raise ValueError("--cross-check compares the adapters on one model; give one --model")
    if specs and processes and dist != "no":
        if dist != "load":
            raise ValueError(f"--dist {dist}: claims that share measurements stay together; leave out --dist")
        if sites is not None:
            raise ValueError("--cross-check samples what one process has measured; leave out -n")
    if options.exchange is not None and options.shard is None:
        raise ValueError("--exchange is for shards; give --shard I/N too")
    if options.exchange is not None and processes and dist != "no":
        raise ValueError(
            "--exchange divides measurements among shards, and -n among workers; leave one of them out"
        )
    _check_trackers(options)
    _check_names(options)


def _check_trackers(options: RunOptions) -> None:
    """Refuse a tracker whose library is not installed, now and not when all claims are done.

    Raises:
        ValueError: in one line.
    """
    if not options.log_to:
        return
    from auditkit.report.trackers.stores import missing

    if why := missing(options.log_to):
        raise ValueError(f"--log-to: {why}")
    if options.shard is not None:
        raise ValueError(
            "--log-to logs a whole run, and --shard measures a part; merge the parts, and log the merged run with "
            "auditkit log RUN --to TRACKER"
        )


def _check_stepwise(options: RunOptions) -> None:
    """Refuse what looks with more and more items cannot go with.

    Raises:
        ValueError: in one line.
    """
    if options.effort != "stepwise":
        return
    if options.data:
        raise ValueError(
            "--effort stepwise adds items of the suites' own, and --data is measured whole; leave one out"
        )
    if options.baseline is not None or options.as_baseline:
        raise ValueError(
            "--effort stepwise measures more items where a claim needs them, and a comparison with a baseline needs "
            "the same items on both models; give --effort standard or thorough"
        )


def _check_names(options: RunOptions) -> None:
    """Refuse an adapter, a run to go on from, and models that the command line names and nobody knows.

    Raises:
        ValueError: in one line.
    """
    if options.adapter != DEFAULTS["adapter"]:
        from auditkit.adapters.errors import ModelError
        from auditkit.adapters.registry import require_known

        try:
            require_known(options.adapter)
        except ModelError as error:
            raise ValueError(f"--adapter: {error}") from None
    if options.resume:  # now, since in `--resume suites/` the option takes the path of the suites for its own
        from auditkit.record.resume import named_folder
        from auditkit.record.store import RecordError

        try:
            named_folder(options.resume)
        except RecordError as error:
            raise ValueError(f"{error} (test paths go before --resume)") from None
    if options.models:
        from auditkit.adapters.errors import ModelError
        from auditkit.adapters.loading.catalogue import classify

        try:
            for spec in options.models:
                classify(spec)
        except ModelError as error:
            raise ValueError(str(error)) from None


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
