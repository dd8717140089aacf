"""A bundle of policy: what it has to hold to be believed, and how one is made.

`manifest.json` names every other file with its SHA-256 and gives the bundle's revision;
`manifest.sig` is a signature over the very bytes of the manifest, in Base64. So one signature
covers all, and an old bundle shows its age by its revision.
"""

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from authz.errors import BundleError
from authz.policy.files import PolicyFiles, is_passed_over
from authz.policy.rules import PolicyText
from authz.policy_bundle.archive import pack, unpack
from authz.policy_bundle.keys import PrivateKey, PublicKey, fingerprint, sign, verifies

__all__ = ["Bundle", "make_bundle", "read_bundle", "sha256"]

_MANIFEST = "manifest.json"
_SIGNATURE = "manifest.sig"
# Part of what is signed: a signature over something else that the same key made is none of ours.
_KIND = "meshwarden policy bundle"
_FORMAT = 1  # A reader refuses a newer one instead of guessing.
_SIGNATURE_BYTES = 1024


class _Head(msgspec.Struct, frozen=True):
    """What is read of a manifest of any format."""

    kind: str = ""
    format: int = 0


class _Manifest(msgspec.Struct, frozen=True):
    kind: str
    format: int
    revision: int
    files: dict[str, str]


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a bundle holds, verified.

    Attributes:
        files: Name to content, as in a policy folder; every one matches its digest.
        revision: Counts up from bundle to bundle; 0 for one that doesn't count.
        signer: Fingerprint of the key that verified it; "" where no key was asked for.
        is_signed: Whether it has a signature, verified or not.
        digest: SHA-256 of the whole archive, in hexadecimal.
    """

    files: Mapping[str, bytes]
    revision: int
    signer: str
    is_signed: bool
    digest: str

    def text(self, where: str) -> PolicyText:
        """Give the policy in it.

        Args:
            where: How messages name the bundle.

        Raises:
            PolicyError: It can't be read as policy; every fault is in it.
        """
        policy = PolicyFiles()
        for name in sorted(self.files, key=_folder_order):
            if any(map(is_passed_over, name.split("/"))):
                continue
            if policy.is_policy(name):
                policy.add(name, self.files[name])
        return policy.text(where)


def make_bundle(
    files: Mapping[str, bytes], revision: int = 0, key: PrivateKey | None = None
) -> bytes:
    """Make a bundle: the same bytes for the same files, revision and key.

    Args:
        files: Name to content, as in a policy folder.
        revision: Greater than that of every bundle before it; 0 doesn't count.
        key: Signs it.
    """
    digests = {name: sha256(files[name]) for name in sorted(files)}
    manifest = msgspec.json.format(
        msgspec.json.encode(_Manifest(_KIND, _FORMAT, revision, digests)), indent=2
    )
    head = {_MANIFEST: manifest + b"\n"}
    if key is not None:
        head[_SIGNATURE] = base64.b64encode(sign(key, head[_MANIFEST])) + b"\n"
    return pack({**head, **{name: files[name] for name in digests}})


def read_bundle(archive: bytes, keys: Sequence[PublicKey], max_bytes: int) -> Bundle:
    """Read a bundle, and believe nothing of it that isn't proven.

    Args:
        archive: The bytes, whoever sent them.
        keys: One of them has to have signed it; none asks for no signature.
        max_bytes: Most that it may unpack to.

    Raises:
        BundleError: It is no bundle, is damaged, or isn't signed as it has to be.
    """
    files = unpack(archive, max_bytes)
    manifest = files.pop(_MANIFEST, None)
    signature = files.pop(_SIGNATURE, None)
    if manifest is None:
        raise BundleError(
            f"has no {_MANIFEST}; 'meshwarden policy bundle build' makes bundles that have one"
        )
    # The signature first: what nobody vouches for isn't looked at any further.
    signer = _signer(manifest, signature, keys) if keys else ""
    told = _read_manifest(manifest)
    _check_files(files, told.files)
    return Bundle(files, told.revision, signer, signature is not None, sha256(archive))


def sha256(content: bytes) -> str:
    """Digest some bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _signer(manifest: bytes, signature: bytes | None, keys: Sequence[PublicKey]) -> str:
    if signature is None:
        raise BundleError("is not signed, and a public key is set")
    try:
        raw = base64.b64decode(signature[:_SIGNATURE_BYTES].strip(), validate=True)
    except binascii.Error as error:
        raise BundleError(f"{_SIGNATURE} is no Base64") from error
    for key in keys:
        if verifies(key, raw, manifest):
            return fingerprint(key)
    known = ", ".join(map(fingerprint, keys))
    raise BundleError(f"is not signed by a key that is set ({known})")


def _read_manifest(manifest: bytes) -> _Manifest:
    try:
        head = msgspec.json.decode(manifest, type=_Head)
        if head.kind != _KIND:
            raise BundleError(f"{_MANIFEST} is of kind {head.kind[:40]!r}, not {_KIND!r}")
        if head.format > _FORMAT:
            raise BundleError(
                f"is of format {head.format}, written by a newer version of the program; "
                f"this one reads up to {_FORMAT}"
            )
        told = msgspec.json.decode(manifest, type=_Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BundleError(f"{_MANIFEST} can't be read: {error}") from error
    if told.revision < 0:
        raise BundleError(f"{_MANIFEST} has a negative revision")
    return told


def _check_files(files: Mapping[str, bytes], digests: Mapping[str, str]) -> None:
    for name in digests:
        if name not in files:
            raise BundleError(f"{name!r} of the manifest is missing")
    for name, content in files.items():
        if name not in digests:
            raise BundleError(f"{name!r} is not in the manifest")
        if sha256(content) != digests[name]:
            raise BundleError(f"{name!r} does not match its digest in the manifest")


def _folder_order(name: str) -> tuple[tuple[bool, str], ...]:
    """As a folder is read: its own files by name, then those of its subfolders."""
    *folders, file = name.split("/")
    return (*((True, folder) for folder in folders), (False, file))
