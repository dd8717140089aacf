"""Policy from an HTTP server: one tar.gz that is asked for over and over, mostly in vain.

What a bundle must be to be believed is said in authz/policy_bundle/; here is how it is fetched,
when, and that an older one than the last in force is refused: an old bundle is signed as well as a
new one, so a signature alone would let whoever sits at the server put old rules back.
"""

import os
import random
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
from typing_extensions import override

from adapters.http.download import Download, DownloadError, shown
from adapters.spec import Adapter
from authz.errors import BundleError
from authz.policy.errors import Fault, PolicyError
from authz.policy.rules import PolicyText
from authz.policy_bundle.bundle import Bundle, read_bundle, sha256
from authz.policy_bundle.keys import PublicKey, read_public_keys
from authz.policy_source import PolicySource

__all__ = ["ADAPTER", "BundleSource", "Config"]

_MEMORY = "bundle.json"
_TOKEN_BYTES = 16 * 1024
# Replicas that started together must not ask together for ever.
_JITTER = 0.25
_FIRST_RETRY_S = 1.0
# An ETag of time and size, as nginx has it, misses another file of the same size and second: once
# in so many polls the whole file is asked for.
_WHOLE_EVERY = 20


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of the bundle source; meshwarden/settings says more of each.

    Attributes:
        url: Where the bundle is, HTTP or HTTPS.
        digest: SHA-256 that the archive must have, as "sha256:HEX"; "" for any.
        public_key: PEM file of the keys of which one must have signed it; None asks for none.
        ca: PEM file of the authorities for HTTPS; None for the system's.
        token_file: Holds a secret for the server; None for none.
        header: The header that carries it.
        poll_s: Longest time between two looks.
        timeout_s: For a whole download.
        max_bytes: Largest archive.
        max_unpacked_bytes: Most that it may unpack to.
        allow_older: Take a bundle of a lower revision than the last one too.
        state_dir: Where the last revision is remembered.
    """

    url: str = ""
    digest: str = ""
    public_key: Path | None = None
    ca: Path | None = None
    token_file: Path | None = None
    header: str = "authorization"
    poll_s: float = 5.0
    timeout_s: float = 10.0
    max_bytes: int = 32 * 1024 * 1024
    max_unpacked_bytes: int = 128 * 1024 * 1024
    allow_older: bool = False
    state_dir: Path = Path()


class _Remembered(msgspec.Struct, frozen=True):
    """The last bundle that was in force: none before it comes back."""

    url: str
    revision: int
    digest: str


class BundleSource(PolicySource):
    """Reads one bundle, all of it or none."""

    def __init__(
        self,
        config: Config,
        now_s: Callable[[], float] = time.monotonic,
        share: Callable[[], float] = random.random,
    ) -> None:
        """Ask nothing yet.

        Args:
            config: Settings.
            now_s: Seconds on a clock that never goes back.
            share: A number from 0 to 1, another one each time.
        """
        self._config = config
        self._now_s = now_s
        self._share = share
        self._shown = shown(config.url)
        self._download: Download | None = None
        self._closed = False
        # One download at a time: a poll and a load may come at once.
        self._lock = threading.Lock()
        self._body = b""
        self._digest = ""
        self._etag = ""
        self._bundle: Bundle | None = None
        # What a poll has found and no load has taken yet.
        self._is_new = False
        self._error: DownloadError | None = None
        self._failures = 0
        self._alarms = 0
        self._polls = 0
        self._next_s = now_s()

    @property
    @override
    def where(self) -> str:
        bundle = self._bundle
        if bundle is None:
            return self._shown
        return f"{self._shown}, revision {bundle.revision}" if bundle.revision else self._shown

    @property
    @override
    def revision(self) -> int:
        return self._bundle.revision if self._bundle else 0

    @property
    @override
    def version(self) -> str:
        bundle = self._bundle
        if bundle is None:
            return ""
        told = [f"revision {bundle.revision}"] * bool(bundle.revision)
        told += [f"sha256 {bundle.digest}"]
        told += [f"ETag {self._etag}"] * bool(self._etag)
        told += [f"signed by {bundle.signer}" if bundle.signer else "signature not asked for"]
        return ", ".join(told)

    @property
    @override
    def retry_s(self) -> float:
        if not self._failures:
            return super().retry_s
        # Never longer than a poll: once the server is back, that is how soon it is noticed.
        pause_s = min(self._config.poll_s, _FIRST_RETRY_S * 2 ** min(self._failures - 1, 20))
        return self._jittered(pause_s)

    @override
    def state(self) -> str:
        # While a load has the lock, nothing new is known.
        if self._now_s() >= self._next_s and self._lock.acquire(blocking=False):
            try:
                # After a failure it is loads that ask again, by retry_s.
                if self._now_s() >= self._next_s and not self._failures:
                    self._poll()
            finally:
                self._lock.release()
        return f"{self._digest} {self._alarms}"

    @override
    def load(self) -> PolicyText:
        with self._lock:
            self._renew()
            config = self._config
            try:
                self._check_digest()
                bundle = read_bundle(self._body, self._keys(), config.max_unpacked_bytes)
                self._check_age(bundle)
            except BundleError as error:
                # Asked again, the server may say that it is still the same: so it is still wrong.
                self._is_new = True
                raise PolicyError([Fault(self._shown, 0, str(error))]) from error
            try:
                text = bundle.text(self._shown)
            except PolicyError:
                self._is_new = True
                raise
            self._bundle = bundle
            return text

    @override
    def published(self) -> None:
        bundle, path = self._bundle, self._config.state_dir / _MEMORY
        if bundle is None:
            return
        now = _Remembered(self._config.url, bundle.revision, bundle.digest)
        if now == self._remembered():
            return
        fresh = path.with_name(f".{_MEMORY}.{os.getpid()}")
        try:
            with fresh.open("wb") as file:
                file.write(msgspec.json.encode(now))
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)

    @override
    def close(self) -> None:
        self._closed = True
        if self._download is not None:
            self._download.close()

    def _poll(self) -> None:
        self._polls += 1
        try:
            self._fetch(whole=self._polls % _WHOLE_EVERY == 0)
        except DownloadError as error:
            # Another state, so that a load is called and tells it.
            self._error = error
            self._alarms += 1

    def _renew(self) -> None:
        """Have the newest archive, before a load.

        Raises:
            DownloadError: It can't be had.
        """
        error, self._error = self._error, None
        if error is not None:
            raise error
        # A person who says "reload" has reason to think that it changed: an ETag may miss that.
        self._fetch(whole=not self._is_new)
        self._is_new = False

    def _fetch(self, *, whole: bool) -> None:
        config = self._config
        etag = "" if whole else self._etag
        try:
            answer = self._client().get(config.url, etag, self._secret())
        except DownloadError:
            self._failures += 1
            raise
        finally:
            self._next_s = self._now_s() + self._jittered(config.poll_s)
        self._failures = 0
        if answer.body is not None:
            digest = sha256(answer.body)
            self._is_new = self._is_new or digest != self._digest
            self._body, self._digest, self._etag = answer.body, digest, answer.etag

    def _client(self) -> Download:
        """Make the client at its first use: a CA file that can't be read is a failed load."""
        if self._download is None:
            config = self._config
            context = None
            if config.ca is not None:
                try:
                    context = ssl.create_default_context(cafile=str(config.ca))
                except (OSError, ssl.SSLError) as error:
                    said = getattr(error, "reason", None) or error.strerror or str(error)
                    raise DownloadError(f"{config.ca} can't be used: {said}") from error
            self._download = Download(config.timeout_s, config.max_bytes, context)
            if self._closed:
                self._download.close()
        return self._download

    def _secret(self) -> dict[str, str]:
        """The header with the token, read anew each time: whoever renews it tells nobody.

        Raises:
            DownloadError: Its file can't be read.
        """
        path = self._config.token_file
        if path is None:
            return {}
        try:
            with path.open("rb") as file:
                token = file.read(_TOKEN_BYTES).decode("ascii").strip()
        except OSError as error:
            raise DownloadError(f"{path} can't be read: {error.strerror}") from error
        except UnicodeDecodeError:
            token = ""
        if not token or not token.isprintable():
            raise DownloadError(f"{path} holds no token: one line of ASCII")
        is_bearer = self._config.header.lower() == "authorization" and " " not in token
        return {self._config.header: f"Bearer {token}" if is_bearer else token}

    def _keys(self) -> tuple[PublicKey, ...]:
        path = self._config.public_key
        if path is None:
            return ()
        try:
            return read_public_keys(path.read_bytes())
        except BundleError as error:
            raise BundleError(f"can't be verified: {path} {error}") from error

    def _check_digest(self) -> None:
        """Refuse all but the one archive that the settings name, if they do.

        Raises:
            BundleError: It is another one.
        """
        wanted, found = self._config.digest, f"sha256:{self._digest}"
        if wanted and wanted != found:
            raise BundleError(f"has digest {found}, not that of policy.bundle.digest")

    def _check_age(self, bundle: Bundle) -> None:
        """Refuse what was in force before what was in force last.

        Raises:
            BundleError: It is older, or another one of the same number.
        """
        last = self._remembered()
        if self._config.allow_older or last is None or last.url != self._config.url:
            return
        remedy = "build it with a greater --revision, or set policy.bundle.allow_older"
        if bundle.revision < last.revision:
            raise BundleError(
                f"is of revision {bundle.revision}, and revision {last.revision} was in force "
                f"already; {remedy}"
            )
        if bundle.revision and bundle.revision == last.revision and bundle.digest != last.digest:
            raise BundleError(
                f"is of revision {bundle.revision} like the one in force, but is another one; "
                f"{remedy}"
            )

    def _remembered(self) -> _Remembered | None:
        path = self._config.state_dir / _MEMORY
        try:
            return msgspec.json.decode(path.read_bytes(), type=_Remembered)
        except FileNotFoundError:
            return None
        except msgspec.MsgspecError as error:
            # To forget would let an old bundle in.
            raise OSError(f"{path} is damaged; remove it to take whatever bundle comes") from error

    def _jittered(self, pause_s: float) -> float:
        return pause_s * (1 - _JITTER * self._share())


ADAPTER: Adapter[PolicySource, Config] = Adapter(config=Config, build=BundleSource)
