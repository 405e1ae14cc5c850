"""Snapshots of repositories on the Hugging Face hub, and one line for whatever the hub refuses."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any


def snapshot(
    name: str, refusal: type[Exception], *, kind: str, terms: str, missing: str, instead: str, **asked: Any
) -> Path:
    """The folder with the files of a repository that fit the patterns in `asked`.

    Args:
        name: id of the repository.
        refusal: the exception to raise; its text is one line.
        kind: the repository in words: "the data set google/boolq".
        terms: what a reader of a gated repository must accept.
        missing: the line for a repository that the hub does not have.
        instead: what to give where there is no network.
        asked: for `snapshot_download`.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    login = "'hf auth login'"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # turned into errors, the hub client's own would read as no network
            return Path(snapshot_download(name, **asked))
    except HFValidationError as error:
        raise refusal(f"'{name}' is no hub id: {(str(error).splitlines() or [''])[0]}") from None
    except GatedRepoError:
        raise refusal(f"{name} is gated on the hub: accept its {terms} there, then log in with {login}") from None
    except RepositoryNotFoundError:
        raise refusal(f"{missing} (or it is private and needs {login})") from None
    except Exception as error:  # the hub client lets its HTTP library's errors through
        raise refusal(
            f"cannot fetch {kind} from the hub ({type(error).__name__}) and it is not cached; connect to a network, "
            f"or give {instead}"
        ) from None
