"""The Hugging Face Hub, through its own library: what a repository holds, and the bytes of its files.

The library reads HF_TOKEN, HF_HOME, HF_ENDPOINT, HF_HUB_OFFLINE and its time limits from the environment. Everything
that it raises becomes one sentence with a remedy here; no other file imports it.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dotsctl import __version__
from dotsctl.protocol.errors import REINSTALL, CommandFailedError, MissingError

DIGEST = re.compile(r"sha256:[0-9a-f]{64}|git-sha1:[0-9a-f]{40}")
COMMIT = re.compile(r"[0-9a-f]{40}")
MOST_NAME_BYTES = 200


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository."""

    name: str
    """The path in the repository, with folders divided by ``/``."""
    size_bytes: int
    digest: str
    """``sha256:`` of large files, ``git-sha1:`` (of the blob, as git counts it) of small ones; hexadecimal."""


@dataclass(frozen=True)
class Snapshot:
    """One commit of a repository."""

    repo: str
    commit: str
    licence: str
    """The licence as the repository states it; empty where it states none."""
    files: tuple[RemoteFile, ...]


class BrokenConnectionError(Exception):
    """The network failed; the same request may succeed a moment later."""


class Hub:
    """The Hub that HF_ENDPOINT names."""

    def __init__(self) -> None:
        """Load the library.

        Raises:
            MissingError: it is not installed.
        """
        try:
            import httpx2
            import huggingface_hub as library
            from huggingface_hub import constants, errors, utils
        except ImportError as error:
            raise MissingError(
                f"models are downloaded with huggingface_hub, which cannot be imported ({error})",
                REINSTALL,
            ) from None
        utils.logging.set_verbosity_error()  # our own messages report failures
        self._library, self._constants, self._errors, self._utils = library, constants, errors, utils
        self._network_errors = (httpx2.TransportError, httpx2.StreamError, httpx2.TooManyRedirects)

    @property
    def endpoint(self) -> str:
        """Address of the Hub."""
        return str(self._constants.ENDPOINT)

    def snapshot(self, repos: Sequence[str], revision: str | None) -> Snapshot:
        """Return what the first repository that exists holds.

        Args:
            repos: ``OWNER/NAME``, at least one.
            revision: branch, tag or commit; none: the main branch.

        Raises:
            CommandFailedError: no such repository or revision, no right to read it, or no way to the Hub.
        """
        try:
            with self._explained(repos[0], revision):
                repo, found = self._first(repos, revision)
                files = tuple(_remote_file(each) for each in found.siblings or ())
                if not COMMIT.fullmatch(str(found.sha)):
                    raise ValueError("no commit")
        except BrokenConnectionError as error:
            raise CommandFailedError(
                f"{self.endpoint} cannot be reached ({error})", "check the network, the proxy and HF_ENDPOINT"
            ) from None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise CommandFailedError(
                f"{self.endpoint} did not answer as the Hugging Face Hub does ({error})",
                "check HF_ENDPOINT, and whether the network requires a login",
            ) from None
        return Snapshot(repo, found.sha, _licence(found), files)

    def _first(self, repos: Sequence[str], revision: str | None) -> tuple[str, Any]:
        """The first repository that exists, and what the Hub states about it. Raises errors of the library."""
        api = self._library.HfApi(library_name="dotsctl", library_version=__version__)
        limit_s = self._constants.HF_HUB_ETAG_TIMEOUT
        absent: Exception | None = None
        for repo in repos:
            try:
                return repo, api.model_info(repo, revision=revision, timeout=limit_s, files_metadata=True)
            except self._errors.GatedRepoError:
                raise
            except self._errors.RepositoryNotFoundError as error:
                absent = absent or error
        raise absent or ValueError("no repository was named")

    @contextmanager
    def stream(
        self, snapshot: Snapshot, file: RemoteFile, start: int, end: int
    ) -> Iterator[tuple[int, Iterator[bytes]]]:
        """Read a file from byte ``start`` on.

        Args:
            snapshot: the commit.
            file: one of its files.
            start: the first byte to read.
            end: one after the last byte to read; a server that knows no ranges sends more.

        Yields:
            The byte at which the answer begins, which is 0 where the server cannot begin in the middle, and pieces.

        Raises:
            BrokenConnectionError: the network failed, also while the pieces are read.
            CommandFailedError: the Hub refuses.
        """
        headers = self._utils.build_hf_headers(library_name="dotsctl", library_version=__version__)
        headers["Accept-Encoding"] = "identity"  # a range counts the bytes of the file, not those of a compressed one
        if start or end < file.size_bytes:
            headers["Range"] = f"bytes={start}-{end - 1}"
        url = self._library.hf_hub_url(snapshot.repo, file.name, revision=snapshot.commit)
        limit_s = self._constants.HF_HUB_DOWNLOAD_TIMEOUT  # for the connection and for each piece
        with (
            self._explained(snapshot.repo, snapshot.commit),
            self._library.get_session().stream("GET", url, headers=headers, timeout=limit_s) as response,
        ):
            self._utils.hf_raise_for_status(response)
            yield (start if response.status_code == 206 else 0), response.iter_bytes()

    def cached(self, snapshot: Snapshot, file: RemoteFile) -> Path | None:
        """The file in the cache of other programs (HF_HOME), where one of them has downloaded it."""
        found = self._library.try_to_load_from_cache(
            snapshot.repo, file.name, cache_dir=self._constants.HF_HUB_CACHE, revision=snapshot.commit
        )
        return Path(found) if isinstance(found, str) else None

    @contextmanager
    def _explained(self, repo: str, revision: str | None) -> Iterator[None]:
        """Turn the library's errors into ours."""
        place = f"{repo}@{revision}" if revision else repo
        errors, login = self._errors, "set HF_TOKEN, or run 'hf auth login'"
        try:
            yield
        except errors.GatedRepoError:
            refused = CommandFailedError(
                f"{repo} is gated", f"accept its terms at {self.endpoint}/{repo}, then {login}"
            )
        except errors.RepositoryNotFoundError:
            refused = CommandFailedError(
                f"{self.endpoint} has no repository {repo}, or it is private", f"check the name; if private, {login}"
            )
        except errors.RevisionNotFoundError:
            refused = CommandFailedError(f"{repo} has no revision {revision!r}", "check --revision")
        except errors.OfflineModeIsEnabled:
            refused = CommandFailedError(
                "HF_HUB_OFFLINE forbids downloads",
                "unset it, or use a snapshot on this machine with --model /path/to/it",
            )
        except errors.HfHubHTTPError as error:
            refused = _refusal(place, self.endpoint, error.response.status_code, login)
        except self._network_errors as error:
            raise BrokenConnectionError(f"{type(error).__name__}: {error}".rstrip(": ")) from None
        else:
            return
        raise refused from None


def _refusal(place: str, endpoint: str, status: int, login: str) -> CommandFailedError:
    """The error for an answer that the library gives no name."""
    if status in (401, 403):
        return CommandFailedError(
            f"{endpoint} refuses access to {place} (HTTP {status})", f"check the token's permissions, or {login}"
        )
    if status == 404:
        return CommandFailedError(f"{endpoint} does not find {place} (HTTP 404)", "check the name")
    if status == 429:
        return CommandFailedError(
            f"{endpoint} allows no more requests for now (HTTP 429)", "wait some minutes and pull again"
        )
    return CommandFailedError(f"{endpoint} answers HTTP {status} for {place}", "pull again later")


def _remote_file(found: Any) -> RemoteFile:
    """Return a file with its digest, both of which become names on this disk.

    Raises:
        ValueError: the Hub states no size or digest, with which nothing could be verified, or one of another form.
    """
    name, size_bytes = str(found.rfilename), found.size
    digest = f"sha256:{found.lfs.sha256}" if found.lfs else f"git-sha1:{found.blob_id}"
    if not DIGEST.fullmatch(digest) or not isinstance(size_bytes, int) or size_bytes < 0:
        raise ValueError(f"no size or no digest of {name!r:.80}")
    if not name.isprintable() or len(name.encode("utf-8", "replace")) > MOST_NAME_BYTES:
        raise ValueError(f"a file name that cannot be used: {name!r:.80}")
    return RemoteFile(name, size_bytes, digest)


def _licence(found: Any) -> str:
    """The licence of the card, with the name that ``other`` licences carry; else that of the tags."""
    card = found.card_data
    stated = getattr(card, "license", None) or next(
        (tag.removeprefix("license:") for tag in found.tags or () if tag.startswith("license:")), ""
    )
    name = getattr(card, "license_name", None)
    text = ", ".join(stated) if isinstance(stated, list) else str(stated)
    return f"{text} ({name})" if name and name != text else text
